"""Video encoder: a Transformer over tubelets, blocks of frames and pixels.

Arnab et al. 2021, "ViViT: A Video Vision Transformer",
https://arxiv.org/abs/2103.15691: its joint attention over space and time
(model 1) and its factorised encoder, first space, then time (model 2).

Differs from the paper: no class token, each tubelet or each step is a token;
the tubelets of a step are averaged between the two encoders; fixed positions,
so that any size and length is allowed; a norm after the embedding; masked
frames have no influence.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.encoders.stacks import make_block
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.encoders.video import StepPooling, fold_steps, video_to_float
from mmjax.nn.convolution import space_to_depth
from mmjax.nn.dense import Dense
from mmjax.nn.positions import sinusoidal_positions, sinusoidal_positions_3d


def cut_tubelets(values: Array, steps: int, size: int) -> Array:
  """Stacks the pixels of each block of steps x size x size in the features.

  A dense layer on them is a 3-D convolution whose stride is its filter's size.

  Args:
    values: [R, T, h, w, channels]; padded with zeros at the end, below and to
      the right where blocks do not fit.
    steps: frames of a block.
    size: height and width of a block in pixels.

  Returns:
    [R, ceil(T / steps), ceil(h / size), ceil(w / size), F], frame by frame,
    each row by row, where F is steps * size * size * channels.
  """
  missing = -values.shape[1] % steps
  values = jnp.pad(values, ((0, 0), (0, missing), (0, 0), (0, 0), (0, 0)))
  rows = values.shape[0]
  frames = space_to_depth(fold_steps(values), size)
  blocks = frames.reshape(rows, -1, steps, *frames.shape[1:])
  blocks = jnp.moveaxis(blocks, 2, -2)  # [R, T', h', w', steps, features]
  return blocks.reshape(*blocks.shape[:-2], -1)


class TubeletEncoder(StagedEncoder):
  """A Transformer over tubelets.

  A clip of T frames of h x w pixels gives ceil(T / tubelet_size) steps of
  ceil(h / patch_size) x ceil(w / patch_size) tubelets. A step is present if one
  of its frames is. Sows `video_grid`, the three numbers.

  Attributes:
    width: width of the tokens.
    tubelet_size: frames of a tubelet.
    patch_size: height and width of a tubelet in pixels.
    num_layers: Transformer blocks over tubelets.
    num_heads: attention heads.
    mlp_dim: hidden width of the perceptrons.
    attention: "joint" looks at all tubelets of the clip and gives a token for
      each; "factorised" looks at those of the same step, averages them, and
      then looks at all steps, a token each.
    num_temporal_layers: Transformer blocks over steps, of "factorised".
    dropout_rate: dropout in the blocks.
    implementation: that of `MultiHeadAttention`.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  tubelet_size: int
  patch_size: int
  num_layers: int
  num_heads: int
  mlp_dim: int
  attention: str = "joint"
  num_temporal_layers: int = 2
  dropout_rate: float = 0.0
  implementation: str | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  @property
  def num_stages(self) -> int:
    """One for each block."""
    over_steps = self.num_temporal_layers if self._is_factorised else 0
    return self.num_layers + over_steps

  @property
  def _is_factorised(self) -> bool:
    """Whether blocks over tubelets see those of one step only."""
    return self.attention == "factorised"

  def setup(self) -> None:
    """Makes the layers.

    Raises:
      ValueError: an unknown `attention`.
    """
    if self.attention not in ("joint", "factorised"):
      raise ValueError(
        f"attention is {self.attention!r}; it must be 'joint' or 'factorised'"
      )
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    kind = "space" if self._is_factorised else "block"
    names = [f"{kind}_{i}" for i in range(self.num_layers)]
    names += [f"time_{i}" for i in range(self.num_stages - self.num_layers)]
    self.blocks = [make_block(self, name) for name in names]
    self.tubelet = Dense(self.width, **dtypes)
    self.tubelet_norm = nn.LayerNorm(**dtypes)
    self.pooling = StepPooling("mean", **dtypes)
    self.out_norm = nn.LayerNorm(**dtypes)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads clips; a stage is steps of tubelets, or of one vector each.

    Args:
      values: [R, T, h, w, channels], uint8 or floating point in [0, 1].
      mask: bool [R] or [R, T], True = present.
      train: not used, dropout is that of the blocks.

    Raises:
      ValueError: see `expand_frame_mask`.
    """
    del train
    clips, mask = video_to_float(values, mask, self.dtype)
    grid = cut_tubelets(clips, self.tubelet_size, self.patch_size)
    rows, steps, height, width, _ = grid.shape
    self.sow("intermediates", "video_grid", jnp.array((steps, height, width)))
    mask = jnp.pad(mask, ((0, 0), (0, -mask.shape[1] % self.tubelet_size)))
    mask = mask.reshape(rows, steps, self.tubelet_size).any(axis=-1)
    grid = self.tubelet_norm(self.tubelet(grid))
    places = sinusoidal_positions_3d(*grid.shape[1:])
    states = grid.reshape(rows, -1, self.width) + jnp.asarray(
      places, grid.dtype
    )
    return Stage(states.reshape(rows, steps, -1, self.width), mask)

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs a block over tubelets, or over averaged steps."""
    if depth == self.num_layers:
      stage = self._average_steps(stage)
    states, mask = stage.values, stage.mask
    if depth < self.num_layers:
      mask = jnp.broadcast_to(mask[..., None], states.shape[:3])
      rows = mask.shape[0] * (mask.shape[1] if self._is_factorised else 1)
      states = states.reshape(rows, -1, self.width)
      mask = mask.reshape(rows, -1)
    states = self.blocks[depth](states, mask, train=train)
    return stage.replace(values=states.reshape(stage.values.shape))

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Makes Tokens [R, N, width], step by step, each row by row."""
    del train
    if self._is_factorised and self.num_temporal_layers == 0:
      stage = self._average_steps(stage)
    states = stage.values.reshape(len(stage.mask), -1, self.width)
    states = self.out_norm(states).reshape(stage.values.shape)
    return stage.replace(values=states).to_tokens()

  def _average_steps(self, stage: Stage) -> Stage:
    """Makes one vector of all tubelets of a step, and adds its position."""
    mask = jnp.broadcast_to(stage.mask[..., None], stage.values.shape[:3])
    states = self.pooling(stage.values, mask)
    places = sinusoidal_positions(*states.shape[1:])
    return stage.replace(values=states + jnp.asarray(places, states.dtype))
