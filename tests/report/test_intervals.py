"""Intervals against hand values, scipy, and cases with a known answer."""

import math

import numpy as np
import pytest
from scipy import stats

from mmjax.report.intervals import (
  accuracy_by_group,
  accuracy_interval,
  cluster_bootstrap,
  student_t,
  wilson,
)


def test_wilson_by_hand():
  # n = 10, p = 0.5, z² = 3.8415: centre 0.5, half
  # 1.96 · sqrt(0.025 + 0.009604) / 1.38415 = 0.26340.
  interval = wilson(5, 10)
  assert interval.estimate == 0.5
  assert interval.low == pytest.approx(0.23660, abs=1e-5)
  assert interval.high == pytest.approx(0.76340, abs=1e-5)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(
  ("num_correct", "num_examples"), [(0, 7), (1, 7), (7, 7), (9634, 9673)]
)
def test_wilson_equals_scipy(num_correct, num_examples, confidence):
  ours = wilson(num_correct, num_examples, confidence=confidence)
  theirs = stats.binomtest(num_correct, num_examples).proportion_ci(
    confidence, method="wilson"
  )
  assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_wilson_of_nothing_knows_nothing():
  interval = wilson(0, 0)
  assert math.isnan(interval.estimate)
  assert (interval.low, interval.high, interval.num_examples) == (0, 1, 0)


@pytest.mark.parametrize("counts", [(5, 3), (-1, 3)])
def test_wilson_refuses_impossible_counts(counts):
  with pytest.raises(ValueError, match="num_correct"):
    wilson(*counts)


def test_wrong_confidence_is_refused():
  with pytest.raises(ValueError, match=r"0\.95 is usual"):
    wilson(1, 2, confidence=95)


def _width(interval):
  return interval.high - interval.low


def test_bootstrap_of_single_questions_is_the_ordinary_one():
  values = np.random.default_rng(3).random(211) < 0.8
  ours = cluster_bootstrap(values, np.arange(211), num_resamples=8000)
  theirs = stats.bootstrap(
    (values,), np.mean, method="percentile", n_resamples=8000, rng=1
  ).confidence_interval
  assert ours.estimate == values.mean()
  assert ours.low == pytest.approx(theirs.low, abs=0.006)
  assert ours.high == pytest.approx(theirs.high, abs=0.006)
  normal = 2 * 1.96 * math.sqrt(values.mean() * (1 - values.mean()) / 211)
  assert _width(ours) == pytest.approx(normal, rel=0.06)


def test_bootstrap_of_equal_answers_is_wider_by_the_root_of_their_number():
  per_image = np.random.default_rng(5).random(211) < 0.7
  values = np.repeat(per_image, 9)
  independent = cluster_bootstrap(
    values, np.arange(values.size), num_resamples=4000
  )
  dependent = cluster_bootstrap(
    values, np.repeat(np.arange(211), 9), num_resamples=4000
  )
  ratio = _width(dependent) / _width(independent)
  assert ratio == pytest.approx(3.0, rel=0.08)


def test_bootstrap_ignores_order_and_names_of_clusters():
  values = np.array([1, 0, 1, 1, 0, 1, 1])
  clusters = np.array([0, 0, 1, 1, 2, 2, 2])
  order = np.array([6, 0, 3, 2, 5, 1, 4])
  names = np.array(["a", "b", "c"])[clusters]
  expected = cluster_bootstrap(values, clusters)
  assert cluster_bootstrap(values[order], names[order]) == expected


def test_bootstrap_weighs_images_by_their_questions():
  # 1 of 1 and 0 of 3: resamples are 1/1, 1/4 (twice) and 0/3.
  interval = cluster_bootstrap([1, 0, 0, 0], [0, 1, 1, 1], confidence=0.4)
  assert interval.estimate == 0.25
  assert (interval.low, interval.high) == (0.25, 0.25)
  interval = cluster_bootstrap([1, 0, 0, 0], [0, 1, 1, 1], confidence=0.6)
  assert (interval.low, interval.high) == (0.0, 1.0)


def test_bootstrap_needs_a_cluster_for_each_value():
  with pytest.raises(ValueError, match=r"values \[3\] and clusters \[2\]"):
    cluster_bootstrap([1, 0, 1], [0, 1])


def test_accuracy_without_a_mistake_is_not_certain():
  interval = accuracy_interval(np.ones(97, bool), np.arange(97) // 5)
  assert interval.high == 1.0
  assert interval.low == wilson(97, 97).low < 0.97


def test_accuracy_spans_bootstrap_and_wilson():
  correct = np.repeat(np.random.default_rng(7).random(53) < 0.7, 7)
  images = np.repeat(np.arange(53), 7)
  interval = accuracy_interval(correct, images)
  inner = cluster_bootstrap(correct, images)
  assert (interval.low, interval.high) == (inner.low, inner.high)
  assert _width(interval) > 2 * _width(wilson(int(correct.sum()), 53 * 7))


def test_accuracy_of_nothing():
  assert accuracy_interval([], []).num_examples == 0


def test_accuracy_by_group_counts_each_group():
  correct = np.array([True, False, True, True, True])
  groups = np.array([0, 0, 2, 2, 2])
  scores = accuracy_by_group(correct, groups, np.arange(5), ["a", "b", "c"])
  assert {name: s.estimate for name, s in scores.items()} == {"a": 0.5, "c": 1}
  assert {name: s.num_examples for name, s in scores.items()} == {
    "a": 2,
    "c": 3,
  }
  with pytest.raises(ValueError, match=r"groups \[4\]"):
    accuracy_by_group(correct, groups[:4], np.arange(5), ["a", "b", "c"])


@pytest.mark.parametrize("num_runs", [2, 3, 4, 5, 8, 31])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_student_t_equals_scipy(num_runs, confidence):
  values = np.random.default_rng(num_runs).normal(size=num_runs).tolist()
  ours = student_t(values, confidence=confidence)
  theirs = stats.ttest_1samp(values, 0).confidence_interval(confidence)
  assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
  assert ours.num_examples == num_runs


def test_student_t_of_one_run_has_no_ends_and_of_none_is_refused():
  interval = student_t([0.5])
  assert (interval.low, interval.high) == (-math.inf, math.inf)
  with pytest.raises(ValueError, match="at least one"):
    student_t([])
