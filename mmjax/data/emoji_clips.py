"""Animated emoji: which one is it, in a skin tone that was never seen?

Or else: does it run forwards or backwards? That is the arrow of time of Pickup
et al. 2014, "Seeing the Arrow of Time", https://doi.org/10.1109/CVPR.2014.262.
Where the clips come from and their licence stand in
`mmjax.data.builders.fluent_emoji`.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mmjax.data import (
  arrays,
  collation,
  digit_pairs,
  packages,
  prepare,
  records,
  transforms,
)

SPLITS = ("train", "validation", "test")
TONES = ("yellow", "light", "medium light", "medium", "medium dark", "dark")
NUM_STORED = 24  # frames of a clip in its record
SIZE = 32  # height and width of a frame in pixels


class Clips(NamedTuple):
  """The emoji that there are in all tones, in all tones.

  Attributes:
    emoji: [C], their code points without the tone, in order.
    names: [C], what the code points are called.
    files: [C][6], the names of the files, by emoji and tone.
    frames: uint8 [C, 6, 24, 32, 32, 3], by emoji and tone.
  """

  emoji: tuple[str, ...]
  names: tuple[str, ...]
  files: tuple[tuple[str, ...], ...]
  frames: np.ndarray


class Rows(NamedTuple):
  """What the rows of a split are.

  Attributes:
    emoji: int [n], which emoji.
    tone: int [n], which of `TONES`.
    start: int [n], the earliest of its frames among the 24 that there are.
    backward: bool [n], whether it runs backwards.
  """

  emoji: np.ndarray
  tone: np.ndarray
  start: np.ndarray
  backward: np.ndarray


@dataclasses.dataclass(frozen=True)
class EmojiClips(arrays.ArrayData):
  """Animated emoji in a skin tone held out of training: which one is it?

  A batch of B clips holds `video` [B, T, 32, 32, 3] uint8, `video_mask`
  [B, T], `label` and `example_mask` [B]. With several shards each array has
  one more leading axis. An id of a record is `<split>/<row>`.

  58 emoji are there as clips in six tones each, people with two skins in the
  same tone for both, and nothing but the tone differs. Four tones are for
  training, one is for validation and one for the test. A clip runs in a circle
  and each is taken from several starts, at T frames at equal distances: of
  training 58 x 4 x `num_starts` rows, of validation and test 58 x
  `num_starts`; of the arrow of time twice as many, as each is there forwards
  and backwards: without their order, its frames tell nothing.

  Attributes:
    target: `"emoji"`, 58 labels, or `"arrow"`, forwards or backwards.
    test_tone: one of `TONES`; yellow is the tone without a modifier.
    validation_tone: another one.
    num_frames: T; a divisor of 24, the frames that are kept of each clip.
    num_starts: starts of each clip, at most 24.
    seed: decides the starts of the training clips. Validation and test are the
      same for every seed.
    manual_dir: folder with the package's archive, for machines that cannot
      reach the registry.
  """

  target: str = "emoji"
  test_tone: str = "dark"
  validation_tone: str = "medium dark"
  num_frames: int = 8
  num_starts: int = 4
  seed: int = 0
  manual_dir: str | None = None

  def __post_init__(self) -> None:
    """Checks the settings.

    Raises:
      ValueError: one of them makes no sense.
    """
    if self.target not in ("emoji", "arrow"):
      raise ValueError(
        f"data.target is {self.target!r}; it is 'emoji' or 'arrow'"
      )
    for name in ("test_tone", "validation_tone"):
      if getattr(self, name) not in TONES:
        raise ValueError(
          f"data.{name} is {getattr(self, name)!r}; it is one of "
          f"{', '.join(TONES)}"
        )
    if self.test_tone == self.validation_tone:
      raise ValueError(
        f"data.validation_tone is {self.test_tone!r}, and so is "
        "data.test_tone; hold out two tones"
      )
    if self.num_frames < 1 or NUM_STORED % self.num_frames:
      raise ValueError(
        f"data.num_frames is {self.num_frames}; it has to divide {NUM_STORED}"
      )
    if not 1 <= self.num_starts <= NUM_STORED:
      raise ValueError(
        f"data.num_starts is {self.num_starts}; it is between 1 and "
        f"{NUM_STORED}"
      )
    if self.seed < 0:
      raise ValueError(f"data.seed is {self.seed}; it has to be at least 0")

  def prepare(self) -> None:
    """Makes the data ready on this machine; returns at once if they are.

    Raises:
      PackageError: the package cannot be had or trusted; one sentence.
    """
    from mmjax.data.builders import fluent_emoji as builder

    prepare.build_dataset(
      builder.FluentEmojiBuilder, builder.PACKAGE, manual_dir=self.manual_dir
    )

  def load_assets(self) -> dict[str, Any]:
    """Returns plain JSON values: nothing is fitted to the training split.

    Returns:
      `labels`; what other data sets have of questions, `question_types`,
      `majority_answer` and `question_prior`.

    Raises:
      ValueError: the data are not prepared.
    """
    labels = self._labels(load_clips())
    return {
      "labels": list(labels),
      "question_types": list(TONES),
      "majority_answer": labels[0],
      "question_prior": {},
      "unit": "clips",
    }

  def encode_split(
    self, assets: Mapping[str, Any], split: str
  ) -> collation.Batch:
    """Returns a whole split as one batch, emoji by emoji.

    Args:
      assets: not used, nothing is fitted.
      split: one of `SPLITS`.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    del assets
    clips = load_clips()
    rows = self._list_rows(split, len(clips.emoji))
    distance = NUM_STORED // self.num_frames
    places = distance * np.arange(self.num_frames)
    places = np.where(rows.backward[:, None], places[::-1], places)
    places = (rows.start[:, None] + places) % NUM_STORED
    video = clips.frames[rows.emoji[:, None], rows.tone[:, None], places]
    return {
      "video": video,
      "video_mask": np.ones(video.shape[:2], bool),
      "label": self._answer(rows).astype(np.int32),
      "example_mask": np.ones(len(video), bool),
    }

  def blank_batch(self) -> collation.Batch:
    """Returns a batch of one black clip, for its shapes and dtypes."""
    return {
      "video": np.zeros((1, self.num_frames, SIZE, SIZE, 3), np.uint8),
      "video_mask": np.ones((1, self.num_frames), bool),
      "label": np.zeros(1, np.int32),
      "example_mask": np.ones(1, bool),
    }

  def list_examples(self, split: str) -> dict[str, dict[str, Any]]:
    """Returns what each row of a split is made of, by record id.

    Returns:
      In the order of `arrays`, of each `text`, which is empty, `answer`,
      `type`, which is the tone, `image_id`, the name of the file, `start`,
      the earliest of its frames among 24, and `backward`.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    clips = load_clips()
    labels = self._labels(clips)
    rows = self._list_rows(split, len(clips.emoji))
    ids = self.record_ids(split, len(rows.emoji))
    answers = self._answer(rows).tolist()
    listed = zip(ids, answers, *(each.tolist() for each in rows), strict=True)
    return {
      record_id: {
        "text": "",
        "answer": labels[answer],
        "type": TONES[tone],
        "image_id": clips.files[emoji][tone],
        "start": start,
        "backward": backward,
      }
      for record_id, answer, emoji, tone, start, backward in listed
    }

  def tones_of(self, split: str) -> tuple[str, ...]:
    """Returns the tones of a split.

    Raises:
      ValueError: there is no such split.
    """
    if split not in SPLITS:
      raise ValueError(
        f"emoji clips have no split {split!r}; they have {', '.join(SPLITS)}"
      )
    held_out = {"validation": self.validation_tone, "test": self.test_tone}
    if split in held_out:
      return (held_out[split],)
    return tuple(tone for tone in TONES if tone not in held_out.values())

  def _labels(self, clips: Clips) -> tuple[str, ...]:
    return clips.names if self.target == "emoji" else ("forwards", "backwards")

  def _answer(self, rows: Rows) -> np.ndarray:
    return rows.emoji if self.target == "emoji" else rows.backward

  def _list_rows(self, split: str, num_emoji: int) -> Rows:
    tones = [TONES.index(tone) for tone in self.tones_of(split)]
    backward = [False] if self.target == "emoji" else [False, True]
    emoji, tone, start, backward = np.meshgrid(
      np.arange(num_emoji),
      tones,
      np.arange(self.num_starts),
      backward,
      indexing="ij",
    )
    rng = digit_pairs.make_rng(self.seed, split, "starts")
    starts = rng.random((num_emoji, len(tones), NUM_STORED)).argsort(axis=-1)
    start = np.take_along_axis(starts[..., None], start, axis=2)
    return Rows(*(each.ravel() for each in (emoji, tone, start, backward)))


def load_clips() -> Clips:
  """Reads the clips, once; the frames are read-only.

  Raises:
    ValueError: the data are not prepared.
  """
  return _load_clips_in(packages.cache_dir())


@functools.cache
def _load_clips_in(cache: pathlib.Path) -> Clips:
  from mmjax.data.builders import fluent_emoji as builder

  source = records.Records(
    prepare.load_builder(builder.FluentEmojiBuilder, cache),
    "clips",
    command="emoji_clips",
  )
  by_emoji = collections.defaultdict(dict)
  for index in range(len(source)):
    record = source[index]
    by_emoji[record["emoji"]][record["tone"]] = record
  kept = [
    [of_emoji[tone] for tone in TONES]
    for _, of_emoji in sorted(by_emoji.items())
    if set(TONES) <= set(of_emoji)
  ]
  frames = np.stack([[_read_strip(one) for one in row] for row in kept])
  frames.setflags(write=False)
  return Clips(
    tuple(row[0]["emoji"] for row in kept),
    tuple(row[0]["name"] for row in kept),
    tuple(tuple(one["clip"] for one in row) for row in kept),
    frames,
  )


def _read_strip(record: Mapping[str, Any]) -> np.ndarray:
  strip = np.asarray(transforms.open_image(record["image"]))
  return strip.reshape(NUM_STORED, SIZE, SIZE, 3)
