import itertools
import threading

import numpy as np
import pytest

from mmjax.data import collation, pipeline


def make_sample(number, num_examples):
  """A sample whose every value tells where it is from."""
  return collation.Sample(
    shared=np.full((2, 3), number + 1, np.uint8),
    examples={
      "label": (100 * (number + 1) + np.arange(num_examples)).astype(np.int32),
      "example_mask": np.ones(num_examples, bool),
    },
    record_ids=[f"{number}/{i}" for i in range(num_examples)],
  )


def draw(sample, rng):
  rows = rng.permutation(len(sample.record_ids))[:2]
  return collation.take_examples(sample, rows, 2)


def train(samples, num_rows=6, seed=3, num_shards=1):
  return pipeline.make_train_batches(
    samples,
    draw,
    modality="image",
    num_rows=num_rows,
    num_examples=2 * num_rows,
    num_shards=num_shards,
    seed=seed,
  )


SAMPLES = [make_sample(i, 1 + i % 4) for i in range(11)]


def assert_equal(a, b):
  assert a.keys() == b.keys()
  for key in a:
    np.testing.assert_array_equal(a[key], b[key])
    assert a[key].dtype == b[key].dtype


def test_collate_by_hand():
  batch = collation.collate(
    [make_sample(0, 2), make_sample(1, 1)],
    modality="image",
    num_rows=3,
    num_examples=5,
  )
  assert batch.keys() == {
    "image",
    "image_mask",
    "image_index",
    "label",
    "example_mask",
  }
  np.testing.assert_array_equal(batch["image"][:, 0, 0], [1, 2, 0])
  np.testing.assert_array_equal(batch["image_mask"], [True, True, False])
  np.testing.assert_array_equal(batch["image_index"], [0, 0, 1, 0, 0])
  np.testing.assert_array_equal(batch["label"], [100, 101, 200, 0, 0])
  np.testing.assert_array_equal(batch["example_mask"], [1, 1, 1, 0, 0])
  with pytest.raises(ValueError, match="do not fit"):
    collation.collate(
      [make_sample(0, 6)], modality="image", num_rows=3, num_examples=5
    )


def test_pack_by_hand_and_in_general():
  bins = collation.pack([3, 4, 2, 1, 1, 1], capacity=5, max_items=2)
  assert bins == [[0, 2], [1, 3], [4, 5]]
  sizes = np.random.default_rng(0).integers(1, 8, 211).tolist()
  for capacity, max_items in [(7, 3), (29, 5), (29, 100)]:
    bins = collation.pack(sizes, capacity=capacity, max_items=max_items)
    assert sorted(itertools.chain(*bins)) == list(range(211))
    for members in bins:
      assert 1 <= len(members) <= max_items
      assert sum(sizes[i] for i in members) <= capacity
  with pytest.raises(ValueError, match="does not fit"):
    collation.pack([3, 9], capacity=8, max_items=2)


def test_train_batch_is_a_function_of_seed_and_step():
  first, again = train(SAMPLES), train(SAMPLES)
  for step in (7, 0, 3, 7):
    assert_equal(first.batch(step), again.batch(step))
    assert first.record_ids(step) == again.record_ids(step)
  other = train(SAMPLES, seed=4)
  assert any(first.record_ids(i) != other.record_ids(i) for i in range(3))
  assert first.num_batches is None
  assert first.record_ids(0) != first.record_ids(11)


def test_iterate_gives_the_same_batches_from_any_start():
  batches = train(SAMPLES)
  for start, stop in [(0, 9), (5, 12)]:
    read = list(batches.iterate(start, stop))
    assert len(read) == stop - start
    for step, batch in zip(range(start, stop), read, strict=True):
      assert_equal(batch, batches.batch(step))


def test_closing_ends_the_threads():
  before = threading.active_count()
  iterator = train(SAMPLES).iterate(4)
  next(iterator)
  threads = [t for t in threading.enumerate() if "grain" in t.name]
  assert threads
  iterator.close()
  for thread in threads:
    thread.join(timeout=60)
  assert threading.active_count() <= before


def test_each_epoch_has_every_sample_once_in_another_order():
  batches = train(SAMPLES, num_rows=1)
  epochs = [
    [batches.batch(e * 11 + i)["image"][0, 0, 0] for i in range(11)]
    for e in range(3)
  ]
  for epoch in epochs:
    assert sorted(epoch) == list(range(1, 12))
  assert epochs[0] != epochs[1] != epochs[2]


def test_shards_cut_the_same_batch():
  whole = train(SAMPLES)
  for num_shards in (2, 3, 6):
    cut = train(SAMPLES, num_shards=num_shards)
    for step in range(4):
      expected, batch = whole.batch(step), cut.batch(step)
      assert whole.record_ids(step) == cut.record_ids(step)
      rows = 6 // num_shards
      assert batch["image"].shape == (num_shards, rows, 2, 3)
      assert batch["image_index"].max() == rows - 1
      offset = rows * np.arange(num_shards, dtype=np.int32)[:, None]
      batch["image_index"] = batch["image_index"] + offset
      joined = {
        key: values.reshape(-1, *values.shape[2:])
        for key, values in batch.items()
      }
      assert_equal(joined, expected)


def test_train_batches_are_image_major_with_masked_padding():
  batch = train(SAMPLES).batch(0)
  np.testing.assert_array_equal(batch["image_index"], np.arange(12) // 2)
  owner = batch["image"][batch["image_index"], 0, 0]
  valid = batch["example_mask"]
  assert not valid.all()
  np.testing.assert_array_equal(batch["label"][valid] // 100, owner[valid])
  assert (batch["label"][~valid] == 0).all()


@pytest.mark.parametrize("num_shards", [1, 2, 3])
@pytest.mark.parametrize("capacity", [4, 7, 30])
def test_eval_batches_hold_everything_once(capacity, num_shards):
  sizes = [len(sample.record_ids) for sample in SAMPLES]
  batches = pipeline.make_eval_batches(
    SAMPLES,
    sizes,
    modality="image",
    capacity=capacity,
    num_shards=num_shards,
  )
  seen, shapes = [], set()
  for step, batch in enumerate(batches.iterate()):
    assert_equal(batch, batches.batch(step))
    if num_shards == 1:
      batch = {key: values[None] for key, values in batch.items()}
    shapes.add(tuple((k, v.shape, v.dtype) for k, v in sorted(batch.items())))
    for shard in range(num_shards):
      part = {key: values[shard] for key, values in batch.items()}
      valid = part["example_mask"]
      seen += part["label"][valid].tolist()
      index = part["image_index"]
      assert index.max() < len(part["image"])
      assert part["image_mask"][index[valid]].all()
      np.testing.assert_array_equal(
        part["image"][index[valid], 0, 0], part["label"][valid] // 100
      )
      assert (part["image"][~part["image_mask"]] == 0).all()
  assert step + 1 == batches.num_batches
  assert len(shapes) == 1
  everything = np.concatenate([s.examples["label"] for s in SAMPLES])
  assert sorted(seen) == sorted(everything.tolist())
  record_ids = [
    i for step in range(batches.num_batches) for i in batches.record_ids(step)
  ]
  assert sorted(record_ids) == sorted(
    record_id for sample in SAMPLES for record_id in sample.record_ids
  )
  for step in (-1, batches.num_batches):
    with pytest.raises(IndexError, match="no batch"):
      batches.batch(step)
