"""Samples → batches of fixed shapes: padding, packing, cutting into shards.

A sample is one row of a shared modality with its examples, for instance an
image with its questions. `collate` lays samples into one batch, and `pack`
decides which share a batch when all of them have to be seen.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Batch = dict[str, np.ndarray]


class Sample(NamedTuple):
  """One row of a shared modality and its n examples.

  Attributes:
    shared: [...], the row, for instance one image.
    examples: arrays [n, ...] by batch key, `example_mask` [n] among them.
    record_ids: one for each valid example; valid ones come before padding.
  """

  shared: np.ndarray
  examples: dict[str, np.ndarray]
  record_ids: list[str]


class NumberedBatch(NamedTuple):
  """A batch and the ids of its valid examples, in order."""

  batch: Batch
  record_ids: list[str]


def pad_rows(values: np.ndarray, num_rows: int) -> np.ndarray:
  """Pads [n, ...] with zeros (False) to [num_rows, ...].

  Raises:
    ValueError: n is greater than `num_rows`.
  """
  if len(values) > num_rows:
    raise ValueError(f"{len(values)} rows do not fit into {num_rows}")
  padded = np.zeros((num_rows, *values.shape[1:]), values.dtype)
  padded[: len(values)] = values
  return padded


def take_examples(
  sample: Sample, rows: np.ndarray, num_examples: int
) -> Sample:
  """Keeps the examples `rows` of a sample, padded to `num_examples`."""
  examples = {
    key: pad_rows(values[rows], num_examples)
    for key, values in sample.examples.items()
  }
  return Sample(
    sample.shared, examples, [sample.record_ids[row] for row in rows]
  )


def collate(
  samples: Sequence[Sample], *, modality: str, num_rows: int, num_examples: int
) -> Batch:
  """Lays samples into one batch of fixed shapes, in order.

  Args:
    samples: at least one.
    modality: the batch key of the shared rows.
    num_rows: R, rows of the shared modality.
    num_examples: B.

  Returns:
    `modality` [R, ...], `<modality>_mask` [R], `<modality>_index` [B], and
    each key of the samples' examples, [B, ...]; padding is zero and False.
  """
  batch = {
    key: pad_rows(
      np.concatenate([sample.examples[key] for sample in samples]), num_examples
    )
    for key in samples[0].examples
  }
  rows = np.stack([sample.shared for sample in samples])
  lengths = [len(sample.examples["example_mask"]) for sample in samples]
  index = np.repeat(np.arange(len(samples), dtype=np.int32), lengths)
  batch[modality] = pad_rows(rows, num_rows)
  batch[f"{modality}_mask"] = np.arange(num_rows) < len(samples)
  batch[f"{modality}_index"] = pad_rows(index, num_examples)
  return batch


def collate_shards(
  shards: Sequence[Sequence[Sample]],
  *,
  modality: str,
  num_rows: int,
  num_examples: int,
) -> NumberedBatch:
  """Collates one batch for each shard and stacks them.

  Args:
    shards: the samples of each shard; some, but not all, may have none.
    modality: as in `collate`.
    num_rows: rows of the shared modality in one shard.
    num_examples: examples in one shard.

  Returns:
    Arrays as `collate` gives them, with several shards each with a leading
    axis [num_shards, ...]; `<modality>_index` counts within its shard.
  """
  sizes = {"num_rows": num_rows, "num_examples": num_examples}
  batches = [
    collate(samples, modality=modality, **sizes) if samples else None
    for samples in shards
  ]
  record_ids = [
    record_id
    for samples in shards
    for sample in samples
    for record_id in sample.record_ids
  ]
  if len(batches) == 1:
    return NumberedBatch(batches[0], record_ids)
  some = next(batch for batch in batches if batch is not None)
  empty = {key: np.zeros_like(values) for key, values in some.items()}
  batches = [empty if batch is None else batch for batch in batches]
  stacked = {key: np.stack([batch[key] for batch in batches]) for key in some}
  return NumberedBatch(stacked, record_ids)


def pack(
  sizes: Sequence[int], *, capacity: int, max_items: int
) -> list[list[int]]:
  """Packs items into bins: each goes into the first bin with room for it.

  Args:
    sizes: the size of each item, at most `capacity`.
    capacity: what the sizes in one bin may add up to.
    max_items: how many items one bin may hold.

  Returns:
    For each bin its items, as indices into `sizes`, ascending.

  Raises:
    ValueError: an item is larger than `capacity`.
  """
  if max(sizes, default=0) > capacity:
    raise ValueError(f"an item of {max(sizes)} does not fit into {capacity}")
  bins: list[list[int]] = []
  room: list[int] = []
  first_open = 0
  for item, size in enumerate(sizes):
    place = first_open
    while place < len(bins) and (
      room[place] < size or len(bins[place]) >= max_items
    ):
      place += 1
    if place == len(bins):
      bins.append([])
      room.append(capacity)
    bins[place].append(item)
    room[place] -= size
    while first_open < len(bins) and (
      room[first_open] <= 0 or len(bins[first_open]) >= max_items
    ):
      first_open += 1
  return bins
