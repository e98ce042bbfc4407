"""How sure a score is: intervals for one run and for several seeds.

Questions about one image are not independent of each other: a model that
misreads the image tends to fail them all. So a score over questions gets its
interval by drawing whole images again, not questions.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interval:
  """An estimate and the interval around it.

  Attributes:
    estimate: the measured value.
    low: lower end.
    high: upper end.
    num_examples: how many values the estimate was made from.
  """

  estimate: float
  low: float
  high: float
  num_examples: int


def wilson(
  num_correct: int, num_examples: int, *, confidence: float = 0.95
) -> Interval:
  """Interval of a proportion of independent yes-or-no outcomes.

  With p the proportion, n the examples and z the normal quantile:
  (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).

  Args:
    num_correct: outcomes that are true, 0 to `num_examples`.
    num_examples: all outcomes; with none the interval is 0 to 1 around NaN.
    confidence: probability that the interval covers the truth.

  Returns:
    The interval, inside [0, 1].

  Raises:
    ValueError: counts or confidence are out of range.

  Source: Wilson 1927, "Probable inference, the law of succession, and
  statistical inference", https://doi.org/10.1080/01621459.1927.10502953.

  >>> interval = wilson(9, 10)
  >>> round(interval.low, 3), round(interval.high, 3)
  (0.596, 0.982)
  """
  check_confidence(confidence)
  if not 0 <= num_correct <= num_examples:
    raise ValueError(
      f"num_correct must be between 0 and num_examples, got {num_correct} of "
      f"{num_examples}"
    )
  if num_examples == 0:
    return Interval(math.nan, 0.0, 1.0, 0)
  z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
  n, share = num_examples, num_correct / num_examples
  centre = share + z * z / (2 * n)
  half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
  scale = 1 + z * z / n
  # At 0 and n one end is the proportion itself; rounding must not pass it.
  low = 0.0 if num_correct == 0 else (centre - half) / scale
  high = 1.0 if num_correct == n else (centre + half) / scale
  return Interval(share, low, high, n)


def cluster_bootstrap(
  values: np.ndarray,
  clusters: np.ndarray,
  *,
  num_resamples: int = 2000,
  confidence: float = 0.95,
  seed: int = 0,
) -> Interval:
  """Percentile interval of a mean whose examples come in clusters.

  Each resample draws as many clusters as there are, with replacement, and
  divides the sum of their values by the number of their examples.

  Args:
    values: [n] numbers or bools, one an example.
    clusters: [n] what each example belongs to, e.g. the image's id; numbers
      or strings.
    num_resamples: how many times to draw.
    confidence: probability that the interval covers the truth.
    seed: of the draws; the same seed gives the same interval.

  Returns:
    The interval; without examples NaN between -inf and inf. It has no width
    where all clusters have the same mean: `accuracy_interval` looks after
    that.

  Raises:
    ValueError: lengths differ or confidence is out of range.

  Source: Field and Welsh 2007, "Bootstrapping clustered data",
  https://doi.org/10.1111/j.1467-9868.2007.00593.x.
  """
  check_confidence(confidence)
  values, clusters = np.asarray(values, np.float64), np.asarray(clusters)
  if values.ndim != 1 or values.shape != clusters.shape:
    raise ValueError(
      "cluster_bootstrap needs one cluster for each value, got values "
      f"{list(values.shape)} and clusters {list(clusters.shape)}"
    )
  if not values.size:
    return Interval(math.nan, -math.inf, math.inf, 0)
  _, member = np.unique(clusters, return_inverse=True)
  sizes = np.bincount(member).astype(np.float64)
  sums = np.bincount(member, weights=values)
  rng = np.random.default_rng(seed)
  means = []
  for start in range(0, num_resamples, 250):  # bounds the memory
    drawn = rng.multinomial(
      len(sizes),
      np.full(len(sizes), 1 / len(sizes)),
      size=min(250, num_resamples - start),
    )
    means.append((drawn @ sums) / (drawn @ sizes))
  tail = (1 - confidence) / 2
  low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
  return Interval(
    float(values.mean()), float(low), float(high), int(values.size)
  )


def accuracy_interval(
  correct: np.ndarray,
  clusters: np.ndarray,
  *,
  confidence: float = 0.95,
  seed: int = 0,
) -> Interval:
  """The interval that the report states for an accuracy.

  It spans two: the cluster bootstrap, which knows that questions about one
  image depend on each other, and Wilson's, which knows that few mistakes, or
  none, do not make certainty (there the bootstrap's interval shrinks to
  nothing).

  Args:
    correct: bool [n], whether each example was answered rightly.
    clusters: [n] the image of each example.
    confidence: probability that the interval covers the truth.
    seed: of the bootstrap.

  Returns:
    The interval, inside [0, 1].

  Raises:
    ValueError: lengths differ or confidence is out of range.
  """
  correct = np.asarray(correct, bool)
  outer = wilson(int(correct.sum()), correct.size, confidence=confidence)
  inner = cluster_bootstrap(correct, clusters, confidence=confidence, seed=seed)
  if not correct.size:
    return outer
  return dataclasses.replace(
    outer, low=min(outer.low, inner.low), high=max(outer.high, inner.high)
  )


def accuracy_by_group(
  correct: np.ndarray,
  groups: np.ndarray,
  clusters: np.ndarray,
  names: Sequence[str],
) -> dict[str, Interval]:
  """The accuracy of each group of examples, with intervals.

  Args:
    correct: bool [n], whether each example was answered rightly.
    groups: int [n], the group of each example, e.g. its type or its answer.
    clusters: [n], the image of each example.
    names: the name of group 0, 1, ...

  Returns:
    `{name: interval}` in the order of `names`; groups without examples are
    left out.

  Raises:
    ValueError: lengths differ.
  """
  correct, groups = np.asarray(correct, bool), np.asarray(groups)
  clusters = np.asarray(clusters)
  if not correct.shape == groups.shape == clusters.shape:
    raise ValueError(
      "accuracy_by_group needs one group and one cluster for each example, "
      f"got correct {list(correct.shape)}, groups {list(groups.shape)} and "
      f"clusters {list(clusters.shape)}"
    )
  return {
    name: accuracy_interval(
      correct[groups == number], clusters[groups == number]
    )
    for number, name in enumerate(names)
    if (groups == number).any()
  }


def student_t(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
  """Interval of the mean over runs that differ in their seed only.

  Mean ± t s / sqrt(n), with s the sample standard deviation and t the
  quantile of Student's distribution with n - 1 degrees of freedom.

  Args:
    values: one score a seed.
    confidence: probability that the interval covers the truth.

  Returns:
    The interval; one seed says nothing of its spread: -inf to inf.

  Raises:
    ValueError: there are no values or confidence is out of range.

  Source: Student 1908, "The probable error of a mean",
  https://doi.org/10.2307/2331554.

  >>> interval = student_t([1.0, 2.0, 3.0])
  >>> round(interval.low, 3), round(interval.high, 3)
  (-0.484, 4.484)
  """
  check_confidence(confidence)
  n = len(values)
  if not n:
    raise ValueError("student_t needs at least one value, got none")
  mean = statistics.fmean(values)
  if n == 1:
    return Interval(mean, -math.inf, math.inf, 1)
  half = t_quantile(confidence, n - 1) * statistics.stdev(values) / n**0.5
  return Interval(mean, mean - half, mean + half, n)


def t_coverage(angle: float, degrees: int) -> float:
  """P(-t < T < t), t = sqrt(degrees) tan(angle), of Student's T, as a sum.

  Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
  """
  odd = degrees % 2
  term = total = math.cos(angle) if odd else 1.0
  for power in range(2 + odd, degrees - 1, 2):
    term *= (power - 1) / power * math.cos(angle) ** 2
    total += term
  if not odd:
    return math.sin(angle) * total
  total = total if degrees > 1 else 0.0
  return 2 / math.pi * (angle + math.sin(angle) * total)


def t_quantile(confidence: float, degrees: int) -> float:
  """Finds t so that -t < T < t has this probability, bisecting its angle."""
  low, high = 0.0, math.pi / 2
  for _ in range(80):
    middle = (low + high) / 2
    below = t_coverage(middle, degrees) < confidence
    low, high = (middle, high) if below else (low, middle)
  return math.sqrt(degrees) * math.tan((low + high) / 2)


def check_confidence(confidence: float) -> None:
  """Raises ValueError for a confidence outside (0, 1)."""
  if not 0 < confidence < 1:
    raise ValueError(
      f"confidence must lie between 0 and 1, got {confidence}; 0.95 is usual"
    )
