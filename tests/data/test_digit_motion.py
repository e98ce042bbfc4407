import collections
import dataclasses
import json
import typing

import numpy as np
import pytest

from mmjax.data import digits, motion_labels
from mmjax.data.digit_motion import FLASH, DigitMotion

TARGETS = ("direction", "collisions", "order")
SMALL = {"num_clips": 400, "num_eval_clips": 240}


@pytest.mark.parametrize("split", digits.SPLITS)
@pytest.mark.parametrize("target", TARGETS)
def test_labels_are_balanced_and_the_digit_tells_nothing(
  digit_items, target, split
):
  written, _ = digit_items[split]
  data = DigitMotion(target=target, **SMALL)
  arrays, listed = data.arrays(split), data.list_examples(split)
  number = len(arrays["label"])
  assert number == (400 if split == "train" else 240)
  assert list(listed) == [f"{split}/{row}" for row in range(number)]
  labels = data.load_assets()["labels"]
  answers = [labels[label] for label in arrays["label"]]
  assert [clip["answer"] for clip in listed.values()] == answers
  rows = np.searchsorted(
    written.items, [clip["image_id"] for clip in listed.values()]
  )
  seen = [clip["seen"] for clip in listed.values()]
  assert seen == written.labels[rows].tolist()
  pairs = collections.Counter(zip(answers, seen, strict=True))
  assert len(pairs) == 10 * len(labels)
  assert max(pairs.values()) - min(pairs.values()) <= 1
  uses = collections.Counter(rows.tolist())
  assert max(uses.values()) <= 1 + (number > len(written.labels))
  assert arrays["video"].shape == (number, 12, 20, 20, 1)
  assert arrays["label"].dtype == np.int32
  assert arrays["video_mask"].all()
  assert arrays["example_mask"].all()


def test_directions_are_those_of_the_positions(digit_items):
  del digit_items
  data = DigitMotion(target="direction", **SMALL)
  speeds = set()
  for clip in data.list_examples("test").values():
    steps = np.diff(clip["positions"], axis=0) % 20
    steps = np.where(steps > 10, steps - 20, steps)
    assert (steps == steps[0]).all()
    speed = abs(steps[0]).max()
    speeds.add(speed)
    step = tuple((steps[0] / speed).astype(int).tolist())
    assert motion_labels.DIRECTIONS[clip["answer"]] == step
  assert speeds == {1, 2, 3}


def walk_turns(path):
  """The fewest turns with which a walker makes a path of one coordinate."""
  for speed in range(1, 4):
    for sense in (1, -1):
      place, now, turns, made, moved = path[0], sense, 0, [path[0]], False
      for _ in path[1:]:
        for _ in range(speed):
          if not 0 <= place + now <= 13:
            now, turns = -now, turns + moved
          place, moved = place + now, True
        made.append(place)
      if made == list(path):
        return turns
  raise AssertionError(path)


def test_collisions_are_those_of_the_positions(digit_items):
  del digit_items
  data = DigitMotion(target="collisions", **SMALL)
  for clip in data.list_examples("validation").values():
    rows, columns = zip(*clip["positions"], strict=True)
    turns = walk_turns(rows) + walk_turns(columns)
    assert clip["answer"] == ("4 or more" if turns >= 4 else str(turns))


def test_events_are_seen_where_they_are_listed(digit_items):
  del digit_items
  data = DigitMotion(target="order", **SMALL)
  video = data.arrays("test")["video"]
  clips = data.list_examples("test").values()
  for frames, clip in zip(video, clips, strict=True):
    (flash,) = np.flatnonzero((frames >= FLASH).all(axis=(1, 2, 3)))
    (blink,) = np.flatnonzero((frames == 0).all(axis=(1, 2, 3)))
    assert (flash, blink) == (clip["flash"], clip["blink"])
    assert clip["answer"] == ("flash" if flash < blink else "blink")


