"""What the video encoders share: clips, their frames and their masks.

Clips are [R, T, h, w, channels], with a mask [R] of clips or [R, T] of frames.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.encoders.image import image_to_float
from mmjax.nn.pooling import AttentionPooling, masked_max, masked_mean


def expand_frame_mask(values: Array, mask: Array) -> Array:
  """Checks clips and gives each of their frames a mask.

  Args:
    values: [R, T, h, w, channels], uint8 of 0 to 255 or floating point of 0 to
      1.
    mask: bool [R] or [R, T], True = present.

  Returns:
    bool [R, T].

  Raises:
    ValueError: other shapes or dtypes.
  """
  if (
    values.ndim != 5
    or values.shape[1] == 0
    or mask.shape not in (values.shape[:1], values.shape[:2])
  ):
    raise ValueError(
      "a video encoder needs clips [R, T, h, w, channels] with T > 0 and a mask"
      f" [R] or [R, T], got {list(values.shape)} and {list(mask.shape)}"
    )
  if values.dtype != jnp.uint8 and not jnp.issubdtype(
    values.dtype, jnp.floating
  ):
    raise ValueError(
      "a video encoder needs uint8 pixels of 0 to 255 or floating point of 0 to"
      f" 1, got {values.dtype} {list(values.shape)}"
    )
  if mask.ndim == 1:
    mask = mask[:, None]
  return jnp.broadcast_to(mask, values.shape[:2])


def video_to_float(
  values: Array, mask: Array, dtype: str
) -> tuple[Array, Array]:
  """Brings pixels to [-1, 1] and absent frames to 0.

  Args:
    values: see `expand_frame_mask`.
    mask: bool [R] or [R, T], True = present.
    dtype: dtype of the result.

  Returns:
    [R, T, h, w, channels], and the mask bool [R, T] of the frames.

  Raises:
    ValueError: other shapes or dtypes.
  """
  mask = expand_frame_mask(values, mask)
  frames = image_to_float(fold_steps(values), mask.reshape(-1), dtype)
  return frames.reshape(values.shape), mask


def fold_steps(values: Array) -> Array:
  """Makes the steps of [R, T, ...] rows of their own, [R * T, ...]."""
  return values.reshape(-1, *values.shape[2:])


class StepPooling(nn.Module):
  """Pools the tokens of each frame into one vector.

  Attributes:
    pooling: "mean", "max" or "attention".
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  pooling: str = "mean"
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, values: Array, mask: Array) -> Array:
    """Maps [R, T, N, D] and bool [R, T, N] to [R, T, D].

    Raises:
      ValueError: an unknown pooling.
    """
    if self.pooling not in ("mean", "max", "attention"):
      raise ValueError(
        f"pooling is {self.pooling!r}; it must be 'mean', 'max' or 'attention'"
      )
    values = values.astype(self.dtype)
    if self.pooling == "attention":
      pool_fn = AttentionPooling(
        values.shape[-1],
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name="attention",
      )
    else:
      pool_fn = {"mean": masked_mean, "max": masked_max}[self.pooling]
    pooled = pool_fn(fold_steps(values), fold_steps(mask))
    return pooled.reshape(*values.shape[:2], -1)
