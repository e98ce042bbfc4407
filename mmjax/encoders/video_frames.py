"""Video encoder: an image encoder for each frame, then a sequence of frames.

The LSTM over frames is Donahue et al. 2015, "Long-term Recurrent Convolutional
Networks", https://arxiv.org/abs/1411.4389; the Transformer over frames is
Neimark et al. 2021, "Video Transformer Network",
https://arxiv.org/abs/2102.00719.

Differs from the papers: the frames are encoded by any image encoder and pooled;
each present frame stays a token instead of a class token or a mean of the
answers; the Transformer attends to all frames, not to a window, with fixed
positions.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.encoders.video import StepPooling, expand_frame_mask, fold_steps
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout
from mmjax.nn.positions import sinusoidal_positions
from mmjax.nn.recurrent import Recurrent
from mmjax.nn.transformer import TransformerBlock


class FrameSequenceEncoder(nn.Module):
  """Encodes and pools each frame, then reads the frames; one token a frame.

  Attributes:
    width: width of the tokens; of an LSTM each direction has its part, rounded
      up.
    frame_encoder: image encoder of single frames, with a dtype of its own.
    pooling: of the tokens of a frame, see `StepPooling`.
    sequence: "lstm" or "transformer".
    num_layers: LSTM layers or Transformer blocks.
    bidirectional: whether the LSTM reads from both ends.
    num_heads: attention heads of the Transformer.
    mlp_dim: hidden width of the perceptrons of the Transformer.
    dropout_rate: dropout before each LSTM layer, or in the blocks.
    implementation: that of `MultiHeadAttention`.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  frame_encoder: nn.Module
  pooling: str = "mean"
  sequence: str = "lstm"
  num_layers: int = 1
  bidirectional: bool = False
  num_heads: int = 4
  mlp_dim: int = 128
  dropout_rate: float = 0.0
  implementation: str | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, values: Array, mask: Array, *, train: bool) -> Tokens:
    """Encodes clips.

    Args:
      values: [R, T, h, w, channels], uint8 or floating point in [0, 1].
      mask: bool [R] or [R, T], True = present.
      train: whether dropout is on.

    Returns:
      Tokens [R, T, width].

    Raises:
      ValueError: see `expand_frame_mask`; an unknown `sequence` or `pooling`.
    """
    if self.sequence not in ("lstm", "transformer"):
      raise ValueError(
        f"sequence is {self.sequence!r}; it must be 'lstm' or 'transformer'"
      )
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    mask = expand_frame_mask(values, mask)
    tokens = self.frame_encoder(
      fold_steps(values), mask.reshape(-1), train=train
    )
    states = StepPooling(self.pooling, name="pooling", **dtypes)(
      tokens.values.reshape(*mask.shape, *tokens.values.shape[1:]),
      tokens.mask.reshape(*mask.shape, -1),
    )
    if self.sequence == "lstm":
      states = self._read_recurrently(states, mask, train=train)
    else:
      states = self._read_by_attention(states, mask, train=train)
    states = nn.LayerNorm(name="out_norm", **dtypes)(states)
    return Tokens(jnp.where(mask[..., None], states, 0), mask)

  def _read_recurrently(
    self, states: Array, mask: Array, *, train: bool
  ) -> Array:
    """Maps frames [R, T, D] to [R, T, width] by LSTM layers."""
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    dropout = Dropout(self.dropout_rate, deterministic=not train)
    num_directions = 2 if self.bidirectional else 1
    for i in range(self.num_layers):
      states, _ = Recurrent(
        -(-self.width // num_directions),
        bidirectional=self.bidirectional,
        name=f"lstm_{i}",
        **dtypes,
      )(dropout(states), mask)
    return Dense(self.width, name="out", **dtypes)(states)

  def _read_by_attention(
    self, states: Array, mask: Array, *, train: bool
  ) -> Array:
    """Maps frames [R, T, D] to [R, T, width] by Transformer blocks."""
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    states = Dense(self.width, name="project", **dtypes)(states)
    states = nn.LayerNorm(name="project_norm", **dtypes)(states)
    places = sinusoidal_positions(states.shape[1], self.width)
    states = states + jnp.asarray(places, states.dtype)
    for i in range(self.num_layers):
      states = TransformerBlock(
        self.width,
        self.num_heads,
        self.mlp_dim,
        dropout_rate=self.dropout_rate,
        implementation=self.implementation,
        name=f"block_{i}",
        **dtypes,
      )(states, mask, train=train)
    return states
