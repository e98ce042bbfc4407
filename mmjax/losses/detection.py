r"""Cross-entropy of the answer, and of what a detector says of each cell.

Redmon et al. 2016, "You Only Look Once: Unified, Real-Time Object Detection",
https://arxiv.org/abs/1506.02640.

Differs from the paper: cross-entropies in place of squared errors, but for the
places; all terms weigh alike.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmjax.array_types import Array, Batch
from mmjax.losses.cross_entropy import CrossEntropy

KIND_KEYS = ("object_colours", "object_shapes", "object_sizes")


def detection_loss(detections: Any, batch: Batch) -> Array:
  """Compares detections with the objects of a batch.

  Args:
    detections: `presence` [I, N], `kinds` [I, N, C_k] in the order of
      `KIND_KEYS`, `offsets` [I, N, 2]; see `mmjax.nn.detection`.
    batch: holds `object_boxes` [I, K, 4], left, top, right and bottom in shares
      of the picture, `objects_mask` [I, K], and `KIND_KEYS` int [I, K]. No two
      centres are in one cell.

  Returns:
    float32 [I]: the sum over cells of the binary cross-entropy of presence, and
    over objects, in the cell of each, of the cross-entropies of the kinds and
    of the squared error of the place; divided by the number of objects.
  """
  mask = batch["objects_mask"]
  side = math.isqrt(detections.presence.shape[1])
  boxes = batch["object_boxes"].astype(jnp.float32)
  centres = (boxes[..., :2] + boxes[..., 2:]) / 2 * side
  corner = jnp.clip(jnp.floor(centres), 0, side - 1)
  cell = (corner[..., 1] * side + corner[..., 0]).astype(jnp.int32)
  there = jax.nn.one_hot(cell, side * side) * mask[..., None]
  total = optax.sigmoid_binary_cross_entropy(
    detections.presence, there.max(axis=1)
  ).sum(axis=1)

  def at_objects(values: Array) -> Array:
    return jnp.take_along_axis(values, cell[..., None], axis=1)

  apart = jnp.square(at_objects(detections.offsets) - (centres - corner))
  of_object = apart.sum(axis=-1)
  for key, logits in zip(KIND_KEYS, detections.kinds, strict=True):
    of_object += optax.softmax_cross_entropy_with_integer_labels(
      at_objects(logits), batch[key]
    )
  total += jnp.where(mask, of_object, 0).sum(axis=1)
  return total / jnp.maximum(mask.sum(axis=1), 1)


@dataclasses.dataclass(frozen=True)
class AnswerAndDetection:
  """Cross-entropy of `logits` plus weight times the loss of the detector.

  Attributes:
    weight: of the loss of the detector.
    label_smoothing: that of `CrossEntropy`.
  """

  weight: float = 1.0
  label_smoothing: float = 0.0

  def __call__(self, outputs: Mapping[str, Any], batch: Batch) -> Array:
    """Computes the loss of each example.

    Args:
      outputs: holds `logits` [B, C] and `detections` of I pictures.
      batch: holds `label` int [B], `objects_index` int [B], and what
        `detection_loss` reads.

    Returns:
      float32 [B]; each question has the detector's loss on its picture.

    Raises:
      ValueError: see `CrossEntropy`.
    """
    loss = CrossEntropy(self.label_smoothing)(outputs, batch)
    found = detection_loss(outputs["detections"], batch)
    return loss + self.weight * found[batch["objects_index"]]
