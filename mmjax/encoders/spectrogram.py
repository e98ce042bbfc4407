"""Convolutions over a mel spectrogram, whose cells become tokens.

Hershey et al. 2017, "CNN Architectures for Large-Scale Audio Classification",
https://arxiv.org/abs/1609.09430: a picture of time and frequency, in small.

Differs from the paper: the cells of the last convolution are kept as tokens
with fixed two-dimensional positions instead of being averaged; they are normed
over the present cells of a clip; frames may be masked, and a clip has the same
tokens however far it is padded.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.encoders.frames import read_frames, shorten_mask
from mmjax.encoders.front_end import FrontEnd
from mmjax.encoders.image import grid_positions
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.nn.convolution import max_pool
from mmjax.nn.dense import Dense


class MaskedConvBlock(nn.Module):
  """`mmjax.nn.convolution.ConvBlock`, 3 x 3 and 2 x 2, with masked rows.

  Attributes:
    features: features of the output.
    norm: "instance", over the present cells of each feature, or "layer".
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  features: int
  norm: str = "instance"
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, values: Array, mask: Array) -> tuple[Array, Array]:
    """Maps grids [R, h, w, D] of which rows are masked.

    Args:
      values: [R, h, w, D], zeros where masked.
      mask: bool [R, h], True = present.

    Returns:
      [R, ceil(h / 2), ceil(w / 2), features], zeros where masked, and the mask
      [R, ceil(h / 2)]: a row is present if one of the two below it is.

    Raises:
      ValueError: an unknown norm, or the norm "instance" of a single cell,
        which would be 0 whatever the sound.
    """
    if self.norm not in ("instance", "layer"):
      raise ValueError(
        f"norm is {self.norm!r}; it must be 'instance' or 'layer'"
      )
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    values = nn.Conv(
      self.features,
      (3, 3),
      # The norm over cells takes away what a bias would add to all of them.
      use_bias=self.norm == "layer",
      name="conv",
      **dtypes,
    )(values)
    lowest = jnp.finfo(values.dtype).min
    values = max_pool(jnp.where(mask[:, :, None, None], values, lowest))
    mask = shorten_mask(mask, 2)
    present = mask[:, :, None, None]
    values = jnp.where(present, values, 0)
    if self.norm == "layer":
      values = nn.LayerNorm(name="norm", **dtypes)(values)
    else:
      if values.shape[1] * values.shape[2] == 1:
        raise ValueError(
          "a convolution with norm 'instance' needs more than one cell, but"
          " the spectrogram has shrunk to one; use longer clips, fewer stages"
          " or norm 'layer'"
        )
      # A clip that is missing has no cell to average: take its zeros.
      heard = present | ~present.any(axis=1, keepdims=True)
      values = nn.InstanceNorm(name="norm", **dtypes)(values, mask=heard)
    return jnp.where(present, nn.relu(values), 0), mask


class SpectrogramEncoder(StagedEncoder):
  """A convolutional network over time and frequency; cells become tokens.

  T frames of F features give ceil(T / s) x ceil(F / s) tokens, where s is
  `2 ** len(features)`. A cell is present if any of its frames is. Sows `grid`,
  the two numbers.

  Attributes:
    width: width of the tokens.
    front_end: makes frames of waveforms; None takes frames as they are.
    features: features of each stage; a stage is convolution, 2 x 2 maximum,
      norm and ReLU.
    norm: "instance" or "layer", see `MaskedConvBlock`.
    dtype: dtype of the computation; that of the front end is float32.
    param_dtype: dtype of the parameters.
  """

  width: int
  front_end: FrontEnd | None = None
  features: tuple[int, ...] = (16, 32, 64)
  norm: str = "instance"
  dtype: str = "float32"
  param_dtype: str = "float32"

  @property
  def num_stages(self) -> int:
    """One for each convolution."""
    return len(self.features)

  def setup(self) -> None:
    """Makes the layers.

    Raises:
      ValueError: no stages.
    """
    if not self.features:
      raise ValueError("a spectrogram encoder needs at least one stage, got ()")
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.stage = [
      MaskedConvBlock(features, norm=self.norm, **dtypes)
      for features in self.features
    ]
    self.out = Dense(self.width, **dtypes)
    self.out_norm = nn.LayerNorm(**dtypes)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads sound; a stage is a grid of times and frequencies.

    Args:
      values: waveforms [R, S], or frames [R, T, F] without a front end.
      mask: bool [R], or [R, S] or [R, T], True = present.
      train: not used, nothing here is random.

    Raises:
      ValueError: see `read_frames`.
    """
    del train
    frames, mask = read_frames(values, mask, self.front_end, self.dtype)
    return Stage(frames[..., None], mask)

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs a convolution."""
    del train
    return Stage(*self.stage[depth](stage.values, stage.mask))

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Makes Tokens [R, N, width], all frequencies of the first cells first."""
    del train
    grid = self.out_norm(self.out(stage.values))
    self.sow("intermediates", "grid", jnp.array(grid.shape[1:3]))
    return stage.replace(values=grid + grid_positions(grid)).to_tokens()
