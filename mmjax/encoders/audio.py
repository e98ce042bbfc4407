"""Audio encoders over frames: recurrent, and convolutions with a Transformer.

FrameEncoder is Graves et al. 2013, "Speech Recognition with Deep Recurrent
Neural Networks", https://arxiv.org/abs/1303.5778, with stacked frames as in
Sak et al. 2015, https://arxiv.org/abs/1507.06947. ConvTransformerEncoder is the
encoder of Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak
Supervision", https://arxiv.org/abs/2212.04356.

Differs from the papers: frames may be masked; each convolution is normed and
has a ReLU instead of a GELU, and so have the perceptrons; keys have no bias.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.encoders.frames import read_frames, shorten_mask, stack_frames
from mmjax.encoders.front_end import FrontEnd
from mmjax.encoders.stacks import RecurrentStack, TransformerStack
from mmjax.encoders.staged import Stage
from mmjax.nn.dense import Dense
from mmjax.nn.positions import sinusoidal_positions


class FrameEncoder(RecurrentStack):
  """LSTM or GRU layers over frames of sound; each step becomes a token.

  T frames give ceil(T / stack_size) steps; one is present if any of its frames
  is.

  Attributes:
    width: width of the tokens; each direction has half of it, rounded up.
    front_end: makes frames of waveforms; None takes frames as they are.
    cell: "lstm" or "gru".
    bidirectional: whether the frames are read from both ends.
    num_layers: recurrent layers.
    stack_size: so many frames make one step; the sequence is so much shorter.
    dropout_rate: dropout of the frames and between layers.
    dtype: dtype of the computation; that of the front end is float32.
    param_dtype: dtype of the parameters.
  """

  width: int
  front_end: FrontEnd | None = None
  cell: str = "lstm"
  bidirectional: bool = True
  num_layers: int = 1
  stack_size: int = 1
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads sound; a stage is a sequence of steps.

    Args:
      values: waveforms [R, S], or frames [R, T, F] without a front end.
      mask: bool [R], or [R, S] or [R, T], True = present.
      train: not used, dropout is that of the layers.

    Raises:
      ValueError: see `read_frames`, `stack_frames` and `Recurrent`.
    """
    del train
    frames, mask = read_frames(values, mask, self.front_end, self.dtype)
    steps = stack_frames(frames, self.stack_size, self.stack_size)
    return Stage(steps, shorten_mask(mask, self.stack_size))


class ConvTransformerEncoder(TransformerStack):
  """Strided convolutions over frames, positions, Transformer blocks, norm.

  T frames give N tokens where N is T divided by each stride in turn, rounded
  up; one is present if any of its frames is. A convolution is a stage, too.

  Attributes:
    width: width of the tokens.
    num_layers: Transformer blocks.
    num_heads: attention heads.
    mlp_dim: hidden width of the perceptrons.
    front_end: makes frames of waveforms; None takes frames as they are.
    strides: of each convolution over time; their product says how many frames
      make a token.
    kernel_size: frames under a convolution, at least its stride.
    dropout_rate: dropout in the blocks.
    implementation: that of `MultiHeadAttention`.
    dtype: dtype of the computation; that of the front end is float32.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_layers: int
  num_heads: int
  mlp_dim: int
  front_end: FrontEnd | None = None
  strides: tuple[int, ...] = (1, 2)
  kernel_size: int = 3
  dropout_rate: float = 0.0
  implementation: str | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  @property
  def num_stages(self) -> int:
    """One for each convolution, then one for each block."""
    return len(self.strides) + self.num_layers

  def setup(self) -> None:
    """Makes the layers.

    Raises:
      ValueError: no convolution.
    """
    if not self.strides:
      raise ValueError("the encoder needs at least one convolution, got none")
    super().setup()
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.conv = [Dense(self.width, **dtypes) for _ in self.strides]
    self.conv_norm = [
      nn.LayerNorm(name=f"conv_{i}_norm", **dtypes)
      for i in range(len(self.strides))
    ]

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads sound; a stage is a sequence of steps.

    Args:
      values: waveforms [R, S], or frames [R, T, F] without a front end.
      mask: bool [R], or [R, S] or [R, T], True = present.
      train: not used, dropout is that of the blocks.

    Raises:
      ValueError: see `read_frames` and `stack_frames`.
    """
    del train
    return Stage(*read_frames(values, mask, self.front_end, self.dtype))

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs a convolution or a block; the last convolution adds positions."""
    num_convolutions = len(self.strides)
    if depth >= num_convolutions:
      return super().run_stage(depth - num_convolutions, stage, train=train)
    stride = self.strides[depth]
    windows = stack_frames(stage.values, self.kernel_size, stride)
    states = self.conv_norm[depth](self.conv[depth](windows))
    mask = shorten_mask(stage.mask, stride)
    states = jnp.where(mask[..., None], nn.relu(states), 0)
    if depth == num_convolutions - 1:
      table = sinusoidal_positions(*states.shape[1:])
      states = states + jnp.asarray(table, states.dtype)
    return Stage(states, mask)
