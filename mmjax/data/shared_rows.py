"""Arrays in memory as batches of rows that serve several examples each.

As in `arrays`, but every row, say a scene, has equally many examples, say eight
questions, which stay together: what they share is in a batch once.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mmjax.data import arrays, collation, pipeline


@dataclasses.dataclass(frozen=True)
class SharedRows:
  """A split of n rows with K examples each.

  Attributes:
    encoded: arrays [n, ...], and [n K, ...] of `example_keys`, K of each row
      after the other.
    row_ids: n ids; those of examples are `<row>/<example>`.
    example_keys: what each example has of its own, `example_mask` among it.
    index_keys: entries of a batch that tell an example its row, int32 [B].
    per_row: K.
  """

  encoded: collation.Batch
  row_ids: Sequence[str]
  example_keys: Sequence[str]
  index_keys: Sequence[str]
  per_row: int

  def train_batches(
    self, *, batch_size: int, seed: int, num_shards: int
  ) -> pipeline.Batches:
    """Makes endless batches; every epoch takes every row once, in new order.

    Args:
      batch_size: B, examples on all shards together.
      seed: decides the order of the rows.
      num_shards: parts that a batch is cut into.

    Raises:
      ValueError: B is not a multiple of K on each shard.
    """
    batches = arrays.make_train_batches(
      self._group(),
      self.row_ids,
      batch_size=self._count_rows("training", batch_size, num_shards),
      seed=seed,
      num_shards=num_shards,
    )
    return self._flatten(batches, num_shards)

  def eval_batches(
    self, *, batch_size: int, num_shards: int
  ) -> pipeline.Batches:
    """Makes batches that hold every example once, in order; the last is padded.

    Args:
      batch_size: B, examples on all shards together.
      num_shards: parts that a batch is cut into.

    Raises:
      ValueError: B is not a multiple of K on each shard.
    """
    batches = arrays.make_eval_batches(
      self._group(),
      self.row_ids,
      batch_size=self._count_rows("evaluation", batch_size, num_shards),
      num_shards=num_shards,
    )
    return self._flatten(batches, num_shards)

  def _count_rows(self, part: str, batch_size: int, num_shards: int) -> int:
    unit = self.per_row * num_shards
    if batch_size < 1 or batch_size % unit:
      raise ValueError(
        f"{part}.batch_size is {batch_size}, which {num_shards} device(s) with "
        f"{self.per_row} examples that stay together cannot share; set "
        f"{part}.batch_size to a multiple of {unit}"
      )
    return batch_size // self.per_row

  def _group(self) -> collation.Batch:
    """Returns arrays by row, [n, ...] or [n, K, ...]."""
    return {
      key: values.reshape(-1, self.per_row, *values.shape[1:])
      if key in self.example_keys
      else values
      for key, values in self.encoded.items()
      if key not in self.index_keys
    }

  def _flatten(
    self, batches: pipeline.Batches, num_shards: int
  ) -> pipeline.Batches:
    """Turns batches of rows into batches of examples with indices."""
    axis = int(num_shards > 1)

    def flatten(of_rows: collation.NumberedBatch) -> collation.NumberedBatch:
      batch = dict(of_rows.batch)
      num_rows = batch["example_mask"].shape[axis]
      for key in self.example_keys:
        shape = batch[key].shape
        batch[key] = batch[key].reshape(*shape[:axis], -1, *shape[axis + 2 :])
      index = np.arange(num_rows, dtype=np.int32).repeat(self.per_row)
      index = np.broadcast_to(index, batch["example_mask"].shape)
      ids = [
        f"{row}/{example}"
        for row in of_rows.record_ids
        for example in range(self.per_row)
      ]
      return collation.NumberedBatch(
        {**batch, **dict.fromkeys(self.index_keys, index)}, ids
      )

    return pipeline.Batches(batches.dataset.map(flatten), batches.num_batches)
