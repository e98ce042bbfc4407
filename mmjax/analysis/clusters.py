r"""Partial information decomposition of a data set, or of a model on it.

Each modality is brought to its principal components and clustered; clusters
and labels are counted, and the counts are decomposed. With a model's
predictions in the place of the labels, it is what the model makes of its
modalities.

Liang et al. 2023, "Quantifying & Modeling Multimodal Interactions",
https://arxiv.org/abs/2302.12247. Bias: Treves & Panzeri 1995, "The Upward Bias
in Measures of Information Derived from Limited Data Samples",
https://doi.org/10.1162/neco.1995.7.2.399.

Differs from the papers: rows are not scaled to one length before the
components are taken, unless asked for; the first term of the bias is returned
with the result.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.analysis.k_means import k_means, principal_components
from mmjax.analysis.pid import NATS_PER_UNIT, Decomposition, decompose

_principal_components = jax.jit(principal_components, static_argnums=1)
_k_means = jax.jit(k_means, static_argnums=1)


@dataclasses.dataclass(frozen=True)
class EstimatedDecomposition:
  """A decomposition of counts.

  Attributes:
    decomposition: that of the counts as they are.
    bias: by how much its `total` is expected to be too high, in its unit: see
      `expected_bias`. Nearly all of it goes to synergy, since a pair of
      clusters is seen far less often than a cluster.
    num_rows: rows that were counted.
  """

  decomposition: Decomposition
  bias: float
  num_rows: int


def count_joint(first: Any, second: Any, label: Any) -> np.ndarray:
  """Counts how often each combination occurs.

  Args:
    first: int [R], values of X1 from 0.
    second: int [R], values of X2 from 0.
    label: int [R], values of Y from 0.

  Returns:
    float64 [X1, X2, Y].

  Raises:
    ValueError: no rows, different lengths, negative or fractional values.
  """
  columns = [np.asarray(column) for column in (first, second, label)]
  fits = len({column.shape for column in columns}) == 1
  if not fits or columns[0].ndim != 1 or columns[0].size == 0:
    raise ValueError(
      "counting needs three columns of one length, got "
      + ", ".join(str(list(column.shape)) for column in columns)
    )
  for name, column in zip(("first", "second", "label"), columns, strict=True):
    if not np.issubdtype(column.dtype, np.integer) or column.min() < 0:
      raise ValueError(
        f"counting needs integers from 0, but {name} is {column.dtype} with a"
        f" least value of {column.min()}"
      )
  counts = np.zeros([int(column.max()) + 1 for column in columns])
  np.add.at(counts, tuple(columns), 1)
  return counts


def expected_bias(counts: np.ndarray) -> float:
  r"""Says by how much I(X1, X2; Y) of counts is too high, in nats.

  .. math:: \frac{K_{xy} - K_x - K_y + 1}{2 n}

  with the numbers K of combinations (x1, x2, y), (x1, x2) and y that occur,
  and n rows: the first term of the expansion in 1/n. It is right where the
  pairs (x1, x2) occur several times each, and too low where many occur once.

  Args:
    counts: [X1, X2, Y].
  """
  occurring = np.count_nonzero(counts)
  pairs = np.count_nonzero(counts.sum(axis=2))
  labels = np.count_nonzero(counts.sum(axis=(0, 1)))
  return float((occurring - pairs - labels + 1) / (2 * counts.sum()))


def decompose_counts(
  counts: np.ndarray, *, unit: str = "bits"
) -> EstimatedDecomposition:
  """Decomposes counts [X1, X2, Y].

  Args:
    counts: how often each combination occurred.
    unit: "bits" or "nats".

  Raises:
    ValueError: an unknown unit, or counts that are negative or all zero.
  """
  counts = np.asarray(counts, np.float64)
  num_rows = counts.sum()
  decomposition = decompose(counts / max(num_rows, 1), unit=unit)
  return EstimatedDecomposition(
    decomposition=decomposition,
    bias=expected_bias(counts) / NATS_PER_UNIT[unit],
    num_rows=round(num_rows),
  )


def cluster_rows(
  values: Any,
  num_clusters: int = 20,
  *,
  num_components: int = 2,
  unit_length: bool = False,
  seed: int = 0,
) -> np.ndarray:
  """Brings rows to their principal components and clusters them.

  Args:
    values: [R, ...], floating point; further axes are flattened.
    num_clusters: clusters K, at most R.
    num_components: components that are kept, at most the width of a row.
    unit_length: scale each row to length 1 first, as the paper does. That
      takes away what the length of a row tells.
    seed: of the starts of k-means.

  Returns:
    int32 [R], from 0 to K - 1.

  Raises:
    ValueError: numbers that are not finite, or more clusters or components
      than there can be.
  """
  values = np.asarray(values, np.float32)
  values = values.reshape(len(values), -1)
  if not 1 <= num_clusters <= len(values):
    raise ValueError(
      f"num_clusters is {num_clusters}, but there are {len(values)} rows; set"
      " it to at most that"
    )
  if not np.isfinite(values).all():
    raise ValueError(
      "rows to be clustered have to be finite; fill or drop missing values"
    )
  if unit_length:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    values = values / np.maximum(length, np.finfo(np.float32).tiny)
  num_components = min(num_components, values.shape[1])
  components = _principal_components(jnp.asarray(values), num_components)
  clusters, _, _ = _k_means(components, num_clusters, jax.random.key(seed))
  return np.asarray(clusters)


def decompose_data(
  first: Any,
  second: Any,
  label: Any,
  *,
  num_clusters: int = 20,
  num_components: int = 2,
  unit_length: bool = False,
  seed: int = 0,
  unit: str = "bits",
) -> EstimatedDecomposition:
  """Decomposes what the clusters of two modalities tell about a label.

  Two errors remain. Clusters hide what is inside them, so each mutual
  information is too low; and few rows make every combination look telling, so
  the total is too high by about `bias`. More clusters trade one for the other.

  Args:
    first: [R, ...], rows of the first modality.
    second: [R, ...], rows of the second.
    label: int [R], labels, or the predictions of a model.
    num_clusters: clusters of each modality.
    num_components: see `cluster_rows`.
    unit_length: see `cluster_rows`.
    seed: of the starts of k-means.
    unit: "bits" or "nats".

  Raises:
    ValueError: see `cluster_rows`, `count_joint` and `decompose_counts`.
  """
  rows = {"first": len(first), "second": len(second), "label": len(label)}
  if len(set(rows.values())) > 1:
    found = ", ".join(f"{name} {number}" for name, number in rows.items())
    raise ValueError(f"a decomposition needs as many rows of each, got {found}")
  clusters = [
    cluster_rows(
      values,
      num_clusters,
      num_components=num_components,
      unit_length=unit_length,
      seed=seed,
    )
    for values in (first, second)
  ]
  return decompose_counts(count_joint(*clusters, label), unit=unit)
