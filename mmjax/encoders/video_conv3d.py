"""Video encoder: 3-D convolutions, and an LSTM over time if wanted.

Tran et al. 2015, "Learning Spatiotemporal Features with 3D Convolutional
Networks" (C3D), https://arxiv.org/abs/1412.0767; the LSTM over its features as
in Molchanov et al. 2016, https://doi.org/10.1109/CVPR.2016.456.

Differs from the papers: one convolution a stage; norms; cells or steps of the
last grid are tokens with positions, instead of one vector a clip from fully
connected layers; the recurrent layer is an LSTM over pooled steps of one clip,
not over several clips; masked frames have no influence, and a clip that ends
with some gives what the shorter clip gives.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.encoders.video import StepPooling, fold_steps, video_to_float
from mmjax.nn.convolution import space_to_depth
from mmjax.nn.convolution3d import Conv3dBlock
from mmjax.nn.dense import Dense
from mmjax.nn.positions import sinusoidal_positions, sinusoidal_positions_3d
from mmjax.nn.recurrent import Recurrent


class Conv3dEncoder(StagedEncoder):
  """3-D convolutions; each cell or each step of the last grid is a token.

  A clip of T frames of h x w pixels gives a grid of ceil(T / t) steps, t the
  product of `time_pools`, of ceil(h / s) x ceil(w / s) cells each, s equal to
  `stem_size * 2 ** len(features)`. A step is present if one of its frames is.
  Sows `video_grid`, the three numbers.

  Attributes:
    width: width of the tokens.
    features: features of each stage; a stage is convolution, maximum, norm and
      ReLU.
    time_pools: steps of the maximum of each stage; that over cells is 2 x 2.
    stem_size: blocks of this many pixels squared are stacked into features
      first, see `GridEncoder`.
    tokens: "cells", one for each, or "frames", one for each step of the grid,
      pooled over its cells.
    pooling: of the cells of a step for `tokens` "frames": "mean", "max" or
      "attention".
    num_lstm_layers: LSTM layers over the steps, for `tokens` "frames".
    norm: "instance" or "layer", see `Conv3dBlock`.
    implementation: that of `Conv3d`.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  features: tuple[int, ...] = (16, 32, 64)
  time_pools: tuple[int, ...] = (1, 2, 2)
  stem_size: int = 1
  tokens: str = "cells"
  pooling: str = "mean"
  num_lstm_layers: int = 0
  norm: str = "instance"
  implementation: str | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  @property
  def num_stages(self) -> int:
    """One for each convolution, then one for each LSTM layer."""
    return len(self.features) + self.num_lstm_layers

  def setup(self) -> None:
    """Makes the layers.

    Raises:
      ValueError: attributes that do not fit together.
    """
    self._check_attributes()
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.stage = [
      Conv3dBlock(
        features,
        time_pool=time_pool,
        norm=self.norm,
        implementation=self.implementation,
        **dtypes,
      )
      for features, time_pool in zip(
        self.features, self.time_pools, strict=True
      )
    ]
    self.step_pooling = StepPooling(self.pooling, name="pooling", **dtypes)
    self.lstm = [
      Recurrent(self.width, **dtypes) for _ in range(self.num_lstm_layers)
    ]
    self.out = Dense(self.width, **dtypes)
    self.out_norm = nn.LayerNorm(**dtypes)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads clips; a stage is a grid of steps and cells, or of steps alone.

    Args:
      values: [R, T, h, w, channels], uint8 or floating point in [0, 1].
      mask: bool [R] or [R, T], True = present.
      train: not used, nothing here is random.

    Raises:
      ValueError: see `expand_frame_mask`.
    """
    del train
    clips, mask = video_to_float(values, mask, self.dtype)
    frames = space_to_depth(fold_steps(clips), self.stem_size)
    return Stage(frames.reshape(*mask.shape, *frames.shape[1:]), mask)

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs a convolution, or an LSTM layer; the first of these pools."""
    del train
    layer = depth - len(self.features)
    if layer < 0:
      stage = Stage(*self.stage[depth](stage.values, stage.mask))
      if layer == -1:
        grid = jnp.array(stage.values.shape[1:4])
        self.sow("intermediates", "video_grid", grid)
      return stage
    if layer == 0:
      stage = self._pool_cells(stage)
    states, _ = self.lstm[layer](stage.values, stage.mask)
    return stage.replace(values=states)

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Makes Tokens [R, N, width], step by step, each row by row."""
    del train
    if self.tokens == "frames" and self.num_lstm_layers == 0:
      stage = self._pool_cells(stage)
    *grid, features = stage.values.shape[1:]
    positions_fn = sinusoidal_positions_3d if grid[1:] else sinusoidal_positions
    states = stage.values.reshape(len(stage.values), -1, features)
    states = self.out_norm(self.out(states))
    states = states + jnp.asarray(positions_fn(*grid, self.width), states.dtype)
    states = states.reshape(*stage.values.shape[:-1], self.width)
    return stage.replace(values=states).to_tokens()

  def _pool_cells(self, stage: Stage) -> Stage:
    """Makes one vector of all cells of a step."""
    cells = stage.values.reshape(*stage.mask.shape, -1, stage.values.shape[-1])
    mask = jnp.broadcast_to(stage.mask[..., None], cells.shape[:3])
    return stage.replace(values=self.step_pooling(cells, mask))

  def _check_attributes(self) -> None:
    """Raises ValueError for attributes that do not fit together."""
    if (
      not self.features
      or len(self.time_pools) != len(self.features)
      or min(self.time_pools) < 1
      or self.stem_size < 1
    ):
      raise ValueError(
        "a 3-D convolutional encoder needs at least one stage, a time_pool of"
        " at least 1 for each and a stem_size of at least 1, got features"
        f" {self.features}, time_pools {self.time_pools} and stem_size"
        f" {self.stem_size}"
      )
    if self.tokens not in ("cells", "frames"):
      raise ValueError(
        f"tokens is {self.tokens!r}; it must be 'cells' or 'frames'"
      )
    if self.num_lstm_layers and self.tokens != "frames":
      raise ValueError(
        "an LSTM reads one vector a step: set tokens to 'frames', got"
        f" num_lstm_layers {self.num_lstm_layers} and tokens {self.tokens!r}"
      )
