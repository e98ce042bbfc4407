"""The pre-norm Transformer block and its two-layer perceptron.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; the norm stands before
each part as in Xiong et al. 2020, "On Layer Normalization in the Transformer
Architecture", https://arxiv.org/abs/2002.04745.

Differs from the papers: a masked token keeps its value and is never looked
at, and keys have no bias.
"""

import flax.linen as nn

from mmjax.array_types import Array
from mmjax.nn.attention import MultiHeadAttention
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout


class MlpBlock(nn.Module):
  """Dense, ReLU, dropout, Dense, on the last axis.

  Attributes:
    hidden: width of the hidden layer.
    width: width of the output; None is that of the input.
    dropout_rate: dropout of the hidden layer.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  hidden: int
  width: int | None = None
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, values: Array, *, train: bool) -> Array:
    """Maps [..., D] to [..., width]."""
    width = values.shape[-1] if self.width is None else self.width
    hidden = Dense(
      self.hidden,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="hidden",
    )(values)
    hidden = nn.relu(hidden)
    hidden = Dropout(self.dropout_rate)(hidden, deterministic=not train)
    return Dense(
      width, dtype=self.dtype, param_dtype=self.param_dtype, name="out"
    )(hidden)


class TransformerBlock(nn.Module):
  """Self-attention and a perceptron, each normed before and added after.

  Sows its attention weights [B, H, N, N] as `self_attention`.

  Attributes:
    width: width of the tokens, in and out.
    num_heads: attention heads.
    mlp_dim: hidden width of the perceptron.
    dropout_rate: dropout of attention weights, hidden layer and residuals.
    implementation: that of `MultiHeadAttention`.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_heads: int
  mlp_dim: int
  dropout_rate: float = 0.0
  implementation: str | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self, values: Array, mask: Array | None, *, train: bool
  ) -> Array:
    """Maps tokens to tokens.

    Args:
      values: [B, N, width].
      mask: bool [B, N] of the tokens that may be looked at, or [B, N, N] with
        a row for each query, or None.
      train: whether dropout is on.

    Returns:
      [B, N, width].

    Raises:
      ValueError: `values` has another width.
    """
    if values.shape[-1] != self.width:
      raise ValueError(
        f"a Transformer block of width {self.width} needs tokens"
        f" [B, N, {self.width}], got {list(values.shape)}"
      )

    def norm(inputs: Array, name: str) -> Array:
      return nn.LayerNorm(
        dtype=self.dtype, param_dtype=self.param_dtype, name=name
      )(inputs)

    dropout = Dropout(self.dropout_rate, deterministic=not train)
    values = values.astype(self.dtype)
    normed = norm(values, "attention_norm")
    update, weights = MultiHeadAttention(
      num_heads=self.num_heads,
      width=self.width,
      dropout_rate=self.dropout_rate,
      implementation=self.implementation,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="attention",
    )(normed, normed, mask, train=train)
    self.sow("intermediates", "self_attention", weights)
    values = values + dropout(update)
    update = MlpBlock(
      hidden=self.mlp_dim,
      dropout_rate=self.dropout_rate,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="mlp",
    )(norm(values, "mlp_norm"), train=train)
    return values + dropout(update)
