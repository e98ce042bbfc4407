"""Audio-visual digits: a written and a spoken digit of the same class.

The idea is that of AV-MNIST, Vielzeuf, Lechervy, Pateux, Jurie 2018,
"CentralNet: a Multilayer Approach for Multimodal Fusion",
https://arxiv.org/abs/1808.07275: both modalities tell the class, each is made
harder, the picture by cutting it to its leading principal components.

Differs from the paper: 5,000 pictures and 3,000 recordings instead of 60,000
and 1,500 with added copies; cepstral coefficients instead of spectrograms;
normal noise in them instead of recorded noise in the sound; splits of our own
(see `mmjax.data.digits`).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmjax.data import (
  arrays,
  collation,
  components,
  digit_pairs,
  digits,
  packages,
)


@dataclasses.dataclass(frozen=True)
class AvDigits(arrays.ArrayData):
  """A written and a spoken digit of the same class: which digit is it?

  A batch of B pairs holds `image` [B, 28, 28, 1], uint8, or float32 in [0, 1]
  when it is cut to components; `image_mask` [B]; `audio` [B, T, 13] float32,
  standardised over the training split and zero after its end; `audio_mask`
  [B, T]; `label` and `example_mask` [B]. With several shards each array has
  one more leading axis. An id of a record is `<split>/<row>`.

  Attributes:
    num_pairs: training pairs. The default uses every written digit three times
      and every spoken one five times. In validation and test every written
      digit comes once.
    image_energy: pictures keep the fewest leading principal components that
      hold at least this share of the variance of the training pictures; 1 is
      the picture itself.
    noise: standard deviation of the noise that is added to the speech, in
      units of each coefficient's own over the training split.
    max_frames: T, frames of a recording that are kept; the longest has 92, and
      99 % have at most 37.
    seed: decides the training pairs and their noise. Validation and test are
      the same for every seed.
    manual_dir: folder with the archives of both packages, for machines that
      cannot reach the registry.
  """

  num_pairs: int = 10_500
  image_energy: float = 1.0
  noise: float = 0.0
  max_frames: int = digits.MAX_FRAMES
  seed: int = 0
  manual_dir: str | None = None

  def __post_init__(self) -> None:
    """Checks the settings.

    Raises:
      ValueError: one of them makes no sense.
    """
    digit_pairs.check_settings(self, at_least_one=("num_pairs",))
    if not 0 < self.image_energy <= 1:
      raise ValueError(
        f"data.image_energy is {self.image_energy}; it is a share above 0 and "
        "at most 1"
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
      numbers; and when pictures are cut `image_mean`, 784 numbers, and
      `image_components`, as many for each component.

    Raises:
      ValueError: the data are not prepared.
    """
    assets = {
      "labels": [str(label) for label in range(digits.NUM_CLASSES)],
      "question_types": ["digit"],
      "majority_answer": "0",  # all are equally frequent
      "question_prior": {},
      "unit": "pairs",
      **digit_pairs.fit_speech(digits.load_spoken("train")),
    }
    if self.image_energy < 1:
      mean, rows = _fit_train_components(
        packages.cache_dir(), self.image_energy
      )
      assets["image_mean"] = mean.tolist()
      assets["image_components"] = rows.tolist()
    return assets

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
    seen, heard = self._draw(split, written, spoken)
    images = written.images
    if self.image_energy < 1:
      images = components.cut_to_components(
        images,
        np.array(assets["image_mean"]),
        np.array(assets["image_components"]),
      )
    audio, audio_mask = digit_pairs.encode_speech(
      spoken,
      heard,
      assets,
      max_frames=self.max_frames,
      noise=self.noise,
      rng=digit_pairs.make_rng(self.seed, split, "noise"),
    )
    return {
      "image": images[seen],
      "image_mask": np.ones(len(seen), bool),
      "audio": audio,
      "audio_mask": audio_mask,
      "label": written.labels[seen],
      "example_mask": np.ones(len(seen), bool),
    }

  def blank_batch(self) -> collation.Batch:
    """Returns a batch of one empty pair, for its shapes and dtypes."""
    size = (1, digits.IMAGE_SIZE, digits.IMAGE_SIZE, 1)
    dtype = np.uint8 if self.image_energy == 1 else np.float32
    return {
      "image": np.zeros(size, dtype),
      "image_mask": np.ones(1, bool),
      **digit_pairs.blank_speech(self.max_frames),
      "label": np.zeros(1, np.int32),
      "example_mask": np.ones(1, bool),
    }

  def list_examples(self, split: str) -> dict[str, dict[str, Any]]:
    """Returns what each pair of a split is made of, by record id.

    Returns:
      In the order of `arrays`, of each `text`, which is empty, `answer`,
      `type`, and the numbers of the items in their packages: `image_id` of the
      written one, `spoken_id` of the spoken one.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    written, spoken = digits.load_written(split), digits.load_spoken(split)
    seen, heard = self._draw(split, written, spoken)
    return {
      record_id: {
        "text": "",
        "answer": str(written.labels[i]),
        "type": "digit",
        "image_id": int(written.items[i]),
        "spoken_id": int(spoken.items[j]),
      }
      for record_id, i, j in zip(
        self.record_ids(split, len(seen)), seen, heard, strict=True
      )
    }

  def _draw(
    self, split: str, written: digits.Written, spoken: digits.Spoken
  ) -> tuple[np.ndarray, np.ndarray]:
    """Draws the rows of the pairs."""
    return digit_pairs.draw_pairs(
      [(label, label) for label in range(digits.NUM_CLASSES)],
      self.num_pairs if split == "train" else len(written.labels),
      written,
      spoken,
      seed=self.seed,
      split=split,
    )


@functools.cache
def _fit_train_components(
  cache: pathlib.Path, energy: float
) -> tuple[np.ndarray, np.ndarray]:
  """Fits them once for all splits, seeds and methods of a comparison."""
  del cache  # a key: other folders may hold other data
  return components.fit_components(digits.load_written("train").images, energy)
