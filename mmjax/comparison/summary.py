"""Sums up the cells of a comparison and says which differences are real."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from mmjax.comparison.cells import CellResult, Comparison
from mmjax.report.intervals import Interval, student_t
from mmjax.report.significance import holm, paired_interval, paired_t_test

LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Entry:
  """A cell, summed up over its seeds.

  Attributes:
    cell: the cell.
    accuracy: mean and interval, between 0 and 1.
    without: the same with a modality missing at test time, by its name.
    p_value: of the difference from the baseline, corrected; None for the
      baseline itself, NaN where there are too few seeds.
    published: what others report, between 0 and 1, or None.
    seconds: of one seed, the mean.
  """

  cell: CellResult
  accuracy: Interval
  without: Mapping[str, Interval]
  p_value: float | None
  published: float | None
  seconds: float

  @property
  def differs(self) -> bool:
    """Whether the method differs from the baseline beyond chance."""
    return self.p_value is not None and self.p_value < LEVEL


@dataclasses.dataclass(frozen=True)
class Gain:
  """What seeing several modalities gains over the best single one.

  Both methods are chosen on the validation split.

  Attributes:
    setting: the data.
    fused: the best method that sees several modalities.
    single: the best that sees one.
    difference: of their accuracies on the test split, with an interval for
      new seeds and new test rows.
  """

  setting: str
  fused: str
  single: str
  difference: Interval


def summarize(
  comparison: Comparison, cells: Sequence[CellResult]
) -> list[Entry]:
  """Sums up every cell and tests it against the baseline of its setting.

  The test pairs the seeds that both have. Where the baseline itself was not
  run there is nothing to test against, and all p-values are NaN.
  """
  entries = []
  for setting in dict.fromkeys(cell.setting for cell in cells):
    here = [cell for cell in cells if cell.setting == setting]
    base = [cell for cell in here if cell.method == comparison.baseline]
    others = [cell for cell in here if cell.method != comparison.baseline]
    p_values = [
      _test_against(cell, base[0]) if base else math.nan for cell in others
    ]
    by_method = dict(
      zip((cell.method for cell in others), holm(p_values), strict=True)
    )
    entries += [
      _sum_up(comparison, cell, by_method.get(cell.method)) for cell in here
    ]
  return entries


def find_gains(
  comparison: Comparison, cells: Sequence[CellResult]
) -> list[Gain]:
  """Holds the best fusion of each setting against the best single modality.

  Settings without one or the other, or without a seed in common, are left out.
  """
  gains = []
  for setting in dict.fromkeys(cell.setting for cell in cells):
    here = [cell for cell in cells if cell.setting == setting]
    single = [cell for cell in here if cell.method in comparison.single]
    fused = [cell for cell in here if cell.method not in comparison.single]
    if not single or not fused:
      continue
    best, other = max(fused, key=_validation), max(single, key=_validation)
    pairs = _pair(best, other)
    if not pairs:
      continue
    right = np.array(
      [[[*map(int, result.right)] for result in pair] for pair in pairs]
    )
    difference = paired_interval(
      right[:, 0] - right[:, 1],
      shared_examples=not comparison.fresh_test_rows,
    )
    gains.append(Gain(setting, best.method, other.method, difference))
  return gains


def _pair(a: CellResult, b: CellResult) -> list[tuple]:
  """Pairs the results of the seeds that both cells have."""
  others = {result.seed: result for result in b.seeds}
  return [(r, others[r.seed]) for r in a.seeds if r.seed in others]


def _test_against(cell: CellResult, base: CellResult) -> float:
  pairs = _pair(cell, base)
  return paired_t_test(
    [a.accuracy for a, _ in pairs], [b.accuracy for _, b in pairs]
  )


def _validation(cell: CellResult) -> float:
  return statistics.fmean(seed.validation_accuracy for seed in cell.seeds)


def _sum_up(
  comparison: Comparison, cell: CellResult, p_value: float | None
) -> Entry:
  names = cell.seeds[0].accuracy_without
  published = comparison.published.get(cell.method, {})
  return Entry(
    cell=cell,
    accuracy=student_t([seed.accuracy for seed in cell.seeds]),
    without={
      name: student_t([seed.accuracy_without[name] for seed in cell.seeds])
      for name in names
    },
    p_value=p_value,
    published=published.get(cell.setting),
    seconds=statistics.fmean(seed.seconds for seed in cell.seeds),
  )
