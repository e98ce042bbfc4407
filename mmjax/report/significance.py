"""Whether two methods differ by more than chance.

A comparison has two sources of chance: what a seed decides, and which examples
happen to be in the test split. The t-test knows the first, the interval both.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from mmjax.report.intervals import (
  Interval,
  check_confidence,
  t_coverage,
  t_quantile,
)


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


def paired_interval(
  differences: np.ndarray,
  *,
  shared_examples: bool,
  confidence: float = 0.95,
) -> Interval:
  r"""Interval of a mean difference of two methods, for new seeds and examples.

  With :math:`d_{se}` of K seeds and n examples, the variance of the mean is

  .. math:: \frac{\mathrm{var}_s(\bar d_{s \cdot})}{K} +
    \frac{\mathrm{var}_e(\bar d_{\cdot e})}{n}

  and the interval takes Student's quantile at the degrees of freedom of this
  sum. Where seeds share examples, both terms hold what is particular to a seed
  on an example, so the interval is a little too wide. Where each seed has
  examples of its own, the first term knows their chance and stands alone.

  Args:
    differences: [K, n], of two methods on the same seed and example, for
      instance of right (1) and wrong (0) answers.
    shared_examples: whether column e is the same example for every seed.
    confidence: probability that the interval covers the truth.

  Returns:
    The interval; one seed says nothing of its spread: -inf to inf.

  Raises:
    ValueError: no seeds or no examples; confidence is out of range.

  Source: the variances of a crossed design, Searle, Casella, McCulloch 1992,
  "Variance Components", https://doi.org/10.1002/9780470316856; degrees of
  freedom of a sum: Satterthwaite 1946, https://doi.org/10.2307/3002019, rounded
  down.
  """
  check_confidence(confidence)
  differences = np.asarray(differences, np.float64)
  if differences.ndim != 2 or not differences.size:
    raise ValueError(
      "paired_interval needs differences [seeds, examples], got "
      f"{list(differences.shape)}"
    )
  mean, sizes = float(differences.mean()), differences.shape
  if sizes[0] < 2:
    return Interval(mean, -math.inf, math.inf, differences.size)
  parts = [differences.mean(axis=1).var(ddof=1) / sizes[0]]
  if shared_examples and sizes[1] > 1:
    parts.append(differences.mean(axis=0).var(ddof=1) / sizes[1])
  total = math.fsum(parts)
  degrees = sizes[0] - 1
  if total > 0:
    shares = zip(parts, sizes, strict=False)
    degrees = int(1 / sum((v / total) ** 2 / (n - 1) for v, n in shares))
  half = t_quantile(confidence, degrees) * math.sqrt(total)
  return Interval(mean, mean - half, mean + half, differences.size)
