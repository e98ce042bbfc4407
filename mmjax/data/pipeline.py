"""Record stream → batches, each a pure function of its number.

There is no iterator state: a run that starts again at step k asks for batch k.
Batches are read by number, or in order with threads that prepare them ahead.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from mmjax.data import collation

# Two threads keep the order and hide the read; more only fight for Python.
_NUM_THREADS = 2
_NUM_AHEAD = 8


class Source(Protocol):
  """Samples by index."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> collation.Sample: ...


@dataclasses.dataclass(frozen=True)
class Batches:
  """Batches by number.

  Attributes:
    dataset: a grain MapDataset of `NumberedBatch`; element `step` is a pure
      function of `step`.
    num_batches: how many there are; None is without end (training).
  """

  dataset: Any
  num_batches: int | None

  def batch(self, step: int) -> collation.Batch:
    """Returns batch number `step`, from 0.

    Raises:
      IndexError: there is no such batch.
    """
    return self._numbered(step).batch

  def record_ids(self, step: int) -> list[str]:
    """Returns the ids of the valid examples of batch `step`, in its order.

    With several shards in the order of the shards.
    """
    return self._numbered(step).record_ids

  def iterate(
    self, start: int = 0, stop: int | None = None
  ) -> Iterator[collation.Batch]:
    """Yields batches `start` to `stop` in order, prepared ahead by threads.

    The threads end when the iterator is exhausted or closed.
    """
    import grain

    if stop is None:
      stop = self.num_batches
    options = grain.ReadOptions(
      num_threads=_NUM_THREADS, prefetch_buffer_size=_NUM_AHEAD
    )
    iterator = iter(self.dataset[start:stop].to_iter_dataset(options))
    try:
      for numbered in iterator:
        yield numbered.batch
    finally:
      iterator.close()

  def _numbered(self, step: int) -> collation.NumberedBatch:
    if step < 0 or (self.num_batches is not None and step >= self.num_batches):
      raise IndexError(f"there is no batch {step} of {self.num_batches}")
    return self.dataset[step]


def make_train_batches(
  source: Source,
  draw: Callable[[collation.Sample, np.random.Generator], collation.Sample],
  *,
  modality: str,
  num_rows: int,
  num_examples: int,
  num_shards: int,
  seed: int,
) -> Batches:
  """Makes endless batches of `num_rows` samples with equally many examples.

  Every epoch takes every sample once, in another order. What batch `step`
  holds depends on (seed, step) only: `num_shards` cuts the same batch into
  more pieces, shard s holding the s-th part of the rows and of the examples.

  Args:
    source: the stored samples.
    draw: makes a sample with `num_examples / num_rows` examples, padding
      included, of a stored one; its generator depends on seed, epoch and place.
    modality: the batch key of the shared rows.
    num_rows: rows of that modality on all shards together.
    num_examples: examples on all shards together.
    num_shards: has to divide `num_rows`.
    seed: decides the order and what the generators give.
  """
  import grain

  per_shard = num_rows // num_shards

  def join(samples: Sequence[collation.Sample]) -> collation.NumberedBatch:
    return collation.collate_shards(
      [samples[i : i + per_shard] for i in range(0, num_rows, per_shard)],
      modality=modality,
      num_rows=per_shard,
      num_examples=num_examples // num_shards,
    )

  dataset = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
  dataset = dataset.random_map(draw).batch(num_rows, batch_fn=join)
  return Batches(dataset, num_batches=None)


def make_eval_batches(
  source: Source,
  sizes: Sequence[int],
  *,
  modality: str,
  capacity: int,
  num_shards: int,
) -> Batches:
  """Makes batches that hold every example of every sample exactly once.

  A sample's examples stay together, so that its shared row is stored once.
  Shapes are the same in all batches; the last may have empty shards.

  Args:
    source: the stored samples.
    sizes: the number of examples of each sample, in the order of `source`.
    modality: the batch key of the shared rows.
    capacity: examples in one shard.
    num_shards: shards of a batch.

  Raises:
    ValueError: a sample has more examples than `capacity`.
  """
  import grain

  # As many rows as an average bin fills: more would mostly be padding.
  num_rows = -(-capacity * len(sizes) // sum(sizes))
  bins = collation.pack(sizes, capacity=capacity, max_items=num_rows)
  num_batches = -(-len(bins) // num_shards)
  bins += [[] for _ in range(num_batches * num_shards - len(bins))]

  def read(indices: Sequence[int]) -> list[collation.Sample]:
    return [source[index] for index in indices]

  join = functools.partial(
    collation.collate_shards,
    modality=modality,
    num_rows=num_rows,
    num_examples=capacity,
  )
  dataset = grain.MapDataset.source(bins).map(read)
  dataset = dataset.batch(num_shards, batch_fn=join)
  return Batches(dataset, num_batches=num_batches)
