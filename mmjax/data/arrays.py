"""Arrays in memory as batches: every example is one row of each array.

For data that are small or generated. A batch is cut out by one fancy index for
each array, and is a pure function of its number, as in `pipeline.py`.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import collation, pipeline


class ArrayData(abc.ABC):
  """A data set each of whose splits is one batch in memory.

  A subclass says what a split holds; all that training and evaluation ask for
  follows from it.
  """

  def prepare(self) -> None:
    """Makes the data ready on this machine, or sees whether they are.

    Raises:
      ValueError: they are not, and cannot be made.
    """
    self.load_assets()

  @abc.abstractmethod
  def load_assets(self) -> dict[str, Any]:
    """Returns what is fitted to the training split; plain JSON values."""

  @abc.abstractmethod
  def encode_split(
    self, assets: Mapping[str, Any], split: str
  ) -> collation.Batch:
    """Returns a whole split as one batch, [n, ...] by key.

    Args:
      assets: what `load_assets` gave, for instance from a checkpoint.
      split: the name of the split.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """

  def record_ids(self, split: str, num_rows: int) -> list[str]:
    """Returns the ids `<split>/<row>` of the rows of a split."""
    return [f"{split}/{row}" for row in range(num_rows)]

  def take_records(
    self, assets: Mapping[str, Any], record_ids: Sequence[str]
  ) -> list[collation.Batch]:
    """Returns a batch of one for each of some examples of a split.

    Args:
      assets: what `load_assets` gave, for instance from a checkpoint.
      record_ids: ids that `list_examples` lists, of one split.

    Raises:
      ValueError: there is no such record.
    """
    split = record_ids[0].partition("/")[0]
    encoded = self.encode_split(assets, split)
    known = self.record_ids(split, len(encoded["label"]))
    rows = {record_id: row for row, record_id in enumerate(known)}
    unknown = sorted(set(record_ids) - set(rows))
    if unknown:
      raise ValueError(
        f"there is no record {unknown[0]!r} in {split!r}; the first one is"
        f" {known[0]!r}, and the last of {len(known):,} is {known[-1]!r}"
      )
    return [
      {key: values[rows[one]][None] for key, values in encoded.items()}
      for one in record_ids
    ]

  def place_tokens(
    self, batch: collation.Batch
  ) -> dict[str, tuple[list[str], np.ndarray]]:
    """Tells where tokens lie, see `PictureQuestions.place_tokens`: nowhere."""
    del batch
    return {}

  def arrays(self, split: str) -> collation.Batch:
    """Returns a whole split as one batch, for training in memory.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    return self.encode_split(self.load_assets(), split)

  def train_batches(
    self,
    assets: Mapping[str, Any],
    *,
    batch_size: int,
    seed: int,
    num_shards: int = 1,
  ) -> pipeline.Batches:
    """Returns endless training batches; see `make_train_batches`.

    Args:
      assets: what `load_assets` gave.
      batch_size: B, on all shards together.
      seed: decides the order of the rows.
      num_shards: devices that the batch is cut for.

    Raises:
      ValueError: `num_shards` does not divide B, or the data are not prepared.
    """
    encoded = self.encode_split(assets, "train")
    return make_train_batches(
      encoded,
      self.record_ids("train", len(encoded["label"])),
      batch_size=batch_size,
      seed=seed,
      num_shards=num_shards,
    )

  def eval_batches(
    self,
    assets: Mapping[str, Any],
    split: str,
    *,
    batch_size: int,
    num_shards: int = 1,
  ) -> pipeline.Batches:
    """Returns batches that hold every row of a split exactly once.

    Args:
      assets: what `load_assets` gave, for instance from a checkpoint.
      split: the name of the split.
      batch_size: B, on all shards together.
      num_shards: devices that the batch is cut for.

    Raises:
      ValueError: there is no such split, `num_shards` does not divide B, or
        the data are not prepared.
    """
    encoded = self.encode_split(assets, split)
    return make_eval_batches(
      encoded,
      self.record_ids(split, len(encoded["label"])),
      batch_size=batch_size,
      num_shards=num_shards,
    )


def make_train_batches(
  arrays: Mapping[str, np.ndarray],
  record_ids: Sequence[str],
  *,
  batch_size: int,
  seed: int,
  num_shards: int = 1,
) -> pipeline.Batches:
  """Makes endless batches; every epoch takes every row once, in new order.

  Args:
    arrays: [n, ...] by batch key, `example_mask` among them.
    record_ids: n ids.
    batch_size: B, examples on all shards together.
    seed: decides the order.
    num_shards: has to divide B; shard s holds the s-th part of the same batch.

  Raises:
    ValueError: B is below 1 or no multiple of `num_shards`.
  """
  import grain

  _check_batch_size("training", batch_size, num_shards)
  dataset = grain.MapDataset.source(range(len(record_ids)))
  dataset = dataset.seed(seed).shuffle().repeat()
  dataset = dataset.batch(
    batch_size, batch_fn=_make_take(arrays, record_ids, batch_size, num_shards)
  )
  return pipeline.Batches(dataset, num_batches=None)


def make_eval_batches(
  arrays: Mapping[str, np.ndarray],
  record_ids: Sequence[str],
  *,
  batch_size: int,
  num_shards: int = 1,
) -> pipeline.Batches:
  """Makes batches that hold every row once, in order; the last is padded.

  Args:
    arrays: [n, ...] by batch key, `example_mask` among them.
    record_ids: n ids.
    batch_size: B, examples on all shards together.
    num_shards: has to divide B.

  Raises:
    ValueError: B is below 1 or no multiple of `num_shards`.
  """
  import grain

  _check_batch_size("evaluation", batch_size, num_shards)
  num_rows = len(record_ids)
  pieces = [
    range(start, min(start + batch_size, num_rows))
    for start in range(0, num_rows, batch_size)
  ]
  take = _make_take(arrays, record_ids, batch_size, num_shards)
  dataset = grain.MapDataset.source(pieces).map(take)
  return pipeline.Batches(dataset, num_batches=len(pieces))


def _check_batch_size(part: str, batch_size: int, num_shards: int) -> None:
  if batch_size < 1 or batch_size % num_shards:
    raise ValueError(
      f"{part}.batch_size is {batch_size}, which {num_shards} devices cannot"
      f" share; set {part}.batch_size to a multiple of {num_shards}"
    )


def _make_take(
  arrays: Mapping[str, np.ndarray],
  record_ids: Sequence[str],
  batch_size: int,
  num_shards: int,
) -> Callable[[Sequence[int]], collation.NumberedBatch]:
  """Returns a function from row numbers to a batch, padded and cut."""

  def take(rows: Sequence[int]) -> collation.NumberedBatch:
    rows = list(rows)
    batch = {
      key: collation.pad_rows(values[rows], batch_size)
      for key, values in arrays.items()
    }
    if num_shards > 1:
      batch = {
        key: values.reshape(num_shards, -1, *values.shape[1:])
        for key, values in batch.items()
      }
    return collation.NumberedBatch(batch, [record_ids[row] for row in rows])

  return take
