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
from mmjax.encoders.video import (
  StepPooling,
  fold_steps,
  repeat_steps,
  video_to_float,
)
from mmjax.nn.convolution import space_to_depth
from mmjax.nn.convolution3d import Conv3dBlock
from mmjax.nn.dense import Dense
from mmjax.nn.positions import sinusoidal_positions, sinusoidal_positions_3d
from mmjax.nn.recurrent import Recurrent


class Conv3dEncoder(nn.Module):
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
    pooling: of the cells of a step for `tokens` "frames", see `StepPooling`.
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

  @nn.compact
  def __call__(self, values: Array, mask: Array, *, train: bool) -> Tokens:
    """Encodes clips.

    Args:
      values: [R, T, h, w, channels], uint8 or floating point in [0, 1].
      mask: bool [R] or [R, T], True = present.
      train: not used, nothing here is random.

    Returns:
      Tokens [R, N, width], step by step, each row by row.

    Raises:
      ValueError: see `expand_frame_mask` and `Conv3dBlock`; attributes that do
        not fit together.
    """
    del train
    self._check_attributes()
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    clips, mask = video_to_float(values, mask, self.dtype)
    frames = space_to_depth(fold_steps(clips), self.stem_size)
    grid = frames.reshape(*mask.shape, *frames.shape[1:])
    for i, features in enumerate(self.features):
      grid, mask = Conv3dBlock(
        features,
        time_pool=self.time_pools[i],
        norm=self.norm,
        implementation=self.implementation,
        name=f"stage_{i}",
        **dtypes,
      )(grid, mask)
    rows, steps, height, width, _ = grid.shape
    self.sow("intermediates", "video_grid", jnp.array((steps, height, width)))
    if self.tokens == "cells":
      positions = sinusoidal_positions_3d(steps, height, width, self.width)
      values = grid.reshape(rows, steps * height * width, -1)
      mask = repeat_steps(mask, height * width)
    else:
      positions = sinusoidal_positions(steps, self.width)
      cells = grid.reshape(rows, steps, height * width, -1)
      present = jnp.broadcast_to(mask[..., None], cells.shape[:3])
      values = StepPooling(self.pooling, name="pooling", **dtypes)(
        cells, present
      )
      for i in range(self.num_lstm_layers):
        values, _ = Recurrent(self.width, name=f"lstm_{i}", **dtypes)(
          values, mask
        )
    values = Dense(self.width, name="out", **dtypes)(values)
    values = nn.LayerNorm(name="out_norm", **dtypes)(values)
    values = values + jnp.asarray(positions, values.dtype)
    return Tokens(jnp.where(mask[..., None], values, 0), mask)

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
