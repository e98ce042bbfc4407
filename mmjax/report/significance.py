"""Whether two methods differ by more than chance.

A comparison has two sources of chance: what a seed decides, and which examples
happen to be in the test split. The t-test knows the first, the bootstrap both.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from mmjax.report.intervals import Interval, check_confidence, t_coverage


def paired_t_test(values: Sequence[float], others: Sequence[float]) -> float:
  """How likely two equally good methods differ as much as these or more.

  The two-sided test on the differences of the same seeds: t = mean sqrt(n) / s
  with n - 1 degrees of freedom.

  Args:
    values: one score a seed.
    others: those of the other method, seed by seed.

  Returns:
    The probability p; NaN with fewer than two seeds, 1 where all differences
    are zero, and 0 where all are equal and not zero.

  Raises:
    ValueError: lengths differ.

  Source: Student 1908, https://doi.org/10.2307/2331554.

  >>> round(paired_t_test([3.0, 4.0, 6.0], [2.0, 2.0, 3.0]), 4)
  0.0742
  """
  differences = [a - b for a, b in zip(values, others, strict=True)]
  n = len(differences)
  if n < 2:
    return math.nan
  mean, spread = statistics.fmean(differences), statistics.stdev(differences)
  if spread == 0:
    return 1.0 if mean == 0 else 0.0
  t = abs(mean) * n**0.5 / spread
  return max(1 - t_coverage(math.atan(t / math.sqrt(n - 1)), n - 1), 0.0)


def holm(p_values: Sequence[float]) -> list[float]:
  """Raises p-values of several tests so that the chance of any error holds.

  Source: Holm 1979, "A simple sequentially rejective multiple test
  procedure", https://www.jstor.org/stable/4615733.

  Args:
    p_values: one for each test; NaN stays NaN and does not count.

  Returns:
    The adjusted values, in the same order.

  >>> holm([0.01, 0.04, 0.03])
  [0.03, 0.06, 0.06]
  """
  known = [i for i, p in enumerate(p_values) if not math.isnan(p)]
  adjusted, highest = list(p_values), 0.0
  for rank, i in enumerate(sorted(known, key=lambda i: p_values[i])):
    highest = max(highest, min((len(known) - rank) * p_values[i], 1.0))
    adjusted[i] = highest
  return adjusted


def crossed_bootstrap(
  differences: np.ndarray,
  *,
  num_resamples: int = 2000,
  confidence: float = 0.95,
  seed: int = 0,
) -> Interval:
  """Percentile interval of a mean over seeds and examples.

  Each resample draws as many seeds as there are, and on its own as many
  examples, both with replacement, and takes the mean over what was drawn of
  both. So the interval holds for new seeds and new examples; it is somewhat too
  wide rather than too narrow.

  Args:
    differences: [seeds, examples], of two methods on the same seed and example,
      for instance of right (1) and wrong (0) answers.
    num_resamples: how many times to draw.
    confidence: probability that the interval covers the truth.
    seed: of the draws; the same seed gives the same interval.

  Returns:
    The interval.

  Raises:
    ValueError: no seeds or no examples; confidence is out of range.

  Source: Owen 2007, "The pigeonhole bootstrap",
  https://doi.org/10.1214/07-AOAS122.
  """
  check_confidence(confidence)
  differences = np.asarray(differences, np.float64)
  if differences.ndim != 2 or not differences.size:
    raise ValueError(
      "crossed_bootstrap needs differences [seeds, examples], got "
      f"{list(differences.shape)}"
    )
  rng = np.random.default_rng(seed)
  drawn = [
    rng.multinomial(size, np.full(size, 1 / size), size=num_resamples) / size
    for size in differences.shape
  ]
  means = np.einsum("rs,rn,sn->r", *drawn, differences, optimize=True)
  tail = (1 - confidence) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  return Interval(
    float(differences.mean()), float(low), float(high), differences.size
  )
