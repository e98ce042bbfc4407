"""Residual blocks and the body of a ResNet, without running averages.

He et al. 2016, "Deep Residual Learning for Image Recognition",
https://arxiv.org/abs/1512.03385.

Differs from the paper: group norm (Wu and He 2018,
https://arxiv.org/abs/1803.08494) or instance norm stands where batch norm
stood, so that there is no running state and no image depends on its batch; the
stride of a bottleneck stands in its 3 x 3 convolution, and a block begins as
the identity, since the scale of its last norm starts at 0 (both Goyal et al.
2017, https://arxiv.org/abs/1706.02677); the small stem, for images of about 32
pixels, is one 3 x 3 convolution and no pooling.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.array_types import Array

# layout: whether its blocks are bottlenecks, and the blocks of each stage
LAYOUTS = {
  "18": (False, (2, 2, 2, 2)),
  "34": (False, (3, 4, 6, 3)),
  "50": (True, (3, 4, 6, 3)),
}
NUM_STAGES = 4


def count_groups(features: int, group_size: int) -> int:
  """Counts equal groups of at least `group_size` features, or one of all."""
  most = max(features // group_size, 1)
  return max(n for n in range(1, most + 1) if features % n == 0)


def max_pool_overlapping(values: Array) -> Array:
  """Takes the maximum over windows of 3 x 3 cells, every second cell.

  Equals `nn.max_pool` with a window of 3, a stride of 2 and a padding of 1 on
  all sides, computed by slices as `max_pool` is. Where several cells of a
  window are equal, they share the gradient.

  Args:
    values: [R, h, w, D], floating point.

  Returns:
    [R, ceil(h / 2), ceil(w / 2), D].
  """
  for axis in (1, 2):
    length = 2 * -(-values.shape[axis] // 2) - 1
    pads = [(0, 0)] * values.ndim
    pads[axis] = (1, 1)
    padded = jnp.pad(values, pads, constant_values=-jnp.inf)
    first, second, third = (
      jax.lax.slice_in_dim(padded, i, i + length, 2, axis) for i in range(3)
    )
    values = jnp.maximum(jnp.maximum(first, second), third)
  return values


class CellNorm(nn.Module):
  """Norm over the cells of a grid, by groups of features or one by one.

  Attributes:
    norm: "group", over the cells and the features of a group, or "instance",
      over the cells of each feature, see `ConvBlock`.
    group_size: least number of features of a group.
    zero_scale: whether the scale starts at 0 instead of 1.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  norm: str = "group"
  group_size: int = 16
  zero_scale: bool = False
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, values: Array) -> Array:
    """Norms a grid [R, h, w, D].

    Raises:
      ValueError: an unknown norm, or the norm "instance" of a single cell,
        which would be 0 whatever the image.
    """
    if self.norm not in ("group", "instance") or self.group_size < 1:
      raise ValueError(
        f"norm is {self.norm!r} with groups of {self.group_size}; it must be"
        " 'group' or 'instance', with groups of at least 1"
      )
    single = values.shape[1] * values.shape[2] == 1
    num_groups = values.shape[-1]
    if self.norm == "group":
      num_groups = count_groups(num_groups, self.group_size)
    if single and num_groups == values.shape[-1]:
      raise ValueError(
        "a norm of each feature needs more than one cell, but the image has"
        " shrunk to one; use larger images, the small stem or norm 'group'"
      )
    init_fn = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
    return nn.GroupNorm(
      num_groups,
      scale_init=init_fn,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name=self.norm,
    )(values)


