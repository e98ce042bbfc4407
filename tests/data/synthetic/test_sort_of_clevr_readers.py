"""What readers of half of a Sort-of-CLEVR scene answer."""

import collections

import numpy as np
import pytest

from mmjax.data.synthetic import sort_of_clevr as scenes

COLOURS = list(scenes.COLORS)


def answer_by_shapes(text, shapes):
  """What one says of a relational question who knows no positions.

  Numbers are exact. The nearest and the furthest object are taken to have the
  commonest shape of the five others, of which one is always commoner.
  """
  words = text.removesuffix("?").split()
  place = next(COLOURS.index(word) for word in words if word in COLOURS)
  if words[:2] == ["how", "many"]:
    return str((shapes == shapes[place]).sum())
  number = np.bincount(np.delete(shapes, place), minlength=2)
  return scenes.SHAPES[number.argmax()]


def find_kind(text):
  """Which of the three relational questions it is."""
  words = ("nearest", "furthest", "many")
  return next(word for word in words if word in text)


def list_relational(data, split):
  """Yields number of the scene, kind, text and answer."""
  for example in data.list_examples(split).values():
    if example["type"] == "relational":
      text = example["text"]
      yield example["image_id"], find_kind(text), text, example["answer"]


def test_a_reader_of_shapes_by_hand():
  shapes = np.array([0, 1, 1, 0, 1, 0])
  near = "what is the shape of the object nearest to the {} object?"
  far = "what is the shape of the object furthest from the {} object?"
  same = "how many objects have the shape of the {} object?"
  for text, answer in (
    (near.format("red"), "circle"),
    (far.format("green"), "square"),
    (same.format("yellow"), "3"),
  ):
    assert answer_by_shapes(text, shapes) == answer


@pytest.mark.slow
def test_what_half_of_a_scene_is_worth(sort_of_clevr):
  """In percent of the relational questions of the test split."""
  found = sort_of_clevr.list_scenes("test")
  common = collections.defaultdict(collections.Counter)
  for _, kind, _, answer in list_relational(sort_of_clevr, "train"):
    common[kind][answer] += 1
  by_shapes, by_places = (collections.defaultdict(list) for _ in range(2))
  for image, kind, text, answer in list_relational(sort_of_clevr, "test"):
    said = answer_by_shapes(text, found[image].shapes)
    # Positions alone tell nothing: the commonest answer to such a question.
    guess = common[kind].most_common(1)[0][0]
    for key in ("all", kind):
      by_shapes[key].append(said == answer)
      by_places[key].append(guess == answer)
  assert len(by_shapes["all"]) == 2_000
  kinds = ("all", "nearest", "furthest", "many")
  percent = [
    [round(100 * float(np.mean(right[kind])), 1) for kind in kinds]
    for right in (by_shapes, by_places)
  ]
  assert percent == [[79.9, 69.1, 71.2, 100.0], [43.6, 53.7, 50.3, 26.3]]
