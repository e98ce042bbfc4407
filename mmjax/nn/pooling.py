"""Pooling of masked tokens into one vector: mean, maximum, attention.

The attention is that of Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473,
with one learned query, as in Yang et al. 2016, "Hierarchical Attention
Networks", https://aclanthology.org/N16-1174.

Differs from the papers: examples without any token pool to zeros.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.nn.dense import Dense


def masked_mean(values: Array, mask: Array) -> Array:
  """Averages the present tokens.

  Args:
    values: [B, N, D].
    mask: bool [B, N], True = present.

  Returns:
    [B, D] in the dtype of `values`; zeros where no token is present. The sum
    is taken in float32.
  """
  kept = jnp.where(mask[..., None], values, 0)
  total = kept.sum(axis=-2, dtype=jnp.float32)
  count = mask.sum(axis=-1, dtype=jnp.float32)[..., None]
  return (total / jnp.maximum(count, 1.0)).astype(values.dtype)


def masked_max(values: Array, mask: Array) -> Array:
  """Takes the largest value of each feature over the present tokens.

  Args:
    values: [B, N, D], floating point.
    mask: bool [B, N], True = present.

  Returns:
    [B, D]; zeros where no token is present.
  """
  lowest = jnp.finfo(values.dtype).min
  largest = jnp.where(mask[..., None], values, lowest).max(axis=-2)
  return jnp.where(mask.any(axis=-1)[..., None], largest, 0)


class AttentionPooling(nn.Module):
  """Averages tokens with weights that a small network gives to each.

  Sows the weights [B, N], zero for absent tokens, as `pool`.

  Attributes:
    hidden: width of the layer that scores a token.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  hidden: int
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, values: Array, mask: Array) -> Array:
    """Pools tokens.

    Args:
      values: [B, N, D].
      mask: bool [B, N], True = present.

    Returns:
      [B, D]; zeros where no token is present.
    """
    # A bias of the score would shift all tokens alike: softmax ignores it.
    values = jnp.where(mask[..., None], values.astype(self.dtype), 0)
    hidden = Dense(
      self.hidden,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="hidden",
    )(values)
    scores = Dense(
      1,
      use_bias=False,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="score",
    )(nn.tanh(hidden))[..., 0].astype(jnp.float32)
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jnp.where(mask, jax.nn.softmax(scores), 0.0)
    self.sow("intermediates", "pool", weights)
    return jnp.einsum("bn,bnd->bd", weights.astype(values.dtype), values)
