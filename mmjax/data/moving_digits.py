"""Moving digits: a clip of a written digit that bounces, and a spoken digit.

The pictures move as in Srivastava, Mansimov, Salakhutdinov 2015, "Unsupervised
Learning of Video Representations using LSTMs", https://arxiv.org/abs/1502.04681.
The label needs the clip, either modality, or both, by construction: what a
model that lacks a modality can reach is known.

Differs from the paper: one digit, smaller, at whole pixels, with a spoken digit
beside it; from fewer pictures.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mmjax.data import arrays, collation, digit_pairs, digits, motion

_DIGITS = range(digits.NUM_CLASSES)
_ANY_TWO = [(seen, heard) for seen in _DIGITS for heard in _DIGITS]
# For each target the combinations (seen, heard), all equally frequent.
_COMBINATIONS = {
  "seen": _ANY_TWO,
  "either": [(digit, digit) for digit in _DIGITS],
  "sum": _ANY_TWO,
}


class Clips(NamedTuple):
  """What the clips of a split are made of.

  Attributes:
    seen: int [n], rows of the split's written digits.
    heard: int [n], rows of the split's spoken digits.
    positions: int [n, T, 2], row and column of the digit's upper left pixel.
  """

  seen: np.ndarray
  heard: np.ndarray
  positions: np.ndarray


@dataclasses.dataclass(frozen=True)
class MovingDigits(arrays.ArrayData):
  """A written digit moves while a digit is spoken: which one, or their sum?

  A batch of B clips holds `video` [B, T, h, w, 1] uint8, `video_mask` [B, T];
  `audio` [B, S, 13] float32, standardised over the training split and zero
  after its end, `audio_mask` [B, S]; `label` and `example_mask` [B]. With
  several shards each array has one more leading axis. An id of a record is
  `<split>/<row>`.

  The digit starts anywhere and moves by 1 to `max_speed` whole pixels a frame
  in each direction; at a border it turns back as light does at a mirror.
  Nothing is rescaled and nothing blurred: each frame is zeros with the digit's
  pixels in one place. A clip depends on nothing but seed, split and row.

  Attributes:
    target: `"seen"`, the digit of the clip, and the speech tells nothing;
      `"either"`, both are the same digit; `"sum"`, of the two digits, 19
      classes, of which one modality alone tells next to nothing.
    num_clips: training clips.
    num_eval_clips: clips of the validation split and of the test split.
    num_frames: T, frames of a clip.
    frame_size: h and w in pixels.
    shrink: pictures of 28 x 28 pixels are shrunk this many times, by the mean
      over squares; 1, 2, 4, 7 or 14.
    max_speed: pixels a frame in each direction at most.
    noise: as in `AvDigits`.
    max_frames: S, frames of a recording that are kept; the longest has 92, and
      99 % have at most 37.
    seed: decides the training clips. Validation and test are the same for
      every seed.
    manual_dir: folder with the archives of both packages, for machines that
      cannot reach the registry.
  """

  target: str = "sum"
  num_clips: int = 7_000
  num_eval_clips: int = 1_500
  num_frames: int = 8
  frame_size: int = 32
  shrink: int = 2
  max_speed: int = 3
  noise: float = 0.0
  max_frames: int = digits.MAX_FRAMES
  seed: int = 0
  manual_dir: str | None = None

  def __post_init__(self) -> None:
    """Checks the settings.

    Raises:
      ValueError: one of them makes no sense.
    """
    if self.target not in _COMBINATIONS:
      raise ValueError(
        f"data.target is {self.target!r}; it is one of "
        f"{', '.join(_COMBINATIONS)}"
      )
    digit_pairs.check_settings(
      self,
      at_least_one=(
        "num_clips",
        "num_eval_clips",
        "num_frames",
        "max_speed",
      ),
    )
    digits.check_shrink(self.shrink)
    if self.frame_size <= self._digit_size:
      raise ValueError(
        f"data.frame_size is {self.frame_size}, which leaves a digit of "
        f"{self._digit_size} pixels no room to move; set it to more"
      )

  def prepare(self) -> None:
    """Makes the data ready on this machine; returns at once if they are.

    Raises:
      PackageError: a package cannot be had or trusted; one sentence.
    """
    digits.prepare_items(self.manual_dir)

  def load_assets(self) -> dict[str, Any]:
    """Reads what is fitted to the training split; plain JSON values.

    Returns:
      `labels`; what other data sets have of questions, `question_types`,
      `majority_answer` and `question_prior`; `audio_mean` and `audio_std`, 13
      numbers.

    Raises:
      ValueError: the data are not prepared.
    """
    is_sum = self.target == "sum"
    num_classes = 19 if is_sum else digits.NUM_CLASSES
    return {
      "labels": [str(label) for label in range(num_classes)],
      "question_types": [self.target],
      "majority_answer": "9" if is_sum else "0",
      "question_prior": {},
      "unit": "clips",
      **digit_pairs.fit_speech(digits.load_spoken("train")),
    }

  def encode_split(
    self, assets: Mapping[str, Any], split: str
  ) -> collation.Batch:
    """Returns a whole split as one batch; the training split in random order.

    Args:
      assets: what `load_assets` gave, for instance from a checkpoint.
      split: one of `digits.SPLITS`.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    written, spoken = digits.load_written(split), digits.load_spoken(split)
    clips = self._draw(split, written, spoken)
    audio, audio_mask = digit_pairs.encode_speech(
      spoken,
      clips.heard,
      assets,
      max_frames=self.max_frames,
      noise=self.noise,
      rng=digit_pairs.make_rng(self.seed, split, "noise"),
    )
    images = motion.shrink_images(written.images, self.shrink)
    video = motion.render(images[clips.seen], clips.positions, self.frame_size)
    return {
      "video": video,
      "video_mask": np.ones(video.shape[:2], bool),
      "audio": audio,
      "audio_mask": audio_mask,
      "label": self._answer(
        written.labels[clips.seen], spoken.labels[clips.heard]
      ),
      "example_mask": np.ones(len(video), bool),
    }

  def blank_batch(self) -> collation.Batch:
    """Returns a batch of one empty clip, for its shapes and dtypes."""
    size = (1, self.num_frames, self.frame_size, self.frame_size, 1)
    return {
      "video": np.zeros(size, np.uint8),
      "video_mask": np.ones(size[:2], bool),
      **digit_pairs.blank_speech(self.max_frames),
      "label": np.zeros(1, np.int32),
      "example_mask": np.ones(1, bool),
    }

  def list_examples(self, split: str) -> dict[str, dict[str, Any]]:
    """Returns what each clip of a split is made of, by record id.

    Returns:
      In the order of `arrays`, of each `text`, which is empty, `answer`,
      `type`; the numbers of the items in their packages, `image_id` of the
      written one, `spoken_id` of the spoken one; their digits, `seen` and
      `heard`; and `positions`, [T, 2]: row and column of the digit's upper
      left pixel in each frame.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    written, spoken = digits.load_written(split), digits.load_spoken(split)
    clips = self._draw(split, written, spoken)
    seen, heard = written.labels[clips.seen], spoken.labels[clips.heard]
    answers = self._answer(seen, heard)
    return {
      record_id: {
        "text": "",
        "answer": str(answers[row]),
        "type": self.target,
        "image_id": int(written.items[clips.seen[row]]),
        "spoken_id": int(spoken.items[clips.heard[row]]),
        "seen": int(seen[row]),
        "heard": int(heard[row]),
        "positions": clips.positions[row].tolist(),
      }
      for row, record_id in enumerate(self.record_ids(split, len(answers)))
    }

  @property
  def _digit_size(self) -> int:
    return digits.IMAGE_SIZE // self.shrink

  def _answer(self, seen: np.ndarray, heard: np.ndarray) -> np.ndarray:
    return seen + heard if self.target == "sum" else seen

  def _draw(
    self, split: str, written: digits.Written, spoken: digits.Spoken
  ) -> Clips:
    number = self.num_clips if split == "train" else self.num_eval_clips
    seen, heard = digit_pairs.draw_pairs(
      _COMBINATIONS[self.target],
      number,
      written,
      spoken,
      seed=self.seed,
      split=split,
    )
    rng = digit_pairs.make_rng(self.seed, split, "motion")
    positions = motion.draw_positions(
      number,
      self.num_frames,
      room=self.frame_size - self._digit_size,
      max_speed=self.max_speed,
      rng=rng,
    )
    return Clips(seen, heard, positions)
