"""The PID suite: two modalities that share, split or complete a label.

Three latent vectors z1, z2 and zc of 50 standard normal numbers are each mapped
to 100 features by a matrix of numbers drawn from U(0, 1). The first modality
holds the features of z1 and zc, the second those of z2 and zc. The label says
whether the mean of the latents that matter, after dropout of half of them, is
above the median of all rows. What matters is the setting. Nobody can know what
was dropped, which is where the best possible accuracy comes from:
`mmjax.data.synthetic.pid_ceilings` derives it.

Liang et al. 2023, "Quantifying & Modeling Multimodal Interactions: An
Information Decomposition Framework", https://arxiv.org/abs/2302.12247.

Differs from the paper: with one seed all settings have the same features and
differ in the label only, so that settings are compared on equal inputs.
"""

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from mmjax.data import arrays, collation

LATENT_SIZE = 50
FEATURE_SIZE = 100
DROPOUT_RATE = 0.5
SPLITS = ("train", "validation", "test")

# For each setting the shares of the entries of (z1, z2, zc) that matter. A
# share below 1 is another random subset for each row.
SHARES: Mapping[str, tuple[float, float, float]] = MappingProxyType(
  {
    "redundancy": (0.0, 0.0, 1.0),
    "unique_1": (1.0, 0.0, 0.0),
    "unique_2": (0.0, 1.0, 0.0),
    "synergy": (1.0, 1.0, 0.0),
    "mixture_1": (0.5, 0.5, 0.5),
    "mixture_2": (1.0, 0.5, 0.5),
    "mixture_3": (1.0, 1.0, 0.5),
    "mixture_4": (0.5, 0.5, 1.0),
    "mixture_5": (0.0, 0.5, 0.5),
    "mixture_6": (0.0, 0.5, 1.0),
  }
)


