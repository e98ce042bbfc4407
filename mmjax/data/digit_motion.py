"""Digits in motion: clips of a written digit whose label is how it moves.

The pictures move as in Srivastava, Mansimov, Salakhutdinov 2015, "Unsupervised
Learning of Video Representations using LSTMs", https://arxiv.org/abs/1502.04681.
Which digit it is tells nothing of the label, and one frame tells nothing or
little: it takes all frames, and for most labels their order.

Differs from the paper: one digit, smaller, at whole pixels, from fewer
pictures, with labels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mmjax.data import (
  arrays,
  collation,
  digit_pairs,
  digits,
  motion,
  motion_labels,
)

EVENTS = ("flash", "blink")
MOST_BOUNCES = 4
FLASH = 128  # the pixels of a frame that flashes, where the digit is darker
_LABELS = {
  "direction": tuple(motion_labels.DIRECTIONS),
  "collisions": (*map(str, range(MOST_BOUNCES)), f"{MOST_BOUNCES} or more"),
  "order": EVENTS,
}


class Clips(NamedTuple):
  """What the clips of a split are made of.

  Attributes:
    rows: int [n], rows of the split's written digits.
    labels: int32 [n].
    positions: int [n, T, 2], row and column of the digit's upper left pixel.
    events: int [n, 2], the frames of flash and blink; -1 where there is none.
  """

  rows: np.ndarray
  labels: np.ndarray
  positions: np.ndarray
  events: np.ndarray


@dataclasses.dataclass(frozen=True)
class DigitMotion(arrays.ArrayData):
  """A written digit moves: where to, how often does it bounce, what is first?

  A batch of B clips holds `video` [B, T, h, w, 1] uint8, `video_mask` [B, T],
  `label` and `example_mask` [B]. With several shards each array has one more
  leading axis. An id of a record is `<split>/<row>`.

  The labels, each with each digit equally often:

  - `"direction"`: of eight, at a speed of 1 to `max_speed` pixels a frame on
    each axis that it moves along. What leaves the frame enters at the opposite
    side, so that every place is equally likely for every direction in every
    frame: one frame leaves 8 answers, all frames without their order leave 2.
  - `"collisions"`: how often the digit turns back at the borders, rows and
    columns added, 0, 1, 2, 3 or at least 4. Speeds are 1 to `max_speed` pixels
    on both axes. Of one frame the best guess is right 31 % of the time.
  - `"order"`: the digit moves as for the direction. In one frame the ground
    flashes, in another the digit blinks, which leaves the frame black. Which
    comes first? Without their order the frames tell nothing.

  Attributes:
    target: the label.
    num_clips: training clips.
    num_eval_clips: clips of the validation split and of the test split.
    num_frames: T, frames of a clip.
    frame_size: h and w in pixels.
    shrink: as in `MovingDigits`.
    max_speed: pixels a frame on each axis at most.
    seed: decides the training clips. Validation and test are the same for
      every seed.
    manual_dir: folder with the archives of both packages of digits, for
      machines that cannot reach the registry.
  """

  target: str = "direction"
  num_clips: int = 4_000
  num_eval_clips: int = 1_200
  num_frames: int = 12
  frame_size: int = 20
  shrink: int = 4
  max_speed: int = 3
  seed: int = 0
  manual_dir: str | None = None

  def __post_init__(self) -> None:
    """Checks the settings.

    Raises:
      ValueError: one of them makes no sense.
    """
    if self.target not in _LABELS:
      raise ValueError(
        f"data.target is {self.target!r}; it is one of {', '.join(_LABELS)}"
      )
    for name in ("num_clips", "num_eval_clips", "max_speed"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"data.{name} is {getattr(self, name)}; it has to be at least 1"
        )
    if self.num_frames < 2:
      raise ValueError(
        f"data.num_frames is {self.num_frames}; a motion has at least 2"
      )
    if self.seed < 0:
      raise ValueError(f"data.seed is {self.seed}; it has to be at least 0")
    digits.check_shrink(self.shrink)
    if self.frame_size <= self._digit_size:
      raise ValueError(
        f"data.frame_size is {self.frame_size}, which leaves a digit of "
        f"{self._digit_size} pixels no room to move; set it to more"
      )
    if 2 * self.max_speed >= self.frame_size and self.target != "collisions":
      raise ValueError(
        f"data.max_speed is {self.max_speed}, at which a digit that leaves "
        f"frames of {self.frame_size} pixels on one side could have moved "
        "either way; set it to less than half of data.frame_size"
      )
    if self.target == "collisions":
      self._draw_motion(np.arange(MOST_BOUNCES + 1), "test")

  def prepare(self) -> None:
    """Makes the data ready on this machine; returns at once if they are.

    Raises:
      PackageError: a package cannot be had or trusted; one sentence.
    """
    digits.prepare_items(self.manual_dir)

  def load_assets(self) -> dict[str, Any]:
    """Returns plain JSON values: nothing is fitted to the training split.

    Returns:
      `labels`; what other data sets have of questions, `question_types`,
      `majority_answer` and `question_prior`.
    """
    return {
      "labels": list(_LABELS[self.target]),
      "question_types": [self.target],
      "majority_answer": _LABELS[self.target][0],
      "question_prior": {},
      "unit": "clips",
    }

  def encode_split(
    self, assets: Mapping[str, Any], split: str
  ) -> collation.Batch:
    """Returns a whole split as one batch; the training split in random order.

    Args:
      assets: not used, nothing is fitted.
      split: one of `digits.SPLITS`.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    del assets
    written = digits.load_written(split)
    clips = self._draw(split, written)
    images = motion.shrink_images(written.images, self.shrink)[clips.rows]
    draw_fn = motion.render_wrapping
    if self.target == "collisions":
      draw_fn = motion.render
    video = draw_fn(images, clips.positions, self.frame_size)
    if self.target == "order":
      flash, blink = clips.events.T
      every = np.arange(len(video))
      video[every, flash] = np.maximum(video[every, flash], FLASH)
      video[every, blink] = 0
    return {
      "video": video,
      "video_mask": np.ones(video.shape[:2], bool),
      "label": clips.labels,
      "example_mask": np.ones(len(video), bool),
    }

  def blank_batch(self) -> collation.Batch:
    """Returns a batch of one empty clip, for its shapes and dtypes."""
    size = (1, self.num_frames, self.frame_size, self.frame_size, 1)
    return {
      "video": np.zeros(size, np.uint8),
      "video_mask": np.ones(size[:2], bool),
      "label": np.zeros(1, np.int32),
      "example_mask": np.ones(1, bool),
    }

  def list_examples(self, split: str) -> dict[str, dict[str, Any]]:
    """Returns what each clip of a split is made of, by record id.

    Returns:
      In the order of `arrays`, of each `text`, which is empty, `answer`,
      `type`; `image_id`, the number of the written digit in its package, and
      `seen`, which digit it is; `positions`, [T, 2], row and column of its
      upper left pixel in each frame; and for the order the frames of `flash`
      and `blink`.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    written = digits.load_written(split)
    clips = self._draw(split, written)
    listed = {}
    for row, record_id in enumerate(self.record_ids(split, len(clips.labels))):
      listed[record_id] = {
        "text": "",
        "answer": _LABELS[self.target][clips.labels[row]],
        "type": self.target,
        "image_id": int(written.items[clips.rows[row]]),
        "seen": int(written.labels[clips.rows[row]]),
        "positions": clips.positions[row].tolist(),
      }
      if self.target == "order":
        frames = clips.events[row].tolist()
        listed[record_id] |= dict(zip(EVENTS, frames, strict=True))
    return listed

  @property
  def _digit_size(self) -> int:
    return digits.IMAGE_SIZE // self.shrink

  def _draw(self, split: str, written: digits.Written) -> Clips:
    number = self.num_clips if split == "train" else self.num_eval_clips
    both = [
      (label, digit)
      for label in range(len(_LABELS[self.target]))
      for digit in range(digits.NUM_CLASSES)
    ]
    rng = digit_pairs.make_rng(self.seed, split, "labels")
    labels, seen = digit_pairs.deal(np.array(both), number, rng).T
    rows = digit_pairs.deal_items(
      seen, written.labels, seed=self.seed, split=split, purpose="items"
    )
    positions = self._draw_motion(labels, split)
    events = np.full((number, 2), -1)
    if self.target == "order":
      rng = digit_pairs.make_rng(self.seed, split, "events")
      events = motion_labels.draw_events(labels, self.num_frames, rng=rng)
    return Clips(rows, labels.astype(np.int32), positions, events)

  def _draw_motion(self, labels: np.ndarray, split: str) -> np.ndarray:
    """Draws positions [n, T, 2] that go with the labels."""
    rng = digit_pairs.make_rng(self.seed, split, "motion")
    if self.target == "collisions":
      return motion_labels.draw_bouncing(
        labels,
        self.num_frames,
        room=self.frame_size - self._digit_size,
        max_speed=self.max_speed,
        most=MOST_BOUNCES,
        rng=rng,
      )
    directions = labels
    if self.target == "order":
      heads = digit_pairs.make_rng(self.seed, split, "directions")
      draws = heads.random(len(labels))
      directions = np.floor(draws * len(motion_labels.DIRECTIONS)).astype(int)
    return motion_labels.draw_wrapping(
      directions,
      self.num_frames,
      size=self.frame_size,
      max_speed=self.max_speed,
      rng=rng,
    )
