import numpy as np
import pytest

from mmjax.data import arrays


def _make(rows=11):
  values = np.arange(rows, dtype=np.float32)[:, None] * np.ones(3, np.float32)
  columns = {"x": values, "example_mask": np.ones(rows, bool)}
  return columns, [f"row/{row}" for row in range(rows)]


def test_every_epoch_takes_every_row_once_in_another_order():
  columns, ids = _make(12)
  batches = arrays.make_train_batches(columns, ids, batch_size=4, seed=7)
  assert batches.num_batches is None
  epochs = []
  for epoch in range(2):
    rows = np.concatenate(
      [batches.batch(3 * epoch + i)["x"][:, 0] for i in range(3)]
    )
    np.testing.assert_array_equal(np.sort(rows), np.arange(12))
    epochs.append(rows.tolist())
  assert epochs[0] != epochs[1]


def test_a_batch_depends_on_seed_and_number_only():
  columns, ids = _make()
  make = arrays.make_train_batches
  first = make(columns, ids, batch_size=4, seed=1)
  again = make(columns, ids, batch_size=4, seed=1)
  other = make(columns, ids, batch_size=4, seed=2)
  assert first.record_ids(9) == again.record_ids(9)
  assert first.record_ids(9) != other.record_ids(9)
  np.testing.assert_array_equal(first.batch(9)["x"], again.batch(9)["x"])
  names = [f"row/{round(value)}" for value in first.batch(9)["x"][:, 0]]
  assert first.record_ids(9) == names


class Rows(arrays.ArrayData):
  """Eleven rows."""

  def load_assets(self):
    return {}

  def encode_split(self, assets, split):
    columns, _ = _make()
    return {**columns, "label": np.arange(11)}


def test_single_records_are_batches_of_one():
  one, other = Rows().take_records({}, ["test/7", "test/2"])
  assert one["label"].tolist() == [7]
  assert other["x"].tolist() == [[2, 2, 2]]
  assert other["example_mask"].tolist() == [True]
  with pytest.raises(
    ValueError, match=r"'test/11'.*'test/0'.* 11 is 'test/10'"
  ):
    Rows().take_records({}, ["test/7", "test/11"])


def test_shards_cut_the_same_batch():
  columns, ids = _make()
  whole, cut = (
    arrays.make_train_batches(
      columns, ids, batch_size=6, seed=1, num_shards=shards
    )
    for shards in (1, 3)
  )
  assert cut.batch(2)["x"].shape == (3, 2, 3)
  np.testing.assert_array_equal(
    cut.batch(2)["x"].reshape(6, 3), whole.batch(2)["x"]
  )
  assert cut.record_ids(2) == whole.record_ids(2)


def test_evaluation_sees_every_row_once_and_pads():
  columns, ids = _make()
  batches = arrays.make_eval_batches(columns, ids, batch_size=4, num_shards=2)
  assert batches.num_batches == 3
  read = list(batches.iterate())
  assert all(batch["x"].shape == (2, 2, 3) for batch in read)
  mask = np.concatenate([batch["example_mask"].ravel() for batch in read])
  rows = np.concatenate([batch["x"][..., 0].ravel() for batch in read])
  np.testing.assert_array_equal(mask, [True] * 11 + [False])
  np.testing.assert_array_equal(rows, [*range(11), 0])
  seen = [row for number in range(3) for row in batches.record_ids(number)]
  assert seen == ids


@pytest.mark.parametrize(
  ("make", "name"),
  [
    (lambda *a, **k: arrays.make_train_batches(*a, seed=0, **k), "training"),
    (arrays.make_eval_batches, "evaluation"),
  ],
)
def test_batch_sizes_that_devices_cannot_share(make, name):
  columns, ids = _make()
  with pytest.raises(
    ValueError, match=f"{name}.batch_size is 5.*multiple of 2"
  ):
    make(columns, ids, batch_size=5, num_shards=2)