def draw_latents(
  setting: str, num_rows: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Draws latents, and the score whose median splits the labels.

  How many numbers are drawn does not depend on the setting.

  Args:
    setting: one of `SHARES`.
    num_rows: R.
    rng: random numbers.

  Returns:
    Latents (z1, z2, zc), float64 [3, R, 50], and the score, float64 [R]: the
    sum of those that matter and are not dropped.

  Raises:
    ValueError: there is no such setting.
  """
  check_setting(setting)
  latents = rng.standard_normal((3, num_rows, LATENT_SIZE))
  kept = rng.random(latents.shape) >= DROPOUT_RATE
  places = rng.random(latents.shape).argsort(axis=-1)
  sizes = [round(share * LATENT_SIZE) for share in SHARES[setting]]
  matters = places < np.array(sizes)[:, None, None]
  return latents, np.where(kept & matters, latents, 0).sum(axis=(0, 2))


def draw_rows(setting: str, num_rows: int, seed: int) -> dict[str, np.ndarray]:
  """Draws rows of both modalities with their labels.

  Args:
    setting: one of `SHARES`.
    num_rows: R.
    seed: decides everything besides the setting.

  Returns:
    `first` and `second`, float32 [R, 200], and `label`, int32 [R] of 0 and 1,
    half of each.

  Raises:
    ValueError: there is no such setting.
  """
  maps, latents, label = _draw(setting, num_rows, seed)
  own_1, own_2, common = (latents @ maps).astype(np.float32)
  return {
    "first": np.concatenate([own_1, common], axis=1),
    "second": np.concatenate([own_2, common], axis=1),
    "label": label,
  }


def answer_best(setting: str, num_rows: int, seed: int) -> np.ndarray:
  """Answers the rows of `draw_rows` as well as it can be done.

  The rule sees the latents, which the maps give away, but not what was dropped.

  Returns:
    bool [R], which rows it answers rightly.

  Raises:
    ValueError: there is no such setting.
  """
  _, latents, label = _draw(setting, num_rows, seed)
  mean = np.array(SHARES[setting]) @ latents.sum(axis=-1)
  return (mean > 0) == label


def _draw(
  setting: str, num_rows: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Draws maps [3, 50, 100], latents [3, R, 50] and int32 labels [R]."""
  rng = np.random.default_rng(seed)
  maps = rng.random((3, LATENT_SIZE, FEATURE_SIZE))
  latents, score = draw_latents(setting, num_rows, rng)
  return maps, latents, (score > np.median(score)).astype(np.int32)


def check_setting(setting: str) -> None:
  """Raises ValueError unless there is such a setting."""
  if setting not in SHARES:
    raise ValueError(
      f"the PID suite has no setting {setting!r}; it has {', '.join(SHARES)}"
    )


@dataclasses.dataclass(frozen=True)
class PidSuite(arrays.ArrayData):
  """One setting of the PID suite.

  A batch holds `first` and `second` [B, 200] float32, `first_mask` and
  `second_mask` [B], `label` [B] int32 and `example_mask` [B]. Rows are drawn
  independently, so the splits are the first 70 %, the next 15 % and the rest.
  An id of a record is `<split>/<row>`, counted over all splits.

  Attributes:
    setting: one of `SHARES`: "redundancy", "unique_1", "unique_2", "synergy",
      "mixture_1" to "mixture_6".
    seed: of latents, maps and dropout; the same for all settings.
    num_rows: rows of all splits together.
  """

  setting: str = "redundancy"
  seed: int = 0
  num_rows: int = 12_000

  def __post_init__(self) -> None:
    """Checks the settings.

    Raises:
      ValueError: an unknown setting, a negative seed, or too few rows for
        three splits.
    """
    check_setting(self.setting)
    if self.seed < 0:
      raise ValueError(f"data.seed is {self.seed}; it must be at least 0")
    if self.num_rows < 7:
      raise ValueError(
        f"data.num_rows is {self.num_rows}, too few for three splits; it has"
        " to be at least 7"
      )

  def load_assets(self) -> dict[str, Any]:
    """Returns the names of the labels, and the commonest; JSON values."""
    above = int(self.arrays("train")["label"].mean() > 0.5)
    return {
      "labels": ["0", "1"],
      "question_types": [self.setting],
      "majority_answer": str(above),
      "question_prior": {},
      "unit": "examples",
    }

  def arrays(self, split: str) -> collation.Batch:
    """Returns a whole split as one batch, for training in memory.

    The arrays are shared and cannot be written to.

    Raises:
      ValueError: there is no such split.
    """
    rows = self._rows(split)
    drawn = _draw_once(self.setting, self.num_rows, self.seed)
    there = np.ones(len(rows), bool)
    there.flags.writeable = False
    return {
      **{key: values[rows.start : rows.stop] for key, values in drawn.items()},
      "first_mask": there,
      "second_mask": there,
      "example_mask": there,
    }

  def encode_split(
    self, assets: Mapping[str, Any], split: str
  ) -> collation.Batch:
    """Returns `arrays(split)`: nothing is fitted."""
    del assets
    return self.arrays(split)

  def record_ids(self, split: str, num_rows: int) -> list[str]:
    """Returns `<split>/<row>`, the row counted over all splits."""
    return [f"{split}/{row}" for row in self._rows(split)[:num_rows]]

  def blank_batch(self) -> collation.Batch:
    """Returns a batch of one empty example, for its shapes and dtypes."""
    return {
      "first": np.zeros((1, 2 * FEATURE_SIZE), np.float32),
      "second": np.zeros((1, 2 * FEATURE_SIZE), np.float32),
      "first_mask": np.ones(1, bool),
      "second_mask": np.ones(1, bool),
      "label": np.zeros(1, np.int32),
      "example_mask": np.ones(1, bool),
    }

  def list_examples(self, split: str) -> dict[str, dict[str, Any]]:
    """Returns what people read of each example of a split, by record id.

    Returns:
      `text`, which is empty, `answer`, `type` and `image_id`, which is the
      row: rows are independent of each other.

    Raises:
      ValueError: there is no such split.
    """
    labels = self.arrays(split)["label"]
    return {
      record_id: {
        "text": "",
        "answer": str(label),
        "type": self.setting,
        "image_id": row,
      }
      for record_id, row, label in zip(
        self.record_ids(split, len(labels)),
        self._rows(split),
        labels,
        strict=True,
      )
    }

  def _rows(self, split: str) -> range:
    if split not in SPLITS:
      raise ValueError(
        f"the PID suite has no split {split!r}; it has {', '.join(SPLITS)}"
      )
    ends = [0, self.num_rows * 70 // 100, self.num_rows * 85 // 100]
    ends.append(self.num_rows)
    number = SPLITS.index(split)
    return range(ends[number], ends[number + 1])


@functools.lru_cache(maxsize=2)
def _draw_once(setting: str, num_rows: int, seed: int) -> dict[str, np.ndarray]:
  drawn = draw_rows(setting, num_rows, seed)
  for values in drawn.values():
    values.flags.writeable = False
  return drawn
