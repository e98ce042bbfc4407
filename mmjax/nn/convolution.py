"""Convolution blocks for grids, laid out for speed on CPUs and GPUs alike.

Max-pooling by slices and `jnp.maximum` computes what `nn.max_pool` does; the
gradient of the latter is two to three times slower on XLA's CPU backend. The
norm stands behind the pooling, where there is a quarter of the work.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.nn.batch_norm import BatchNorm


def max_pool(values: Array, size: int = 2) -> Array:
  """Takes the maximum over windows of size x size cells.

  Equals `nn.max_pool` with that window and stride and `padding="SAME"`, except
  that the last row and column of windows, not the first, are the short ones.
  Where several cells of a window are equal, they share the gradient.

  Args:
    values: [R, h, w, D], floating point.
    size: height and width of a window.

  Returns:
    [R, ceil(h / size), ceil(w / size), D].
  """
  if size == 1:
    return values
  rows, height, width, features = values.shape
  pads = (0, 0), (0, -height % size), (0, -width % size), (0, 0)
  if height % size or width % size:
    values = jnp.pad(values, pads, constant_values=-jnp.inf)
  height, width = -(-height // size), -(-width // size)
  # Rows first, then columns as slices of the last axis: whole cache lines.
  values = values.reshape(rows, height, size, width * size, features)
  values = _max_of([values[:, :, i] for i in range(size)])
  values = values.reshape(rows, height, width, size * features)
  return _max_of(jnp.split(values, size, axis=-1))


def _max_of(pieces: list[Array]) -> Array:
  """The elementwise maximum of several arrays."""
  largest = pieces[0]
  for piece in pieces[1:]:
    largest = jnp.maximum(largest, piece)
  return largest


def space_to_depth(values: Array, size: int) -> Array:
  """Stacks the cells of each size x size block in the features.

  Args:
    values: [R, h, w, D]; padded with zeros below and to the right where `size`
      does not divide h or w.
    size: height and width of a block.

  Returns:
    [R, ceil(h / size), ceil(w / size), size * size * D], the cells of a block
    row by row.
  """
  rows, height, width, features = values.shape
  if height % size or width % size:
    pads = (0, 0), (0, -height % size), (0, -width % size), (0, 0)
    values = jnp.pad(values, pads)
  height, width = -(-height // size), -(-width // size)
  values = values.reshape(rows, height, size, width, size, features)
  values = values.transpose(0, 1, 3, 2, 4, 5)
  return values.reshape(rows, height, width, size * size * features)


class ConvBlock(nn.Module):
  """Convolution, downsampling, norm, ReLU.

  The norm is over the cells of each feature ("instance": Ulyanov et al. 2016,
  https://arxiv.org/abs/1607.08022), over the features of each cell ("layer") or
  over all images of a batch ("batch": `BatchNorm`), or there is none. The first
  takes away what an image has everywhere, such as its background, and learns
  much faster on pictures of objects; but also how much of a feature there is,
  such as the area of the one red object, by which a square differs from a disc.
  The third leaves that; with it the images of a batch depend on each other, in
  training only.

  Attributes:
    features: features of the output.
    kernel_size: height and width of the filters.
    pool_size: height and width of the windows that become one cell; 1 is no
      downsampling.
    downsampling: "max", the maximum of a window, or "stride", the convolution
      at every `pool_size`-th cell only: with 2 a quarter of the sums.
    norm: "instance", "layer", "batch" or "none".
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  features: int
  kernel_size: int = 3
  pool_size: int = 2
  downsampling: str = "max"
  norm: str = "instance"
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self, values: Array, mask: Array | None = None, *, train: bool = False
  ) -> Array:
    """Maps [R, h, w, D] to [R, ceil(h / pool), ceil(w / pool), features].

    Args:
      values: [R, h, w, D].
      mask: bool [R], True = present; None is all. Only batch norm asks.
      train: whether batch norm uses the batch's own statistics.

    Raises:
      ValueError: an unknown norm or downsampling, or the norm "instance" of a
        single cell, which would be 0 whatever the image.
    """
    if self.norm not in ("instance", "layer", "batch", "none"):
      raise ValueError(
        f"norm is {self.norm!r}; it must be 'instance', 'layer', 'batch' or"
        " 'none'"
      )
    if self.downsampling not in ("max", "stride"):
      raise ValueError(
        f"downsampling is {self.downsampling!r}; it must be 'max' or 'stride'"
      )
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    strided = self.downsampling == "stride"
    values = nn.Conv(
      self.features,
      (self.kernel_size, self.kernel_size),
      strides=self.pool_size if strided else 1,
      # A norm over cells takes away what a bias would add to all of them.
      use_bias=self.norm not in ("instance", "batch"),
      name="conv",
      **dtypes,
    )(values)
    if not strided:
      values = max_pool(values, self.pool_size)
    if self.norm == "none":
      return nn.relu(values)
    if self.norm == "layer":
      return nn.relu(nn.LayerNorm(name="norm", **dtypes)(values))
    if self.norm == "batch":
      norm = BatchNorm(name="norm", **dtypes)
      return nn.relu(norm(values, mask, train=train))
    if values.shape[1] * values.shape[2] == 1:
      raise ValueError(
        "a convolution with norm 'instance' needs more than one cell, but the "
        "image has shrunk to one; use larger images, fewer stages or norm "
        "'layer'"
      )
    return nn.relu(nn.InstanceNorm(name="norm", **dtypes)(values))
