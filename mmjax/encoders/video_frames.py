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
import jax
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.encoders.stacks import make_block
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.encoders.video import StepPooling, expand_frame_mask, fold_steps
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout
from mmjax.nn.positions import sinusoidal_positions
from mmjax.nn.recurrent import Recurrent


class FrameSequenceEncoder(StagedEncoder):
  """Encodes and pools each frame, then reads the frames; one token a frame.

  Attributes:
    width: width of the tokens; of an LSTM each direction has its part, rounded
      up.
    frame_encoder: image encoder of single frames, with a dtype of its own;
      `ExtendedEncoder` makes a `StagedEncoder` of any.
    pooling: of the tokens of a frame: "mean", "max" or "attention".
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
  frame_encoder: StagedEncoder
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

  @property
  def num_stages(self) -> int:
    """Those of the frame encoder, then one for each layer over frames."""
    return self.frame_encoder.num_stages + self.num_layers

  def setup(self) -> None:
    """Makes the layers.

    Raises:
      ValueError: an unknown `sequence`.
    """
    if self.sequence not in ("lstm", "transformer"):
      raise ValueError(
        f"sequence is {self.sequence!r}; it must be 'lstm' or 'transformer'"
      )
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.step_pooling = StepPooling(self.pooling, name="pooling", **dtypes)
    if self.sequence == "lstm":
      # The name is part of the random numbers: another one gives other masks.
      self.dropout = Dropout(self.dropout_rate, name="Dropout_0")
      self.lstm = [
        Recurrent(
          -(-self.width // (2 if self.bidirectional else 1)),
          bidirectional=self.bidirectional,
          **dtypes,
        )
        for _ in range(self.num_layers)
      ]
      self.out = Dense(self.width, **dtypes)
    else:
      self.project = Dense(self.width, **dtypes)
      self.project_norm = nn.LayerNorm(**dtypes)
      self.block = [make_block(self) for _ in range(self.num_layers)]
    self.out_norm = nn.LayerNorm(**dtypes)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads clips; a stage is that of each frame, then a sequence of frames.

    Args:
      values: [R, T, h, w, channels], uint8 or floating point in [0, 1].
      mask: bool [R] or [R, T], True = present.
      train: whether dropout is on.

    Raises:
      ValueError: see `expand_frame_mask`.
    """
    mask = expand_frame_mask(values, mask)
    frames = self.frame_encoder.begin(
      fold_steps(values), mask.reshape(-1), train=train
    )
    return _unfold(frames, mask.shape)

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs a stage of each frame, or a layer over pooled frames."""
    layer = depth - self.frame_encoder.num_stages
    if layer < 0:
      frames = jax.tree.map(fold_steps, stage)
      frames = self.frame_encoder.run_stage(depth, frames, train=train)
      return _unfold(frames, stage.values.shape[:2])
    if layer == 0:
      stage = self._pool_frames(stage, train=train)
    if self.sequence == "lstm":
      states = self.dropout(stage.values, deterministic=not train)
      states, _ = self.lstm[layer](states, stage.mask)
    else:
      states = self.block[layer](stage.values, stage.mask, train=train)
    return stage.replace(values=states)

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Makes Tokens [R, T, width]."""
    if self.num_layers == 0:
      stage = self._pool_frames(stage, train=train)
    states = stage.values
    if self.sequence == "lstm":
      states = self.out(states)
    return stage.replace(values=self.out_norm(states)).to_tokens()

  def _pool_frames(self, stage: Stage, *, train: bool) -> Stage:
    """Finishes each frame and makes one vector of it."""
    frames = jax.tree.map(fold_steps, stage)
    tokens = self.frame_encoder.finish(frames, train=train)
    tokens = _unfold(Stage.from_tokens(tokens), stage.values.shape[:2])
    states = self.step_pooling(tokens.values, tokens.mask)
    if self.sequence == "transformer":
      states = self.project_norm(self.project(states))
      places = sinusoidal_positions(*states.shape[1:])
      states = states + jnp.asarray(places, states.dtype)
    return Stage(states, tokens.mask.any(axis=-1))


def _unfold(frames: Stage, shape: tuple[int, int]) -> Stage:
  """Makes rows of frames [R * T, ...] steps of clips again, [R, T, ...]."""
  return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), frames)
