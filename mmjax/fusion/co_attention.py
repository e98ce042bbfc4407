"""Fusion by parallel co-attention: every modality looks at every other one.

In each round the tokens of a modality attend to those of each other modality,
add what they saw, and pass through a perceptron; all modalities at once.

Lu et al. 2016, "Hierarchical Question-Image Co-Attention for Visual Question
Answering", https://arxiv.org/abs/1606.00061; the rounds are the co-attentional
layers of Lu et al. 2019, "ViLBERT", https://arxiv.org/abs/1908.02265.

Differs from the papers: any number of modalities, one attention for each
ordered pair and their outputs added; the norm stands before each part and once
at the end; self-attention, which ViLBERT puts between the rounds, is an
option; a modality that is missing adds nothing at all.
"""

from collections.abc import Mapping

import flax.linen as nn

from mmjax.array_types import Array, Tokens
from mmjax.nn.attention import MultiHeadAttention
from mmjax.nn.dropout import Dropout
from mmjax.nn.tokens import check_modalities, clear_masked, join_modalities
from mmjax.nn.transformer import MlpBlock


class CoAttentionRound(nn.Module):
  """One round: every modality looks at all others, then a perceptron.

  Attributes:
    num_heads: heads of each attention.
    mlp_dim: hidden width of the perceptrons.
    self_attention: whether a modality looks at itself, too.
    dropout_rate: dropout of attention weights, hidden layers and residuals.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  num_heads: int
  mlp_dim: int
  self_attention: bool = False
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self,
    values: Mapping[str, Array],
    masks: Mapping[str, Array],
    *,
    train: bool,
  ) -> tuple[dict[str, Array], dict[str, Array]]:
    """Maps tokens [B, N_m, D] to tokens.

    Args:
      values: [B, N_m, D] of each modality m.
      masks: bool [B, N_m] of each modality m, True = present.
      train: whether dropout is on.

    Returns:
      The new values, and the attention weights [B, H, N_q, N_k] of each
      ordered pair, named `q_over_k`.
    """
    dropout = Dropout(self.dropout_rate, deterministic=not train)

    def norm(inputs: Array, name: str) -> Array:
      return nn.LayerNorm(
        dtype=self.dtype, param_dtype=self.param_dtype, name=name
      )(inputs)

    modalities = sorted(values)
    normed = {}
    if len(modalities) > 1 or self.self_attention:
      normed = {m: norm(values[m], f"{m}_attention_norm") for m in modalities}
    updated, all_weights = {}, {}
    for query in modalities:
      total = values[query]
      for key in modalities:
        if query == key and not self.self_attention:
          continue
        update, weights = MultiHeadAttention(
          num_heads=self.num_heads,
          width=total.shape[-1],
          dropout_rate=self.dropout_rate,
          dtype=self.dtype,
          param_dtype=self.param_dtype,
          name=f"{query}_over_{key}",
        )(normed[query], normed[key], masks[key], train=train)
        total = total + dropout(update)
        all_weights[f"{query}_over_{key}"] = weights
      update = MlpBlock(
        hidden=self.mlp_dim,
        dropout_rate=self.dropout_rate,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f"{query}_mlp",
      )(norm(total, f"{query}_mlp_norm"), train=train)
      updated[query] = total + dropout(update)
    return updated, all_weights


class CoAttention(nn.Module):
  """Several rounds of co-attention between all modalities.

  Sows the attention weights [B, H, N_q, N_k] of each ordered pair as
  `q_over_k`, once a round. With one modality and without `self_attention`
  nothing is looked at, and the perceptrons are all that is left.

  Attributes:
    width: width of the tokens, in and out.
    num_heads: heads of each attention.
    num_rounds: rounds, each with its own parameters.
    mlp_dim: hidden width of the perceptrons.
    self_attention: whether a modality looks at itself, too.
    dropout_rate: dropout of attention weights, hidden layers and residuals.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_heads: int = 4
  num_rounds: int = 2
  mlp_dim: int = 128
  self_attention: bool = False
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses the modalities.

    Args:
      tokens: [B, N_m, width] of each modality m.
      train: whether dropout is on.

    Returns:
      Tokens [B, sum of N_m, width], a group for each modality in sorted
      order.

    Raises:
      ValueError: there is no modality, shapes do not belong together, or a
        width is not `width`.
    """
    if self.num_rounds < 1:
      raise ValueError(
        f"fusion 'co_attention' needs at least one round, got {self.num_rounds}"
      )
    check_modalities(tokens, "fusion 'co_attention'", self.width)
    values = {m: clear_masked(tokens[m], self.dtype) for m in sorted(tokens)}
    masks = {m: tokens[m].mask for m in values}
    for number in range(self.num_rounds):
      values, weights = CoAttentionRound(
        num_heads=self.num_heads,
        mlp_dim=self.mlp_dim,
        self_attention=self.self_attention,
        dropout_rate=self.dropout_rate,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f"round_{number}",
      )(values, masks, train=train)
      for pair, pair_weights in weights.items():
        self.sow("intermediates", pair, pair_weights)
    normed = {
      m: nn.LayerNorm(
        dtype=self.dtype, param_dtype=self.param_dtype, name=f"{m}_norm"
      )(values[m])
      for m in values
    }
    return join_modalities(normed, tokens)
