"""What a detector of objects gets right, beside the answers that it leads to.

An object is found if the cell in which its centre lies says so; what the
detector says of colour, shape, size and place is scored on the objects found.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Array, Batch
from mmjax.metrics.classification import ClassificationMetrics

# In the order of `detections.kinds`.
KINDS = ("colour", "shape", "size")


def count_detections(detections: Any, batch: Batch) -> dict[str, Array]:
  """Counts what was found in I pictures.

  Args:
    detections: `presence` [I, N], `kinds` [I, N, C_k] in the order of `KINDS`,
      `offsets` [I, N, 2]; see `mmjax.nn.detection`.
    batch: holds `image` [I, h, h, 3] and `image_mask` [I]; `object_boxes`
      [I, K, 4], left, top, right and bottom in shares of the picture,
      `objects_mask` [I, K], and `object_colours`, `object_shapes`,
      `object_sizes` int [I, K].

  Returns:
    "objects": int32 [3 + kinds + 1]: objects there are, those found, cells that
    claim an object that is not there, found objects with the right colour,
    shape and size, and with all three; "distance": float32, the sum over found
    objects of the distance to the right place, in pixels.
  """
  shown = batch["image_mask"][:, None]
  mask = batch["objects_mask"] & shown
  side = math.isqrt(detections.presence.shape[1])
  boxes = batch["object_boxes"].astype(jnp.float32)
  centres = (boxes[..., :2] + boxes[..., 2:]) / 2 * side
  corner = jnp.clip(jnp.floor(centres), 0, side - 1)
  cell = (corner[..., 1] * side + corner[..., 0]).astype(jnp.int32)
  claimed = (detections.presence > 0) & shown
  found = jnp.take_along_axis(claimed, cell, axis=1) & mask

  def at_objects(values: Array) -> Array:
    return jnp.take_along_axis(values, cell[..., None], axis=1)

  right = [
    at_objects(logits).argmax(axis=-1) == batch[f"object_{kind}s"]
    for kind, logits in zip(KINDS, detections.kinds, strict=True)
  ]
  right.append(jnp.stack(right).all(axis=0))
  apart = at_objects(detections.offsets) - (centres - corner)
  distance = jnp.sqrt(jnp.square(apart).sum(axis=-1))
  pixels = distance * batch["image"].shape[1] / side
  counted = [mask.sum(), found.sum(), claimed.sum() - found.sum()]
  counted += [(each & found).sum() for each in right]
  return {
    "objects": jnp.stack(counted).astype(jnp.int32),
    "distance": jnp.where(found, pixels, 0.0).sum(),
  }


@dataclasses.dataclass(frozen=True)
class DetectionMetrics(ClassificationMetrics):
  """Counts and scores of a model that answers and detects."""

  def update(
    self, outputs: Mapping[str, Any], batch: Batch
  ) -> dict[str, Array]:
    """Counts one batch.

    Args:
      outputs: holds `logits` [B, C] and `detections` of I pictures.
      batch: see `ClassificationMetrics.update` and `count_detections`.

    Returns:
      What both return.

    Raises:
      ValueError: see `ClassificationMetrics.update`.
    """
    found = count_detections(outputs["detections"], batch)
    return {**super().update(outputs, batch), **found}

  def compute(
    self,
    counts: Mapping[str, Any],
    labels: Sequence[str] | None = None,
    types: Sequence[str] | None = None,
  ) -> dict[str, Any]:
    """Turns summed counts into scores that JSON can hold.

    Returns:
      What `ClassificationMetrics.compute` does, and `detection`: `objects`,
      how many there are; `found`, the share of them that was found; `spurious`,
      the share of claims without an object; `colour`, `shape`, `size` and
      `all_kinds`, the shares of the found that are right; and `distance`, the
      mean error of their places in pixels. None where there is nothing to
      divide by.

    Raises:
      ValueError: see `ClassificationMetrics.compute`.
    """
    scores = super().compute(counts, labels, types)
    objects, found, spurious, *right = np.asarray(counts["objects"]).tolist()

    def divide(number: float, total: int) -> float | None:
      return number / total if total else None

    names = (*KINDS, "all_kinds")
    return {
      **scores,
      "detection": {
        "objects": objects,
        "found": divide(found, objects),
        "spurious": divide(spurious, found + spurious),
        **{
          name: divide(number, found)
          for name, number in zip(names, right, strict=True)
        },
        "distance": divide(float(counts["distance"]), found),
      },
    }
