"""Tests of differences against scipy, hand values and brute force."""

import math

import numpy as np
import pytest
from scipy import stats

from mmjax.report.intervals import student_t
from mmjax.report.significance import holm, paired_interval, paired_t_test


@pytest.mark.parametrize("number", [2, 3, 4, 5, 8, 11])
def test_paired_t_test_equals_scipy(number):
  rng = np.random.default_rng(number)
  values = rng.normal(0.3, 1.0, number)
  others = rng.normal(0.0, 1.0, number)
  p = stats.ttest_rel(values, others).pvalue
  assert paired_t_test(values.tolist(), others.tolist()) == pytest.approx(p)


def test_paired_t_test_without_spread():
  assert paired_t_test([1.0, 2.0], [1.0, 2.0]) == 1.0
  assert paired_t_test([2.0, 3.0], [1.0, 2.0]) == 0.0
  assert math.isnan(paired_t_test([1.0], [2.0]))
  with pytest.raises(ValueError, match="shorter"):
    paired_t_test([1.0, 2.0], [1.0])


def test_holm_by_hand():
  assert holm([0.04, math.nan, 0.01, 0.03])[0] == pytest.approx(0.06)
  assert holm([0.5, 0.9]) == [1.0, 1.0]
  assert math.isnan(holm([math.nan, 0.2])[0])
  assert holm([math.nan, 0.2])[1] == 0.2
  assert holm([]) == []


def test_one_source_is_students_interval():
  """Examples that all seeds answer alike, or that each seed has its own of."""
  rng = np.random.default_rng(2)
  seeds = rng.normal(size=5)
  expected = student_t(seeds.tolist())
  alike = np.repeat(seeds[:, None], 7, axis=1)
  noise = rng.normal(size=(5, 7))
  own = alike + noise - noise.mean(axis=1, keepdims=True)
  for differences, shared in ((alike, True), (own, False)):
    interval = paired_interval(differences, shared_examples=shared)
    assert interval.estimate == pytest.approx(expected.estimate)
    assert interval.low == pytest.approx(expected.low)
    assert interval.high == pytest.approx(expected.high)


def test_both_sources_by_hand():
  """Effects of 3 seeds and 4 examples; degrees by Satterthwaite's formula."""
  differences = np.array([[0.0], [3.0], [6.0]]) + np.array([[0, 2, 4, 6]])
  a, b = 9 / 3, (20 / 3) / 4
  degrees = math.floor((a + b) ** 2 / (a**2 / 2 + b**2 / 3))
  half = stats.t.ppf(0.975, degrees) * (a + b) ** 0.5
  interval = paired_interval(differences, shared_examples=True)
  assert degrees == 4
  assert interval.estimate == pytest.approx(6.0)
  assert interval.high - 6.0 == pytest.approx(half)
  assert 6.0 - interval.low == pytest.approx(half)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_the_interval_covers_the_truth(num_seeds, shared):
  """Right and wrong answers of two methods, drawn 600 times."""
  rng = np.random.default_rng(num_seeds)
  truth, covered = 0.1, 0
  for _ in range(600):
    # Chances of being right: of examples, to each method its own, and of seeds.
    rows = 1 if shared else num_seeds
    chance = rng.uniform(0.2, 0.7, (2, rows, 300))
    skill = rng.normal(0, 0.03, (2, num_seeds, 1))
    skill[0] += truth
    right = rng.random((2, num_seeds, 300)) < chance + skill
    differences = right[0].astype(int) - right[1]
    interval = paired_interval(differences, shared_examples=shared)
    covered += interval.low <= truth <= interval.high
  assert 0.925 < covered / 600 < 0.995


def test_one_seed_has_no_interval():
  interval = paired_interval(np.array([[0, 1, 1]]), shared_examples=True)
  assert interval.estimate == pytest.approx(2 / 3)
  assert (interval.low, interval.high) == (-math.inf, math.inf)


def test_no_difference_at_all():
  interval = paired_interval(np.zeros((3, 4)), shared_examples=True)
  assert (interval.low, interval.high) == (0.0, 0.0)


def test_an_interval_of_nothing():
  with pytest.raises(ValueError, match=r"got \[0, 3\]"):
    paired_interval(np.zeros((0, 3)), shared_examples=True)
