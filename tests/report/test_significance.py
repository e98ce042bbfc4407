"""Tests of differences against scipy, hand values and brute force."""

import math

import numpy as np
import pytest
from scipy import stats

from mmjax.report.significance import crossed_bootstrap, holm, paired_t_test


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


def test_crossed_bootstrap_without_spread_among_examples():
  """It is then the bootstrap over three seeds, whose 27 draws are known."""
  seeds = np.array([0.0, 0.3, 0.9])
  interval = crossed_bootstrap(
    np.repeat(seeds[:, None], 5, axis=1), num_resamples=20_000, confidence=0.8
  )
  draws = np.stack(np.meshgrid(seeds, seeds, seeds)).reshape(3, -1).mean(0)
  low, high = np.quantile(draws, [0.1, 0.9])
  assert interval.estimate == pytest.approx(0.4)
  assert interval.low == pytest.approx(low, abs=1e-9)
  assert interval.high == pytest.approx(high, abs=1e-9)


def test_crossed_bootstrap_knows_both_sources():
  """Effects of seeds and examples, whose variances add up."""
  rng = np.random.default_rng(5)
  seeds, examples = rng.normal(size=(40, 1)), rng.normal(size=(1, 70))
  interval = crossed_bootstrap(seeds + examples, num_resamples=4000)
  deviation = (seeds.var() / 40 + examples.var() / 70) ** 0.5
  assert interval.high - interval.low == pytest.approx(
    2 * 1.96 * deviation, rel=0.08
  )
  again = crossed_bootstrap(seeds + examples, num_resamples=4000)
  assert again == interval


def test_crossed_bootstrap_of_nothing():
  with pytest.raises(ValueError, match=r"got \[0, 3\]"):
    crossed_bootstrap(np.zeros((0, 3)))
