"""Image encoder: a ResNet whose last grid becomes tokens.

He et al. 2016, "Deep Residual Learning for Image Recognition",
https://arxiv.org/abs/1512.03385; its last grid as tokens is what Lu et al.
2016, https://arxiv.org/abs/1606.00061, attend to.

Differs from the papers: norms without running averages (see
`mmjax.nn.residual`), trained with the rest, and no pooling and no classifier
at the end: cells are projected, normed and given positions as in `GridEncoder`.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.encoders.image import grid_positions, image_to_float
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.nn.dense import Dense
from mmjax.nn.residual import NUM_STAGES, ResNet


class ResNetEncoder(StagedEncoder):
  """A ResNet; each cell of its last grid becomes a token.

  An image of h x w pixels gives ceil(h / s) x ceil(w / s) tokens, where s is
  32 with the stem "imagenet" and 8 with "small". Sows `grid`, the two numbers.

  Attributes:
    width: width of the tokens.
    layout: "18", "34" or "50", the number of layers in the paper.
    stem: "imagenet" or "small", see `ResNet`.
    width_multiplier: factor on all features of the ResNet.
    norm: "group" or "instance", see `CellNorm`.
    group_size: least number of features of a group.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  layout: str = "18"
  stem: str = "imagenet"
  width_multiplier: float = 1.0
  norm: str = "group"
  group_size: int = 16
  dtype: str = "float32"
  param_dtype: str = "float32"

  @property
  def num_stages(self) -> int:
    """Those of the ResNet, behind its stem."""
    return NUM_STAGES

  def setup(self) -> None:
    """Makes the layers."""
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.resnet = ResNet(
      layout=self.layout,
      stem=self.stem,
      width_multiplier=self.width_multiplier,
      norm=self.norm,
      group_size=self.group_size,
      **dtypes,
    )
    self.out = Dense(self.width, **dtypes)
    self.out_norm = nn.LayerNorm(**dtypes)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads images by the stem; a stage is a grid of cells.

    Args:
      values: [R, h, w, channels], uint8 or floating point in [0, 1].
      mask: bool [R], True = present.
      train: not used, nothing here is random.

    Raises:
      ValueError: see `image_to_float`, `ResNet` and `CellNorm`.
    """
    del train
    images = image_to_float(values, mask, self.dtype)
    return Stage(self.resnet.run_stem(images), mask)

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs the residual blocks of a stage."""
    del train
    return stage.replace(values=self.resnet.run_stage(depth, stage.values))

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Makes Tokens [R, N, width], row by row of the grid."""
    del train
    grid = self.out_norm(self.out(stage.values))
    self.sow("intermediates", "grid", jnp.array(grid.shape[1:3]))
    return stage.replace(values=grid + grid_positions(grid)).to_tokens()
