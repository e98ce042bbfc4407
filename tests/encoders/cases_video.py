"""The encoders of clips, and the ResNet, with what their tests share."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np
from module_checks import random_variables

from mmjax.encoders.image import GridEncoder, PatchEncoder
from mmjax.encoders.resnet import ResNetEncoder
from mmjax.encoders.video_conv3d import Conv3dEncoder
from mmjax.encoders.video_frames import FrameSequenceEncoder
from mmjax.encoders.video_graph import VideoGraphEncoder
from mmjax.encoders.video_tubelet import TubeletEncoder
from mmjax.encoders.video_two_stream import TwoStreamEncoder

_RNG = np.random.default_rng(0)
CLIPS = _RNG.random((3, 5, 8, 9, 3)).astype(np.float32)
FLOWS = _RNG.random((3, 5, 8, 9, 5)).astype(np.float32)
# A hole, a clip that is missing, and one that ends early.
CLIPS_MASK = np.array([[1, 1, 0, 1, 1], [0] * 5, [1, 1, 1, 0, 0]], bool)
EVERY = np.ones((3, 5), bool)
MASKED = np.where(CLIPS_MASK[:, :, None, None, None], CLIPS, np.nan)
IMAGES = _RNG.random((3, 11, 13, 3)).astype(np.float32)
IMAGES_MASK = np.array([True, False, True])

_BLOCK = 24 + 162 + (6 * 11 + 11 + 11 * 6 + 6)  # of width 6, hidden layer 11


@dataclasses.dataclass(frozen=True)
class Case:
  """One encoder.

  Attributes:
    make: from a dtype to the module.
    width: width of the tokens.
    per_step: tokens a step, one number for each group.
    count: number of parameters.
    window: frames of a step.
    values: [R, T, ...] or [R, ...].
    mask: bool [R, T] or [R].
  """

  make: Callable[[str], nn.Module]
  width: int
  per_step: tuple[int, ...]
  count: int
  window: int = 1
  values: np.ndarray = dataclasses.field(default_factory=lambda: CLIPS)
  mask: np.ndarray = dataclasses.field(default_factory=lambda: CLIPS_MASK)

  def steps_mask(self, mask):
    """The mask bool [R, S] of the steps of clips, or of images."""
    if mask.ndim == 1:
      return mask[:, None]
    starts = range(0, mask.shape[1], self.window)
    return np.stack(
      [mask[:, i : i + self.window].any(axis=1) for i in starts], axis=1
    )


def _count_resnet(widths, channels):
  """Of layout 18 with the small stem: weights and norms."""
  total, before = 9 * channels * widths[0] + 2 * widths[0], widths[0]
  for width in widths:
    total += 9 * before * width + 3 * 9 * width**2 + 4 * 2 * width
    if before != width:
      total += before * width + 2 * width
    before = width
  return total


CASES = {
  "resnet": Case(
    lambda dtype: ResNetEncoder(
      7, stem="small", width_multiplier=1 / 16, dtype=dtype
    ),
    7,
    (2 * 2,),
    _count_resnet((4, 8, 16, 32), 3) + (32 * 7 + 7) + 14,
    values=IMAGES,
    mask=IMAGES_MASK,
  ),
  "conv3d": Case(
    lambda dtype: Conv3dEncoder(
      7, features=(3, 5), time_pools=(1, 2), dtype=dtype
    ),
    7,
    (2 * 3,),
    (81 * 3 + 6) + (81 * 5 + 10) + (5 * 7 + 7) + 14,
    window=2,
  ),
  "conv3d_lstm": Case(
    lambda dtype: Conv3dEncoder(
      7,
      features=(4, 5),
      time_pools=(2, 1),
      stem_size=2,
      tokens="frames",
      num_lstm_layers=1,
      norm="layer",
      dtype=dtype,
    ),
    7,
    (1,),
    (27 * 12 * 4 + 4 + 8)
    + (27 * 4 * 5 + 5 + 10)
    + (5 * 28 + 28 + 7 * 28)
    + (7 * 7 + 7)
    + 14,
    window=2,
  ),
  "two_stream": Case(
    lambda dtype: TwoStreamEncoder(
      GridEncoder(6, features=(3,), dtype=dtype),
      PatchEncoder(6, 5, num_layers=1, num_heads=3, mlp_dim=11, dtype=dtype),
      stack_size=2,
    ),
    6,
    (4 * 5, 2 * 2),
    (27 * 3 + 6 + 3 * 6 + 6 + 12) + (25 * 6 * 6 + 6 + 12 + _BLOCK + 12),
    window=2,
  ),
  "two_stream_flow": Case(
    lambda dtype: TwoStreamEncoder(
      GridEncoder(6, features=(3,), dtype=dtype),
      GridEncoder(6, features=(5,), dtype=dtype),
      stack_size=3,
      flow_channels=2,
      merge="add",
    ),
    6,
    (4 * 5,),
    (27 * 3 + 6 + 3 * 6 + 6 + 12) + (54 * 5 + 10 + 5 * 6 + 6 + 12),
    window=3,
    values=FLOWS,
  ),
  "frames_lstm": Case(
    lambda dtype: FrameSequenceEncoder(
      7,  # 4 for each direction
      GridEncoder(5, features=(3,), dtype=dtype),
      pooling="attention",
      bidirectional=True,
      dtype=dtype,
    ),
    7,
    (1,),
    (27 * 3 + 6 + 3 * 5 + 5 + 10)
    + (5 * 5 + 5 + 5)
    + 2 * (5 * 16 + 16 + 4 * 16)
    + (8 * 7 + 7)
    + 14,
  ),
  "frames_transformer": Case(
    lambda dtype: FrameSequenceEncoder(
      6,
      GridEncoder(5, features=(3,), dtype=dtype),
      pooling="max",
      sequence="transformer",
      num_heads=3,
      mlp_dim=11,
      dtype=dtype,
    ),
    6,
    (1,),
    (27 * 3 + 6 + 3 * 5 + 5 + 10) + (5 * 6 + 6 + 12) + _BLOCK + 12,
  ),
  "graph": Case(
    lambda dtype: VideoGraphEncoder(
      6,
      GridEncoder(5, features=(3,), dtype=dtype),
      pooling="max",
      skips=(1, 3),
      num_similar=2,
      num_rounds=2,
      num_heads=3,
      mlp_dim=11,
      dtype=dtype,
    ),
    6,
    (1,),
    (27 * 3 + 6 + 3 * 5 + 5 + 10)
    + (5 * 6 + 6 + 12)
    # Of a block: the ends and the edges of 6 kinds with cosines, the score.
    + 2 * (24 + 2 * 36 + 6 + 7 * 6 + 6 + 6 + (6 * 11 + 11 + 11 * 6 + 6))
    + 12,
  ),
  "graph_tokens": Case(
    lambda dtype: VideoGraphEncoder(
      6,
      GridEncoder(5, features=(3, 4), dtype=dtype),
      nodes="tokens",
      skips=(1, 2),
      num_similar=0,
      num_rounds=1,
      messages="perceptron",
      mlp_dim=11,
      dtype=dtype,
    ),
    6,
    (2 * 3,),
    (27 * 3 + 6 + 27 * 4 + 8 + 4 * 5 + 5 + 10)
    + (5 * 6 + 6 + 12)
    + (24 + 2 * (11 + 11 * 6 + 6) + (4 + 6 + 6) * 11 + 6 * 11)
    + 12,
  ),
  "tubelet_joint": Case(
    lambda dtype: TubeletEncoder(
      6, 2, 4, num_layers=1, num_heads=3, mlp_dim=11, dtype=dtype
    ),
    6,
    (2 * 3,),
    (2 * 16 * 3 * 6 + 6 + 12) + _BLOCK + 12,
    window=2,
  ),
  "tubelet_factorised": Case(
    lambda dtype: TubeletEncoder(
      6,
      2,
      4,
      num_layers=1,
      num_heads=3,
      mlp_dim=11,
      attention="factorised",
      num_temporal_layers=1,
      dtype=dtype,
    ),
    6,
    (1,),
    (2 * 16 * 3 * 6 + 6 + 12) + 2 * _BLOCK + 12,
    window=2,
  ),
}


def init(module, values, mask):
  return random_variables(module.init, values, mask, train=False)


def run(module, *args, **kwargs):
  return jax.jit(lambda *args: module.apply(*args, **kwargs))(*args)


def dense(values, params):
  """Computes `nn.Dense` in numpy."""
  return values @ params["kernel"] + params["bias"]


def layer_norm(values, params):
  """Computes `nn.LayerNorm` in numpy."""
  mean = values.mean(-1, keepdims=True)
  normed = (values - mean) / np.sqrt(values.var(-1, keepdims=True) + 1e-6)
  return normed * params["scale"] + params["bias"]