class ResidualBlock(nn.Module):
  """Two 3 x 3 convolutions, or a bottleneck of three, added to the input.

  Where the shape changes, the input passes through a 1 x 1 convolution and a
  norm of its own.

  Attributes:
    features: features of the 3 x 3 convolutions; a bottleneck gives four times
      as many.
    stride: cells from one cell of the output to the next.
    bottleneck: whether 1 x 1 convolutions stand around one 3 x 3 convolution.
    norm: "group" or "instance", see `CellNorm`.
    group_size: see `CellNorm`.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  features: int
  stride: int = 1
  bottleneck: bool = False
  norm: str = "group"
  group_size: int = 16
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, values: Array) -> Array:
    """Maps [R, h, w, D] to [R, ceil(h / stride), ceil(w / stride), F]."""

    def convolve(
      inputs: Array, features: int, size: int, stride: int, name: str
    ) -> Array:
      inputs = _conv(
        features, size, stride, f"conv_{name}", self.dtype, self.param_dtype
      )(inputs)
      return CellNorm(
        self.norm,
        self.group_size,
        zero_scale=name == last,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f"norm_{name}",
      )(inputs)

    narrow, wide = self.features, self.features * (4 if self.bottleneck else 1)
    last = "2" if self.bottleneck else "1"
    if self.bottleneck:
      update = nn.relu(convolve(values, narrow, 1, 1, "0"))
      update = nn.relu(convolve(update, narrow, 3, self.stride, "1"))
      update = convolve(update, wide, 1, 1, last)
    else:
      update = nn.relu(convolve(values, narrow, 3, self.stride, "0"))
      update = convolve(update, wide, 3, 1, last)
    if self.stride > 1 or values.shape[-1] != wide:
      values = convolve(values, wide, 1, self.stride, "shortcut")
    return nn.relu(values.astype(self.dtype) + update)


class ResNet(nn.Module):
  """A stem and four stages of residual blocks; images in, a grid out.

  Attributes:
    layout: "18", "34" or "50", the number of layers in the paper.
    stem: "imagenet", a 7 x 7 convolution and a pooling which divide height and
      width by 4, or "small", a 3 x 3 convolution which keeps them. The stages
      divide by 8.
    width_multiplier: factor on all features; 1 begins with 64.
    norm: "group" or "instance", see `CellNorm`.
    group_size: see `CellNorm`.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  layout: str = "18"
  stem: str = "imagenet"
  width_multiplier: float = 1.0
  norm: str = "group"
  group_size: int = 16
  dtype: str = "float32"
  param_dtype: str = "float32"

  def setup(self) -> None:
    """Makes the layers.

    Raises:
      ValueError: an unknown layout or stem, or less than one feature.
    """
    features = round(64 * self.width_multiplier)
    if (
      self.layout not in LAYOUTS
      or self.stem not in ("imagenet", "small")
      or features < 1
    ):
      raise ValueError(
        f"a ResNet needs a layout of {', '.join(map(repr, LAYOUTS))}, a stem"
        " 'imagenet' or 'small' and at least one feature, got layout"
        f" {self.layout!r}, stem {self.stem!r} and a width_multiplier of"
        f" {self.width_multiplier}"
      )
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
    self.stem_conv = _conv(features, size, stride, "stem", **dtypes)
    self.stem_norm = CellNorm(self.norm, self.group_size, **dtypes)
    bottleneck, num_blocks = LAYOUTS[self.layout]
    self.blocks = [
      [
        ResidualBlock(
          features * 2**stage,
          stride=2 if stage > 0 and block == 0 else 1,
          bottleneck=bottleneck,
          norm=self.norm,
          group_size=self.group_size,
          name=f"stage_{stage}_block_{block}",
          **dtypes,
        )
        for block in range(number)
      ]
      for stage, number in enumerate(num_blocks)
    ]

  def run_stem(self, values: Array) -> Array:
    """Maps images [R, h, w, channels] to the grid that stage 0 reads."""
    values = nn.relu(self.stem_norm(self.stem_conv(values)))
    return max_pool_overlapping(values) if self.stem == "imagenet" else values

  def run_stage(self, stage: int, values: Array) -> Array:
    """Runs the blocks of one of the `NUM_STAGES` stages, counted from 0."""
    for block in self.blocks[stage]:
      values = block(values)
    return values

  def __call__(self, values: Array) -> Array:
    """Maps images [R, h, w, channels] to [R, ceil(h / s), ceil(w / s), F].

    s is 32 with the stem "imagenet" and 8 with "small"; F is 512, with
    bottlenecks 2048, times `width_multiplier`.
    """
    values = self.run_stem(values)
    for stage in range(NUM_STAGES):
      values = self.run_stage(stage, values)
    return values


def _conv(
  features: int,
  size: int,
  stride: int,
  name: str,
  dtype: str,
  param_dtype: str,
) -> nn.Conv:
  """A convolution without bias; padded alike on all sides, as in PyTorch."""
  return nn.Conv(
    features,
    (size, size),
    strides=stride,
    padding=size // 2,
    use_bias=False,
    kernel_init=nn.initializers.he_normal(),
    dtype=dtype,
    param_dtype=param_dtype,
    name=name,
  )
