import functools
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mmjax.analysis.pid import decompose
from mmjax.data.synthetic import pid_ceilings
from mmjax.data.synthetic.pid import SHARES, draw_latents

ROWS = 40_000


@functools.cache
def _statistics(setting):
  """The best statistic of each modality and of both, and the label."""
  latents, score = draw_latents(setting, ROWS, np.random.default_rng(0))
  own_1, own_2, common = (
    latents.sum(axis=2) * np.array(SHARES[setting])[:, None]
  )
  return own_1 + common, own_2 + common, own_1 + own_2 + common, score > 0


@pytest.mark.parametrize("setting", SHARES)
def test_the_best_rule_reaches_the_ceiling_on_latents(setting):
  first, second, both, label = _statistics(setting)
  for modalities, statistic in [
    (("first",), first),
    (("second",), second),
    (("first", "second"), both),
  ]:
    accuracy = ((statistic > 0) == label).mean()
    if not statistic.any():
      accuracy = 0.5  # nothing to go by
    # Four standard errors are 0.010; the limit of many latents is 0.002 off.
    assert accuracy == pytest.approx(
      pid_ceilings.best_accuracy(setting, modalities), abs=0.012
    )


def test_the_numbers_of_the_paper():
  for setting in ("redundancy", "unique_1", "unique_2", "synergy"):
    assert pid_ceilings.best_accuracy(setting) == pytest.approx(0.75)
    assert pid_ceilings.information(setting) == pytest.approx(
      math.log(2) - 0.5, abs=1e-9
    )
  assert pid_ceilings.best_accuracy("synergy", ["first"]) == pytest.approx(
    2 / 3
  )
  assert pid_ceilings.best_accuracy("unique_1", ["second"]) == 0.5
  nothing = pid_ceilings.information("unique_1", ["second"])
  assert nothing == pytest.approx(0, abs=1e-12)
  assert pid_ceilings.best_accuracy("synergy", []) == 0.5


@pytest.mark.parametrize("size", [1, 2, 7, 50])
def test_three_quarters_for_any_number_of_latents(size):
  kept = np.arange(size + 1)
  right = 0.5 + np.arcsin(np.sqrt(kept / size)) / math.pi
  # Where nothing is kept the score is 0, and the guess is right half the time;
  # where all is kept it is always right.
  chance = stats.binom.pmf(kept, size, 0.5)
  assert chance @ right == pytest.approx(0.75)


def test_two_thirds_is_nearly_exact_with_fifty_latents():
  kept = np.arange(51)
  own, other = np.meshgrid(kept, kept, indexing="ij")
  chance = np.outer(
    stats.binom.pmf(kept, 50, 0.5), stats.binom.pmf(kept, 50, 0.5)
  )
  rho = own / np.sqrt(np.maximum(own + other, 1) * 50)
  exact = (chance * (0.5 + np.arcsin(rho) / math.pi)).sum()
  assert exact == pytest.approx(2 / 3, abs=0.002)


def test_the_number_of_positive_subset_sums_is_uniform():
  size = 8
  subsets = np.array(list(itertools.product((0, 1), repeat=size)))
  latents = np.random.default_rng(0).normal(size=(4001, size))
  positive = (latents @ subsets.T > 0).sum(axis=1)
  # 256 values, the empty sum is never positive: 0 to 255, equally likely.
  assert positive.min() >= 0
  assert positive.max() <= 255
  groups = np.bincount(positive // 16, minlength=16)
  assert stats.chisquare(groups).pvalue > 1e-3


@pytest.mark.parametrize(
  ("setting", "modality"),
  [("redundancy", "first"), ("synergy", "first"), ("mixture_2", "second")],
)
def test_information_by_counting(setting, modality):
  first, second, _, label = _statistics(setting)
  statistic = {"first": first, "second": second}[modality]
  bins = np.argsort(np.argsort(statistic)) * 40 // ROWS
  chance = np.bincount(bins, weights=label) / np.bincount(bins)
  rate = label.mean()
  entropy = stats.entropy([chance, 1 - chance]).mean()
  counted = stats.entropy([rate, 1 - rate]) - entropy
  assert counted == pytest.approx(
    pid_ceilings.information(setting, [modality]), abs=0.006
  )


@pytest.mark.parametrize("setting", ["redundancy", "synergy", "mixture_2"])
def test_the_decomposition_of_binned_statistics(setting):
  first, second, _, label = _statistics(setting)
  counts = np.zeros((12, 12, 2))
  ranks = [
    np.argsort(np.argsort(each)) * 12 // ROWS for each in (first, second)
  ]
  np.add.at(counts, (*ranks, label.astype(int)), 1)
  found = decompose(counts / ROWS, unit="nats")
  truth = pid_ceilings.true_decomposition(setting)
  for part, value in truth.items():
    assert getattr(found, part) == pytest.approx(value, abs=0.012), part


@pytest.mark.parametrize("setting", SHARES)
def test_the_parts_of_the_truth_add_up(setting):
  truth = pid_ceilings.true_decomposition(setting)
  assert min(truth.values()) >= 0
  assert sum(truth.values()) == pytest.approx(pid_ceilings.information(setting))


def test_unknown_names():
  with pytest.raises(ValueError, match="no modality 'third'"):
    pid_ceilings.best_accuracy("synergy", ["third"])
  with pytest.raises(ValueError, match="no setting 'magic'"):
    pid_ceilings.information("magic")
