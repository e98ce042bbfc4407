"""Image encoders: a convolutional grid and a Transformer over patches.

GridEncoder keeps the cells of the last convolution as tokens, as Yang et al.
2016, "Stacked Attention Networks", https://arxiv.org/abs/1511.02274.
PatchEncoder is Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words",
https://arxiv.org/abs/2010.11929.

Differs from the papers: the grid is trained with the rest instead of taken
from a classifier, and by default is normed, since without that easy-VQA learns
far slower; patches have no class token and fixed two-dimensional positions, so
that any image size is allowed.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.encoders.stacks import TransformerStack
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.nn.convolution import ConvBlock, space_to_depth
from mmjax.nn.dense import Dense
from mmjax.nn.positions import sinusoidal_positions_2d


def image_to_float(values: Array, mask: Array, dtype: str) -> Array:
  """Brings pixels to [-1, 1] and absent images to 0.

  Args:
    values: [R, h, w, channels], uint8 of 0 to 255 or floating point of 0 to 1.
    mask: bool [R], True = present.
    dtype: dtype of the result.

  Returns:
    [R, h, w, channels].

  Raises:
    ValueError: other shapes or dtypes.
  """
  if values.ndim != 4 or mask.shape != values.shape[:1]:
    raise ValueError(
      "an image encoder needs images [R, h, w, channels] and a mask [R], got"
      f" {list(values.shape)} and {list(mask.shape)}"
    )
  if values.dtype == jnp.uint8:
    values = values.astype(jnp.float32) / 255
  elif not jnp.issubdtype(values.dtype, jnp.floating):
    raise ValueError(
      "an image encoder needs uint8 pixels of 0 to 255 or floating point of 0"
      f" to 1, got {values.dtype} {list(values.shape)}"
    )
  # In float32: half precision would lose dark from darker before the network.
  values = (values.astype(jnp.float32) * 2 - 1).astype(dtype)
  return jnp.where(mask[:, None, None, None], values, 0)


def append_coordinates(grid: Array) -> Array:
  """Appends the column and the row of each cell, in [-1, 1], to its features.

  Args:
    grid: [R, h, w, D].

  Returns:
    [R, h, w, D + 2].
  """
  height, width = grid.shape[1:3]
  rows, columns = jnp.meshgrid(
    jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width), indexing="ij"
  )
  places = jnp.stack([columns, rows], axis=-1).astype(grid.dtype)
  places = jnp.broadcast_to(places, (*grid.shape[:3], 2))
  return jnp.concatenate([grid, places], axis=-1)


def grid_positions(grid: Array) -> Array:
  """Makes the waves [h, w, D] that a grid [R, h, w, D] is given."""
  table = sinusoidal_positions_2d(*grid.shape[1:])
  return jnp.asarray(table, grid.dtype).reshape(grid.shape[1:])


class GridEncoder(StagedEncoder):
  """Convolutions; each cell of the last one becomes a token.

  An image of h x w pixels gives ceil(h / s) x ceil(w / s) tokens, where s is
  `stem_size * 2 ** len(features)`. Sows `grid`, the two numbers.

  Attributes:
    width: width of the tokens.
    features: features of each stage; a stage is convolution, downsampling by
      2, norm and ReLU.
    stem_size: blocks of this many pixels squared are stacked into features
      first; 2 with one stage fewer gives the same grid in about two thirds of
      the time.
    downsampling: "max" or "stride", see `ConvBlock`.
    norm: "instance", "layer", "batch" or "none", see `ConvBlock`.
    positions: how a cell knows its place: "waves" are added after its features
      are normed; "coordinates", as Santoro et al. 2017 do,
      https://arxiv.org/abs/1706.01427, are two more features, and nothing is
      normed, so that what differs little, as two neighbouring places do, stays
      so and empty cells stay small.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  features: tuple[int, ...] = (16, 32, 64)
  stem_size: int = 1
  downsampling: str = "max"
  norm: str = "instance"
  positions: str = "waves"
  dtype: str = "float32"
  param_dtype: str = "float32"

  @property
  def num_stages(self) -> int:
    """One for each convolution."""
    return len(self.features)

  def setup(self) -> None:
    """Makes the layers.

    Raises:
      ValueError: no stage, a `stem_size` below 1, or unknown positions.
    """
    if not self.features or self.stem_size < 1:
      raise ValueError(
        "a grid encoder needs at least one stage and a stem_size of at least"
        f" 1, got features {self.features} and stem_size {self.stem_size}"
      )
    if self.positions not in ("waves", "coordinates"):
      raise ValueError(
        f"positions is {self.positions!r}; it must be 'waves' or 'coordinates'"
      )
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.stage = [
      ConvBlock(
        features, downsampling=self.downsampling, norm=self.norm, **dtypes
      )
      for features in self.features
    ]
    self.out = Dense(self.width, **dtypes)
    if self.positions == "waves":
      self.out_norm = nn.LayerNorm(**dtypes)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads images; a stage is a grid of cells.

    Args:
      values: [R, h, w, channels], uint8 or floating point in [0, 1].
      mask: bool [R], True = present.
      train: not used, nothing here is random.

    Raises:
      ValueError: see `image_to_float`.
    """
    del train
    grid = image_to_float(values, mask, self.dtype)
    return Stage(space_to_depth(grid, self.stem_size), mask)

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs a convolution."""
    values = self.stage[depth](stage.values, stage.mask, train=train)
    return stage.replace(values=values)

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Makes Tokens [R, N, width], row by row of the grid."""
    del train
    if self.positions == "waves":
      grid = self.out_norm(self.out(stage.values))
      grid = grid + grid_positions(grid)
    else:
      grid = self.out(append_coordinates(stage.values))
    self.sow("intermediates", "grid", jnp.array(grid.shape[1:3]))
    return stage.replace(values=grid).to_tokens()


class PatchEncoder(TransformerStack):
  """A Transformer over square patches; each patch becomes a token.

  An image of h x w pixels gives ceil(h / patch_size) x ceil(w / patch_size)
  tokens. Sows `grid`, the two numbers.

  Attributes:
    width: width of the tokens.
    patch_size: height and width of a patch in pixels.
    num_layers: Transformer blocks.
    num_heads: attention heads.
    mlp_dim: hidden width of the perceptrons.
    dropout_rate: dropout in the blocks.
    implementation: that of `MultiHeadAttention`.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  patch_size: int
  num_layers: int
  num_heads: int
  mlp_dim: int
  dropout_rate: float = 0.0
  implementation: str | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  def setup(self) -> None:
    """Makes the layers."""
    super().setup()
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.patch = Dense(self.width, **dtypes)
    self.patch_norm = nn.LayerNorm(**dtypes)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads images; a stage is a sequence of patches, row by row.

    Args:
      values: [R, h, w, channels], uint8 or floating point in [0, 1].
      mask: bool [R], True = present.
      train: not used, nothing here is random.

    Raises:
      ValueError: see `image_to_float`.
    """
    del train
    patches = space_to_depth(
      image_to_float(values, mask, self.dtype), self.patch_size
    )
    grid = self.patch_norm(self.patch(patches))
    self.sow("intermediates", "grid", jnp.array(grid.shape[1:3]))
    grid = Stage(grid + grid_positions(grid), mask)
    return Stage.from_tokens(grid.to_tokens())
