"""Readers of captions and questions that know the English text and no more.

Written apart from the generators: they parse words, and look at every object.
"""

import math

DIRECTIONS = {
  "left of": lambda a, b: a["x"] < b["x"],
  "right of": lambda a, b: a["x"] > b["x"],
  "above": lambda a, b: a["y"] < b["y"],
  "below": lambda a, b: a["y"] > b["y"],
}
COLOURS = ["red", "green", "blue", "yellow", "purple", "cyan"]
SHAPES = ["circle", "square", "triangle", "cross"]


def list_objects(batch, row):
  """The objects of a scene as dicts, from a batch's numbers and boxes."""
  objects = []
  for place in range(len(batch["objects_mask"][row])):
    if not batch["objects_mask"][row][place]:
      continue
    left, top, right, bottom = batch["object_boxes"][row][place]
    objects.append(
      {
        "colour": COLOURS[batch["object_colours"][row][place]],
        "shape": SHAPES[batch["object_shapes"][row][place]],
        "x": (left + right) / 2,
        "y": (top + bottom) / 2,
      }
    )
  return objects


def take_relation(words):
  """Splits a relation off the front of a list of words."""
  if words[0] in ("left", "right"):
    assert words[1] == "of"
    return " ".join(words[:2]), words[2:]
  assert words[0] in ("above", "below", "nearest")
  return words[0], words[1:]


def judge_caption(text, objects):
  """Whether a caption is true; every name has to be that of one object."""
  clauses = text.split(", which is ")
  head, clauses[0] = clauses[0].split(" is ")
  names, relations = [head], []
  for clause in clauses:
    relation, rest = take_relation(clause.split())
    relations.append(relation)
    names.append(" ".join(rest))
  found = []
  for name in names:
    the, colour, shape = name.split()
    assert the == "the"
    fitting = [
      o for o in objects if (o["colour"], o["shape"]) == (colour, shape)
    ]
    assert len(fitting) <= 1
    found += fitting
  if len(found) < len(names):
    return False
  return all(
    DIRECTIONS[relation](found[i], found[i + 1])
    for i, relation in enumerate(relations)
  )


def split_noun(words):
  """Splits "the [first] [colour] shape or object" off a list of words.

  Returns:
    Whether it says "first", the words of the noun, and the rest.
  """
  assert words[0] == "the"
  first = words[1] == "first"
  start = end = 1 + first
  if words[end] in COLOURS:
    end += 1
  assert words[end] in (*SHAPES, "object")
  return first, words[start : end + 1], words[end + 1 :]


def fit(noun, objects):
  """The objects that the words of a noun fit."""
  return [
    o
    for o in objects
    if all(word in ("object", o["colour"], o["shape"]) for word in noun)
  ]


def read_outermost(words):
  """The noun that a phrase starts with, and the relation after it."""
  _, noun, rest = split_noun(words)
  return noun, take_relation(rest)[0]


def read_phrase(words, objects):
  """The objects on the way to what "the ... [relation the ...]" means.

  Returns:
    The object that the innermost name means, and so on to the outermost; and
    for each but the first the objects that its noun alone fits.
  """
  first, noun, rest = split_noun(words)
  fitting = fit(noun, objects)
  if not rest:
    assert not first
    assert len(fitting) == 1, "the innermost name means one object"
    return fitting, []
  relation, rest = take_relation(rest)
  path, crowds = read_phrase(rest, objects)
  fitting = [o for o in fitting if o is not path[-1]]
  crowds = [*crowds, fitting]
  assert first == (relation != "nearest")
  if relation == "nearest":
    distance = {
      id(o): math.hypot(
        64 * (o["x"] - path[-1]["x"]), 64 * (o["y"] - path[-1]["y"])
      )
      for o in fitting
    }
    fitting = sorted(fitting, key=lambda o: distance[id(o)])
    gap = distance[id(fitting[1])] - distance[id(fitting[0])]
    assert gap > 1.999, "nearest is beyond doubt"
    return [*path, fitting[0]], crowds
  axis = "x" if relation in ("left of", "right of") else "y"
  meant = [o for o in fitting if DIRECTIONS[relation](o, path[-1])]
  meant.sort(key=lambda o: abs(o[axis] - path[-1][axis]))
  assert meant, "a phrase means an object"
  return [*path, meant[0]], crowds