@pytest.mark.parametrize("target", TARGETS)
def test_frames_hold_the_digit_in_its_place(digit_items, target):
  data = DigitMotion(
    target=target, num_eval_clips=60, shrink=2, frame_size=21, num_frames=7
  )
  written, _ = digit_items["test"]
  video = data.arrays("test")["video"]
  clips = data.list_examples("test").values()
  for frames, clip in zip(video, clips, strict=True):
    digit = written.images[written.items == clip["image_id"]][0]
    squares = digit.astype(int).reshape(14, 2, 14, 2)
    digit = np.rint(squares.sum(axis=(1, 3)) / 4)
    assert len(frames) == len(clip["positions"]) == 7
    for number, (row, column) in enumerate(clip["positions"]):
      expected = np.zeros((21, 21))
      rows, columns = (np.arange(14) + start for start in (row, column))
      expected[np.ix_(rows % 21, columns % 21)] = digit
      if target == "collisions":
        assert max(row, column) <= 7
      if number == clip.get("flash"):
        expected = np.maximum(expected, FLASH)
      if number == clip.get("blink"):
        expected[:] = 0
      np.testing.assert_array_equal(frames[number, ..., 0], expected)


@pytest.mark.parametrize("target", TARGETS)
def test_a_clip_depends_on_seed_split_and_row(digit_items, target):
  del digit_items
  data, more, other = (
    DigitMotion(target, num_clips=n, num_eval_clips=n // 2, seed=seed)
    for n, seed in ((70, 0), (190, 0), (70, 1))
  )
  for split in digits.SPLITS:
    arrays, longer = data.arrays(split), more.arrays(split)
    for key, values in arrays.items():
      np.testing.assert_array_equal(values, longer[key][: len(values)])
    same = np.array_equal(arrays["video"], other.arrays(split)["video"])
    assert same == (split != "train")


def test_batches_are_rows_of_the_arrays(digit_items):
  del digit_items
  data = DigitMotion(num_clips=30, num_eval_clips=11, num_frames=3)
  assets = json.loads(json.dumps(data.load_assets()))
  assert assets == data.load_assets()
  assert assets["majority_answer"] in assets["labels"]
  whole, blank = data.arrays("train"), data.blank_batch()
  batches = data.train_batches(assets, batch_size=6, seed=1)
  batch, ids = batches.batch(2), batches.record_ids(2)
  rows = [int(record_id.removeprefix("train/")) for record_id in ids]
  assert batch.keys() == whole.keys() == blank.keys()
  for key, values in batch.items():
    np.testing.assert_array_equal(values, whole[key][rows])
    assert values.dtype == blank[key].dtype
    assert values.shape[1:] == blank[key].shape[1:]


def test_is_a_plain_config_object():
  assert DigitMotion.__dataclass_params__.frozen
  hints = typing.get_type_hints(DigitMotion)
  for field in dataclasses.fields(DigitMotion):
    assert isinstance(field.default, hints[field.name])
  assert hash(DigitMotion()) == hash(DigitMotion())


@pytest.mark.parametrize(
  ("settings", "match"),
  [
    ({"target": "speed"}, "direction, collisions, order"),
    ({"num_clips": 0}, "data.num_clips is 0"),
    ({"max_speed": 0}, "data.max_speed is 0"),
    ({"num_frames": 1}, "data.num_frames is 1"),
    ({"seed": -1}, "data.seed is -1"),
    ({"shrink": 3}, "data.shrink is 3"),
    ({"frame_size": 7}, "data.frame_size is 7"),
    ({"max_speed": 10}, "less than half of data.frame_size"),
    ({"target": "collisions", "num_frames": 3}, "bounces 3 times"),
  ],
)
def test_bad_settings_are_explained(settings, match):
  with pytest.raises(ValueError, match=match) as refused:
    DigitMotion(**settings)
  assert "\n" not in str(refused.value)


def test_there_is_no_such_split():
  with pytest.raises(ValueError, match="'dev'"):
    DigitMotion().arrays("dev")
