"""Stages of tokens, appended to any encoder.

They add depths at which a `HybridModel` can let modalities meet, behind those
that the encoder has of its own, if any.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.nn.tokens import clear_masked
from mmjax.nn.transformer import MlpBlock, TransformerBlock


class TransformerStage(nn.Module):
  """Transformer blocks over the tokens of one modality.

  Attributes:
    width: width of the tokens, in and out.
    num_heads: attention heads.
    mlp_dim: hidden width of the perceptrons.
    num_layers: blocks.
    dropout_rate: dropout in the blocks.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_heads: int
  mlp_dim: int
  num_layers: int = 1
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: Tokens, *, train: bool) -> Tokens:
    """Maps tokens [B, N, width] to tokens of the same shape."""
    values = clear_masked(tokens, self.dtype)
    for i in range(self.num_layers):
      values = TransformerBlock(
        self.width,
        self.num_heads,
        self.mlp_dim,
        dropout_rate=self.dropout_rate,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f"block_{i}",
      )(values, tokens.mask, train=train)
    values = jnp.where(tokens.mask[..., None], values, 0)
    return tokens.replace(values=values)


class ConvolutionStage(nn.Module):
  """A convolution over neighbouring tokens, then a perceptron, both added.

  Neighbours are those of the sequence, or of the grid whose cells the tokens
  are, row by row.

  Attributes:
    mlp_dim: hidden width of the perceptron.
    kernel_size: tokens (or rows and columns) that a convolution sees.
    grid: (height, width) in cells; None is a sequence.
    dropout_rate: dropout of the hidden layer.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  mlp_dim: int
  kernel_size: int = 3
  grid: tuple[int, int] | None = None
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: Tokens, *, train: bool) -> Tokens:
    """Maps tokens [B, N, D] to tokens of the same shape.

    Raises:
      ValueError: the tokens do not fill the grid.
    """
    values = clear_masked(tokens, self.dtype)
    batch, number, width = values.shape
    shape = (number,) if self.grid is None else self.grid
    if number != (cells := math.prod(shape)):
      raise ValueError(
        f"a convolution stage on a grid {shape} needs {cells} tokens, got"
        f" {list(values.shape)}; set grid to that of the encoder, or None"
      )
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    mask = tokens.mask[..., None]
    normed = nn.LayerNorm(name="convolution_norm", **dtypes)(values)
    normed = jnp.where(mask, normed, 0).reshape(batch, *shape, width)
    update = nn.Conv(
      width, (self.kernel_size,) * len(shape), name="convolution", **dtypes
    )(normed)
    values = values + update.reshape(values.shape)
    update = MlpBlock(
      self.mlp_dim, dropout_rate=self.dropout_rate, name="mlp", **dtypes
    )(nn.LayerNorm(name="mlp_norm", **dtypes)(values), train=train)
    return tokens.replace(values=jnp.where(mask, values + update, 0))


class ExtendedEncoder(StagedEncoder):
  """An encoder, then stages that map tokens to tokens.

  Depth 0 is behind the whole encoder, whatever stages it has within. With no
  stage added it lets any encoder take part there.

  Attributes:
    stem: an encoder (values, mask, *, train) -> Tokens.
    stages: modules (tokens, *, train) -> Tokens of as many tokens, from low to
      high.
  """

  stem: nn.Module
  stages: tuple[nn.Module, ...] = ()

  @property
  def num_stages(self) -> int:
    """Those that were added."""
    return len(self.stages)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Runs the stem, see there for arguments."""
    return Stage.from_tokens(self.stem(values, mask, train=train))

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs one of the stages."""
    tokens = self.stages[depth](stage.to_tokens(), train=train)
    return Stage.from_tokens(tokens)
