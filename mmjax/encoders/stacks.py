"""Encoders that are a stack of Transformer blocks or of recurrent layers.

Bases for the encoders of several modalities, which only have to begin; every
layer is a stage.
"""

import flax.linen as nn

from mmjax.array_types import Tokens
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout
from mmjax.nn.recurrent import Recurrent
from mmjax.nn.transformer import TransformerBlock


def make_block(encoder: nn.Module, name: str | None = None) -> TransformerBlock:
  """Makes a Transformer block with the attributes of an encoder."""
  return TransformerBlock(
    encoder.width,
    encoder.num_heads,
    encoder.mlp_dim,
    dropout_rate=encoder.dropout_rate,
    implementation=encoder.implementation,
    dtype=encoder.dtype,
    param_dtype=encoder.param_dtype,
    name=name,
  )


def make_recurrent(encoder: nn.Module, cell: str) -> Recurrent:
  """Makes a layer as wide as an encoder; each direction has half of it."""
  return Recurrent(
    -(-encoder.width // (2 if encoder.bidirectional else 1)),
    cell=cell,
    bidirectional=encoder.bidirectional,
    dtype=encoder.dtype,
    param_dtype=encoder.param_dtype,
  )


class TransformerStack(StagedEncoder):
  """Transformer blocks, then a norm.

  Encoders of this kind have the attributes `width`, `num_layers`, `num_heads`,
  `mlp_dim`, `dropout_rate`, `implementation`, `dtype` and `param_dtype`.
  """

  @property
  def num_stages(self) -> int:
    """One for each block."""
    return self.num_layers

  def setup(self) -> None:
    """Makes the blocks and the norm."""
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.block = [make_block(self) for _ in range(self.num_layers)]
    self.out_norm = nn.LayerNorm(**dtypes)

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs a block on a stage [R, N, width] with a mask [R, N]."""
    states = self.block[depth](stage.values, stage.mask, train=train)
    return stage.replace(values=states)

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Norms, and makes Tokens [R, N, width]."""
    del train
    return stage.replace(values=self.out_norm(stage.values)).to_tokens()


class RecurrentStack(StagedEncoder):
  """LSTM or GRU layers with dropout before each, a projection, a norm.

  Encoders of this kind have the attributes `width`, `cell`, `bidirectional`,
  `num_layers`, `dropout_rate`, `dtype` and `param_dtype`.
  """

  @property
  def num_stages(self) -> int:
    """One for each layer."""
    return self.num_layers

  def setup(self) -> None:
    """Makes the layers."""
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    # The name is part of the random numbers: another one gives other masks.
    self.dropout = Dropout(self.dropout_rate, name="Dropout_0")
    self.layer = [
      make_recurrent(self, self.cell) for _ in range(self.num_layers)
    ]
    self.out = Dense(self.width, **dtypes)
    self.out_norm = nn.LayerNorm(**dtypes)

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs a layer on a stage [R, T, D] with a mask [R, T]."""
    states = self.dropout(stage.values, deterministic=not train)
    states, _ = self.layer[depth](states, stage.mask)
    return stage.replace(values=states)

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Projects and norms, and makes Tokens [R, T, width]."""
    del train
    states = self.out_norm(self.out(stage.values))
    return stage.replace(values=states).to_tokens()
