"""Pairs of a written and a spoken digit: drawn fairly, with speech encoded.

What is drawn depends on seed, split and place only, and never on how much is
drawn: the first pairs are the same however many there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import digits


def make_rng(seed: int, split: str, purpose: str) -> np.random.Generator:
  """Makes the generator of one purpose.

  As each purpose has its own, what is drawn for one does not depend on how
  much is drawn for another: the first clips or pairs are the same however many
  are made. Only training follows the seed: validation and test are the same
  for all.
  """
  seed = seed if split == "train" else 0
  return np.random.default_rng([seed, *f"{split}/{purpose}".encode()])


def deal(
  items: np.ndarray, number: int, rng: np.random.Generator
) -> np.ndarray:
  """Deals items like cards: all in random order, then all again.

  Returns:
    [number, ...]; the counts of any two items differ by at most one.
  """
  rounds = -(-number // len(items))
  dealt = [rng.permutation(items) for _ in range(rounds)]
  return np.concatenate(dealt)[:number]


def draw_pairs(
  combinations: Sequence[tuple[int, int]],
  number: int,
  written: digits.Written,
  spoken: digits.Spoken,
  *,
  seed: int,
  split: str,
) -> tuple[np.ndarray, np.ndarray]:
  """Draws pairs of a written and a spoken digit from within a split.

  All combinations come equally often, and so do all items of a class.

  Args:
    combinations: classes (written, spoken) that may go together.
    number: pairs to draw.
    written: the written digits of the split.
    spoken: the spoken digits of the split.
    seed: decides the pairs of the training split.
    split: one of `digits.SPLITS`.

  Returns:
    Rows of `written` and rows of `spoken`, int [number] each.
  """
  rng = make_rng(seed, split, "pairs")
  classes = deal(np.array(combinations), number, rng)
  rows = [
    deal_items(
      classes[:, kind], labels, seed=seed, split=split, purpose=f"items/{kind}"
    )
    for kind, labels in enumerate((written.labels, spoken.labels))
  ]
  return rows[0], rows[1]


def deal_items(
  classes: np.ndarray,
  labels: np.ndarray,
  *,
  seed: int,
  split: str,
  purpose: str,
) -> np.ndarray:
  """Deals each place an item of its class; all items of a class alike.

  Args:
    classes: int [n], the wanted class of each place.
    labels: int [items], the class of each item of the split.
    seed: decides for the training split.
    split: one of `digits.SPLITS`.
    purpose: see `make_rng`.

  Returns:
    int [n], rows of `labels`.
  """
  rows = np.zeros(len(classes), np.int64)
  for label in np.unique(classes):
    (places,) = np.nonzero(classes == label)
    rng = make_rng(seed, split, f"{purpose}/{label}")
    rows[places] = deal(np.flatnonzero(labels == label), len(places), rng)
  return rows


def fit_speech(spoken: digits.Spoken) -> dict[str, list[float]]:
  """Fits mean and standard deviation of each coefficient; JSON values.

  Args:
    spoken: recordings of the training split and of no other.

  Returns:
    `audio_mean` and `audio_std`, 13 numbers each, over all frames.
  """
  frames = spoken.frames[digits.is_present(spoken.lengths, digits.MAX_FRAMES)]
  frames = frames.astype(np.float64)
  return {
    "audio_mean": frames.mean(axis=0).tolist(),
    "audio_std": frames.std(axis=0).tolist(),
  }


def encode_speech(
  spoken: digits.Spoken,
  rows: np.ndarray,
  assets: Mapping[str, Sequence[float]],
  *,
  max_frames: int,
  noise: float,
  rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
  """Standardises recordings and adds noise to them.

  Args:
    spoken: recordings.
    rows: int [n], which of them.
    assets: what `fit_speech` gave.
    max_frames: T; what comes later is cut.
    noise: standard deviation of the normal noise in each coefficient, in units
      of that coefficient's own over the training split.
    rng: gives the noise.

  Returns:
    float32 [n, T, 13], zero where masked, and the mask, bool [n, T].
  """
  mask = digits.is_present(spoken.lengths[rows], max_frames)
  mean = np.array(assets["audio_mean"])
  std = np.array(assets["audio_std"])
  values = ((spoken.frames[:, :max_frames] - mean) / std).astype(np.float32)
  values = values[rows]
  if noise:
    values += np.float32(noise) * rng.standard_normal(
      values.shape, dtype=np.float32
    )
  return np.where(mask[..., None], values, np.float32(0)), mask


def blank_speech(max_frames: int) -> dict[str, np.ndarray]:
  """Returns `audio` and `audio_mask` of one silent recording, all present."""
  return {
    "audio": np.zeros((1, max_frames, digits.NUM_COEFFICIENTS), np.float32),
    "audio_mask": np.ones((1, max_frames), bool),
  }


def check_settings(data: Any, *, at_least_one: Sequence[str]) -> None:
  """Checks the settings that all data sets of digits have.

  Args:
    data: a data set with `max_frames`, `noise` and `seed`.
    at_least_one: names of attributes that are at least 1.

  Raises:
    ValueError: one of them makes no sense; one sentence.
  """
  for name in ("max_frames", *at_least_one):
    if getattr(data, name) < 1:
      raise ValueError(
        f"data.{name} is {getattr(data, name)}; it has to be at least 1"
      )
  if data.max_frames > digits.MAX_FRAMES:
    raise ValueError(
      f"data.max_frames is {data.max_frames}, but the longest recording has "
      f"{digits.MAX_FRAMES} frames; set it to at most that"
    )
  if not 0 <= data.noise < np.inf:
    raise ValueError(
      f"data.noise is {data.noise}; it is a standard deviation, 0 or more"
    )
  if data.seed < 0:
    raise ValueError(f"data.seed is {data.seed}; it has to be at least 0")
