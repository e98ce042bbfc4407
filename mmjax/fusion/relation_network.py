r"""Fusion by a Relation Network: all pairs of objects, asked by the others.

.. math:: f\Big(\sum_{i, j} g(o_i, o_j, q)\Big)

where the objects o are the tokens of one modality, the target, and the query q
is the sum of what the others are pooled to.

Santoro et al. 2017, "A simple neural network module for relational reasoning",
https://arxiv.org/abs/1706.01427.

Differs from the paper: any number of modalities asks; where the target is
missing, the query stands in; `mmjax.nn.relation_network` lists the rest.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Tokens
from mmjax.nn.pooling import ModalityPooling, single_token
from mmjax.nn.relation_network import RelationNetwork
from mmjax.nn.target import split_target
from mmjax.nn.tokens import check_modalities, clear_masked


class RelationFusion(nn.Module):
  """Relates the tokens of one modality pair by pair, as the others ask.

  The cost grows with the square of the number of the target's tokens. Sows
  `pairs` [B, 1, N, N] under `relations`, see `RelationNetwork`.

  Attributes:
    target: the modality whose tokens are the objects.
    width: width of the query and of the token that comes out, which is that of
      the last layer f.
    pair_widths: widths of the layers g of a pair.
    widths: widths of the layers f of the sum before the last one.
    self_pairs: whether an object is paired with itself, as in the paper.
    combine: "sum" as in the paper, or "mean".
    chunk_size: examples whose pairs are computed at once; a few, such as 1 to
      4, are fast on a CPU, None on an accelerator, see `RelationNetwork`.
    pooling: "mean", "max" or "attention", of the modalities that ask.
    dropout_rate: dropout of the token that comes out.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  target: str
  width: int
  pair_widths: Sequence[int] = (128, 128, 128)
  widths: Sequence[int] = (128,)
  self_pairs: bool = True
  combine: str = "sum"
  chunk_size: int | None = None
  pooling: str = "mean"
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  def __post_init__(self) -> None:
    """Freezes the widths: a list would make the module unhashable."""
    object.__setattr__(self, "pair_widths", tuple(self.pair_widths))
    object.__setattr__(self, "widths", tuple(self.widths))
    super().__post_init__()

  @nn.compact
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses the modalities.

    Args:
      tokens: [B, N_m, D_m] of each modality m, of any widths.
      train: whether dropout is on.

    Returns:
      Tokens [B, 1, width].

    Raises:
      ValueError: there is no modality or not the target, shapes do not belong
        together, or settings are unknown.
    """
    owner = "fusion 'relation_network'"
    check_modalities(tokens, owner)
    target, others = split_target(tokens, self.target, owner)
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    query, present = None, {self.target: target.mask.any(axis=1)}
    if others:
      asked, others_present = ModalityPooling(
        self.width, self.pooling, name="ask", **dtypes
      )(others)
      query = sum(asked.values())
      present |= others_present
    fused = RelationNetwork(
      self.pair_widths,
      (*self.widths, self.width),
      self_pairs=self.self_pairs,
      combine=self.combine,
      chunk_size=self.chunk_size,
      dropout_rate=self.dropout_rate,
      name="relations",
      **dtypes,
    )(
      target.replace(values=clear_masked(target, self.dtype)),
      query,
      train=train,
    )
    if query is not None:
      fused = jnp.where(present[self.target][:, None], fused, query)
    return single_token(fused, present)
