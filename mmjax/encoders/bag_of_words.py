r"""Bag of words: how often each word occurs, and nothing about where.

Salton and Buckley 1988, "Term-weighting approaches in automatic text
retrieval", https://doi.org/10.1016/0306-4573(88)90021-0 (weights); Zhou et al.
2015, "Simple Baseline for Visual Question Answering",
https://arxiv.org/abs/1512.02167 (as an encoder).

Differs from the papers: the projected bag is normed; the inverse document
frequency is the smooth one of scikit-learn.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Array
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.nn.batch_norm import BatchNorm
from mmjax.nn.dense import Dense


def inverse_document_frequency(
  ids: np.ndarray, mask: np.ndarray, vocabulary_size: int
) -> tuple[float, ...]:
  r"""Weighs words by how few texts have them.

  .. math:: \ln \frac{1 + n}{1 + n_v} + 1

  Args:
    ids: integer [R, T], the words of n = R training texts, R > 0.
    mask: bool [R, T], True = present.
    vocabulary_size: V, number of word ids.

  Returns:
    V numbers, for `BagOfWords.idf`; n_v is how many texts have word v.

  Raises:
    ValueError: a present id outside [0, V).
  """
  ids, mask = np.asarray(ids), np.asarray(mask)
  if np.any((ids[mask] < 0) | (ids[mask] >= vocabulary_size)):
    raise ValueError(
      f"ids must be in [0, {vocabulary_size}), got {ids[mask].min()} to"
      f" {ids[mask].max()}; raise vocabulary_size"
    )
  has_word = np.zeros((len(ids), vocabulary_size), bool)
  has_word[np.nonzero(mask)[0], ids[mask]] = True
  counts = has_word.sum(axis=0)
  weights = np.log((1 + len(ids)) / (1 + counts)) + 1
  return tuple(weights.tolist())


def count_words(ids: Array, mask: Array, vocabulary_size: int) -> Array:
  """Counts the present words of each text.

  Args:
    ids: integer [R, T].
    mask: bool [R, T], True = present.
    vocabulary_size: V, number of word ids.

  Returns:
    [R, V] float32. A text with an id outside [0, V) is all NaN: it must not
    pass for another text, and training stops at once.
  """
  exists = (ids >= 0) & (ids < vocabulary_size)
  rows = jnp.arange(len(ids))[:, None]
  counts = jnp.zeros((len(ids), vocabulary_size), jnp.float32)
  ones = (mask & exists).astype(jnp.float32)
  counts = counts.at[rows, jnp.where(exists, ids, 0)].add(ones)
  wrong = (mask & ~exists).any(axis=1)
  return jnp.where(wrong[:, None], jnp.nan, counts)


class BagOfWords(StagedEncoder):
  """Counts of words, weighed, scaled to length 1 and projected: one token.

  A text is present if any of its words is. A present id outside
  [0, vocabulary_size) gives NaN.

  Attributes:
    vocabulary_size: number of word ids.
    width: width of the token.
    counting: what n occurrences of a word count: "count" is n, "log" is
      1 + ln(n), "presence" is 1.
    idf: a weight for each word id, see `inverse_document_frequency`; () is 1.
    norm: of the projection: "layer", over the features of each text, or
      "batch", of each feature over the texts of a batch, which takes away what
      all texts share, see `BatchNorm`.
    dtype: dtype of the computation; words are counted in float32.
    param_dtype: dtype of the parameters.
  """

  vocabulary_size: int
  width: int
  counting: str = "count"
  idf: tuple[float, ...] = ()
  norm: str = "layer"
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Encodes texts; there are no stages.

    Args:
      values: integer [R, T], word ids.
      mask: bool [R, T], True = present.
      train: whether batch norm uses the batch's own statistics.

    Returns:
      The tokens, [R, 1, width].

    Raises:
      ValueError: wrong shapes or dtypes, an unknown counting or norm, or
        weights for another number of words.
    """
    if self.norm not in ("layer", "batch"):
      raise ValueError(f"norm is {self.norm!r}; it must be 'layer' or 'batch'")
    if values.ndim != 2 or mask.shape != values.shape:
      raise ValueError(
        "a bag of words needs ids [R, T] and a mask [R, T], got"
        f" {list(values.shape)} and {list(mask.shape)}"
      )
    if not jnp.issubdtype(values.dtype, jnp.integer):
      raise ValueError(f"a bag of words needs integer ids, got {values.dtype}")
    bag = self._weigh(count_words(values, mask, self.vocabulary_size))
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    token = Dense(self.width, name="out", **dtypes)(bag.astype(self.dtype))
    there = mask.any(axis=1)
    if self.norm == "batch":
      token = BatchNorm(name="out_norm", **dtypes)(token, there, train=train)
    else:
      token = nn.LayerNorm(name="out_norm", **dtypes)(token)
    return Stage(token[:, None], there[:, None])

  def _weigh(self, counts: Array) -> Array:
    """Weighs counts [R, V] and scales them to length 1."""
    if self.counting not in ("count", "log", "presence"):
      raise ValueError(
        f"counting is {self.counting!r}; it must be 'count', 'log' or"
        " 'presence'"
      )
    if len(self.idf) not in (0, self.vocabulary_size):
      raise ValueError(
        f"idf needs a weight for each of the {self.vocabulary_size} word ids,"
        f" or none, got {len(self.idf)}"
      )
    bag = counts
    if self.counting == "log":
      bag = jnp.where(counts > 0, 1 + jnp.log(jnp.maximum(counts, 1)), counts)
    elif self.counting == "presence":
      bag = jnp.minimum(counts, 1)
    if self.idf:
      bag = bag * np.array(self.idf, np.float32)
    length = jnp.sqrt((bag**2).sum(axis=1, keepdims=True))
    return bag / jnp.where(length > 0, length, 1)
