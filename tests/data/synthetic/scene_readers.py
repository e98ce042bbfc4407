"""Readers of captions and questions that know the English text and no more.

Written apart from the generators: they parse words, and look at every object.
"""

import collections
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


def answer_by_last_noun(text, objects, *, but_named):
  """What one says who knows all objects, and the noun of the last hop alone.

  Args:
    text: a question; the noun of the last hop comes first in it.
    objects: of the scene.
    but_named: whether the object that the question names is left out, which
      is never the one that is asked for.

  Returns:
    The commonest colour or shape, as asked, among the objects that the noun
    fits, or among all if it fits none; of several the first by the alphabet.
  """
  _, query, _, *phrase = text.removesuffix("?").split()
  _, noun, _ = split_noun(phrase)
  named = fit(phrase[-2:], objects) if but_named else []
  fitting = [o for o in fit(noun, objects) if o not in named] or objects
  counts = collections.Counter(o[query] for o in fitting)
  return min(counts, key=lambda answer: (-counts[answer], answer))


def last_noun_accuracy(listed, scenes, *, but_named):
  """How often `answer_by_last_noun` is right: in "all", and by type.

  Args:
    listed: examples, as `list_examples` gives them, without their ids.
    scenes: the objects of each scene, as `list_objects` gives them.
    but_named: see there.
  """
  right = collections.defaultdict(list)
  for example in listed:
    objects = scenes[example["image_id"]]
    said = answer_by_last_noun(example["text"], objects, but_named=but_named)
    for key in ("all", example["type"]):
      right[key].append(said == example["answer"])
  return {key: sum(each) / len(each) for key, each in right.items()}


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
