"""Counts the real package of animated emoji; fetches 165 MB."""

import collections

import numpy as np
import pytest

from mmjax.data import emoji_clips, prepare, records
from mmjax.data.builders import fluent_emoji as builder
from mmjax.data.emoji_clips import EmojiClips

pytestmark = pytest.mark.slow


def nearest(train, test, describe_fn):
  """How often the nearest training row has the label of a test row."""
  rows = [
    describe_fn(split["video"].astype(np.float32)).reshape(
      len(split["label"]), -1
    )
    for split in (train, test)
  ]
  squares = np.square(rows[0]).sum(axis=1)
  chosen = (squares - 2 * rows[1] @ rows[0].T).argmin(axis=1)
  return (train["label"][chosen] == test["label"]).mean()


def test_the_package_holds_what_the_documentation_says(cache):
  data = EmojiClips()
  data.prepare()
  source = records.Records(
    prepare.load_builder(builder.FluentEmojiBuilder, cache), "clips"
  )
  tones = collections.Counter(record["tone"] for record in source)
  assert sum(tones.values()) == 477
  assert all(tones[tone] >= 58 for tone in emoji_clips.TONES)
  clips = emoji_clips.load_clips()
  assert clips.frames.shape == (58, 6, 24, 32, 32, 3)
  assert len(set(clips.names)) == 58
  arrays = {split: data.arrays(split) for split in emoji_clips.SPLITS}
  sizes = [len(each["label"]) for each in arrays.values()]
  assert sizes == [928, 232, 232]
  train, test = arrays["train"], arrays["test"]
  assert nearest(train, test, lambda video: video.mean(axis=1)) == 1
  first = nearest(train, test, lambda video: video[:, 0])
  assert first == pytest.approx(0.944, abs=1e-3)


def test_the_arrow_of_time_is_there_for_a_neighbour_to_find(cache):
  data = EmojiClips(target="arrow")
  data.prepare()
  train, test = data.arrays("train"), data.arrays("test")
  still = nearest(train, test, lambda video: video.mean(axis=1))
  assert still == 0.5
  moving = nearest(
    train, test, lambda video: video - video.mean(axis=1)[:, None]
  )
  assert moving == pytest.approx(0.806, abs=1e-3)
