"""Fusion by soft attention: the others look once at the tokens of one modality.

The others are pooled into a query, additive attention averages the target's
tokens by how well they fit it, and what was seen comes out beside the query.

Xu et al. 2015, "Show, Attend and Tell", https://arxiv.org/abs/1502.03044, and,
for questions about images, Yang et al. 2016, "Stacked Attention Networks",
https://arxiv.org/abs/1511.02274.

Differs from the papers: one look; any number of modalities asks; a target alone
asks with its own mean. `mmjax.models.hard_attention` is the same with picks.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.additive_attention import AdditiveAttention
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout
from mmjax.nn.pooling import ModalityPooling
from mmjax.nn.target import split_target
from mmjax.nn.tokens import check_modalities, clear_masked


class QueryPooling(nn.Module):
  """Averages tokens by additive attention of one query.

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
  def __call__(
    self, values: Array, mask: Array, query: Array, *, train: bool
  ) -> Array:
    """Pools [B, N, D] with a mask [B, N] as [B, Q] asks, into [B, D]."""
    seen, weights = AdditiveAttention(
      self.hidden, dtype=self.dtype, param_dtype=self.param_dtype, name="look"
    )(query[:, None], values, mask, train=train)
    self.sow("intermediates", "pool", weights[:, 0, 0])
    return seen[:, 0]


class SoftAttention(nn.Module):
  """Averages the tokens of one modality as the others ask.

  Sows the weights of the target's tokens as `pool` under `pool_<target>`.

  Attributes:
    target: the modality whose tokens are looked at.
    width: width of the tokens that come out.
    hidden: width of the layer that scores a token.
    pooling: "mean", "max" or "attention", of the modalities that ask.
    dropout_rate: dropout of the tokens that come out.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  target: str
  width: int
  hidden: int = 64
  pooling: str = "mean"
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses the modalities.

    Args:
      tokens: [B, N_m, D_m] of each modality m, of any widths.
      train: whether dropout is on.

    Returns:
      Tokens [B, 2, width], two groups: what was seen, and the query.

    Raises:
      ValueError: there is no modality or not the target, shapes do not belong
        together, or the pooling is unknown.
    """
    owner = "fusion 'soft_attention'"
    check_modalities(tokens, owner)
    target, others = split_target(tokens, self.target, owner)
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    asked, present = ModalityPooling(
      self.width, self.pooling, name="ask", **dtypes
    )(others or {self.target: target})
    query = sum(asked.values())
    seen = QueryPooling(self.hidden, name=f"pool_{self.target}", **dtypes)(
      clear_masked(target, self.dtype), target.mask, query, train=train
    )
    seen = Dense(self.width, name="seen", **dtypes)(seen)
    mask = jnp.stack(
      [
        target.mask.any(axis=1),
        jnp.stack(list(present.values())).any(axis=0),
      ],
      axis=1,
    )
    values = jnp.stack([seen, query], axis=1)
    values = Dropout(self.dropout_rate)(values, deterministic=not train)
    return Tokens(jnp.where(mask[..., None], values, 0), mask, (1, 1))
