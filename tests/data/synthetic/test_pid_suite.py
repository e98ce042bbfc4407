import numpy as np
import pytest

from mmjax.data.synthetic.pid import (
  SHARES,
  PidSuite,
  answer_best,
  draw_latents,
  draw_rows,
)

SPLITS = ("train", "validation", "test")


def test_shapes_and_sizes_of_the_splits():
  data = PidSuite()
  sizes = {split: len(data.arrays(split)["label"]) for split in SPLITS}
  assert sizes == {"train": 8400, "validation": 1800, "test": 1800}
  batch = data.arrays("test")
  assert batch["first"].shape == batch["second"].shape == (1800, 200)
  assert batch["first"].dtype == batch["second"].dtype == np.float32
  assert batch["label"].dtype == np.int32
  for name in ("first_mask", "second_mask", "example_mask"):
    assert batch[name].shape == (1800,)
    assert batch[name].all()


def test_the_common_features_are_common_and_the_others_are_not():
  rows = draw_rows("redundancy", 211, 0)
  first, second = rows["first"], rows["second"]
  np.testing.assert_array_equal(first[:, 100:], second[:, 100:])
  pieces = (first[:, :100], second[:, :100], first[:, 100:])
  for piece in pieces:
    # 50 latents behind 100 features.
    sizes = np.linalg.svd(piece.astype(np.float64), compute_uv=False)
    assert sizes[49] > 1
    assert sizes[50] < 1e-3
  # Latents of one piece explain nothing of another.
  correlation = np.corrcoef(pieces[0].sum(axis=1), pieces[1].sum(axis=1))[0, 1]
  assert abs(correlation) < 0.25


def test_features_have_the_variance_of_the_recipe():
  first = draw_rows("redundancy", 2003, 1)["first"]
  # Fifty squares of U(0, 1) numbers add up to 50 / 3 on average.
  assert first.var(axis=0).mean() == pytest.approx(50 / 3, rel=0.05)
  assert abs(first.mean()) < 1


@pytest.mark.parametrize("setting", SHARES)
def test_labels_are_balanced(setting):
  labels = draw_rows(setting, 1002, 3)["label"]
  assert set(labels) == {0, 1}
  assert labels.sum() == 501


@pytest.mark.parametrize("setting", ["unique_2", "mixture_2", "mixture_6"])
def test_the_score_uses_the_shares_of_the_latents(setting):
  rng = np.random.default_rng(5)
  latents, score = draw_latents(setting, 20_011, rng)
  # The slope of the score on each vector's sum is the share times 1/2.
  sums = latents.sum(axis=2).T
  slopes = np.linalg.lstsq(sums, score, rcond=None)[0]
  np.testing.assert_allclose(slopes, np.array(SHARES[setting]) / 2, atol=0.02)
  # The variance is the expected number of entries that count.
  expected = 50 * sum(SHARES[setting]) / 2
  assert score.var() == pytest.approx(expected, rel=0.05)


def test_the_best_rule_can_be_had_from_the_features():
  """With the maps known: latents by least squares, then their weighted sum."""
  rows = draw_rows("synergy", 2003, 4)
  maps = np.random.default_rng(4).random((3, 50, 100))
  pieces = (
    rows["first"][:, :100],
    rows["second"][:, :100],
    rows["first"][:, 100:],
  )
  sums = [
    np.linalg.lstsq(m.T, piece.T.astype(np.float64))[0].sum(axis=0)
    for m, piece in zip(maps, pieces, strict=True)
  ]
  guess = np.array(SHARES["synergy"]) @ np.array(sums) > 0
  right = answer_best("synergy", 2003, 4)
  assert (right == (guess == rows["label"])).mean() > 0.999
  assert 0.72 < right.mean() < 0.78


def test_the_seed_decides_and_settings_share_the_features():
  one, again = (draw_rows("synergy", 101, 7) for _ in range(2))
  for name, values in one.items():
    np.testing.assert_array_equal(values, again[name])
  other_setting = draw_rows("unique_1", 101, 7)
  np.testing.assert_array_equal(one["first"], other_setting["first"])
  assert (one["label"] != other_setting["label"]).any()
  other_seed = draw_rows("synergy", 101, 8)
  assert not np.isclose(one["first"], other_seed["first"]).any(axis=1).all()


def test_splits_are_disjoint_and_complete():
  data = PidSuite("mixture_1", seed=3, num_rows=211)
  rows = np.concatenate([data.arrays(split)["first"] for split in SPLITS])
  assert len(np.unique(rows, axis=0)) == 211
  ids = [list(data.list_examples(split)) for split in SPLITS]
  assert [len(each) for each in ids] == [147, 32, 32]
  assert len({id_.split("/")[1] for each in ids for id_ in each}) == 211


def test_arrays_cannot_be_changed_by_accident():
  batch = PidSuite(num_rows=101).arrays("train")
  for values in batch.values():
    with pytest.raises(ValueError, match="read-only"):
      values[0] = 0


def test_batches_fit_the_rest_of_the_house():
  data = PidSuite("synergy", num_rows=101)
  data.prepare()
  assets = data.load_assets()
  assert assets["labels"] == ["0", "1"]
  counts = np.bincount(data.arrays("train")["label"])
  assert assets["majority_answer"] == str(counts.argmax())
  train = data.train_batches(assets, batch_size=6, seed=1, num_shards=2)
  batch, blank = train.batch(0), data.blank_batch()
  assert batch.keys() == blank.keys()
  for name, values in blank.items():
    assert batch[name].shape[2:] == values.shape[1:]
    assert batch[name].dtype == values.dtype
  evaluation = data.eval_batches(assets, "test", batch_size=7)
  examples = data.list_examples("test")
  seen = []
  for number in range(evaluation.num_batches):
    batch, ids = evaluation.batch(number), evaluation.record_ids(number)
    labels = batch["label"][batch["example_mask"]]
    assert [examples[id_]["answer"] for id_ in ids] == list(map(str, labels))
    seen += ids
  assert seen == list(examples)
  assert set(train.record_ids(0)) <= set(data.list_examples("train"))


@pytest.mark.parametrize(
  ("changes", "match"),
  [
    ({"setting": "magic"}, "no setting 'magic'; it has redundancy, unique_1"),
    ({"seed": -1}, "data.seed is -1"),
    ({"num_rows": 6}, "data.num_rows is 6"),
  ],
)
def test_impossible_settings(changes, match):
  with pytest.raises(ValueError, match=match):
    PidSuite(**changes)


def test_unknown_split():
  with pytest.raises(ValueError, match="no split 'dev'; it has train, val"):
    PidSuite(num_rows=101).arrays("dev")
