r"""Cross-entropy of class labels, in nats, one number for each example.

Label smoothing: Szegedy et al. 2016, "Rethinking the Inception Architecture
for Computer Vision", https://arxiv.org/abs/1512.00567.

Differs from the paper: nothing.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mmjax.array_types import Array, Batch


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
  r"""Cross-entropy between `logits` and `label`.

  .. math::
    \ell = -(1 - s) \log p_y - \frac{s}{C} \sum_c \log p_c

  >>> import jax.numpy as jnp
  >>> loss = CrossEntropy()
  >>> outputs = {"logits": jnp.zeros([1, 4])}
  >>> round(float(loss(outputs, {"label": jnp.array([2])})[0]), 4)
  1.3863

  Attributes:
    label_smoothing: the share s of probability that the target spreads evenly
      over all classes, from 0 to below 1.
  """

  label_smoothing: float = 0.0

  def __post_init__(self) -> None:
    """Checks the smoothing.

    Raises:
      ValueError: it is not in [0, 1).
    """
    if not 0.0 <= self.label_smoothing < 1.0:
      raise ValueError(
        "loss 'cross_entropy' needs a label_smoothing from 0 to below 1, got"
        f" {self.label_smoothing}"
      )

  def __call__(self, outputs: Mapping[str, Array], batch: Batch) -> Array:
    """Computes the loss of each example; padding examples are not left out.

    Args:
      outputs: holds `logits` [B, C].
      batch: holds `label`, int [B] from 0 to C - 1. Any other label gives
        NaN.

    Returns:
      float32 [B], in nats.

    Raises:
      ValueError: shapes that do not fit.
    """
    logits, label = outputs["logits"], batch["label"]
    if logits.ndim != 2 or label.shape != logits.shape[:1]:
      raise ValueError(
        "loss 'cross_entropy' needs logits [B, C] and label [B], got"
        f" {list(logits.shape)} and {list(label.shape)}"
      )
    num_classes = logits.shape[1]
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    known = (label >= 0) & (label < num_classes)
    index = jnp.where(known, label, 0)[:, None]
    loss = -jnp.take_along_axis(log_probs, index, axis=1)[:, 0]
    if self.label_smoothing:
      smoothing = self.label_smoothing
      loss = (1 - smoothing) * loss - smoothing * log_probs.mean(axis=1)
    return jnp.where(known, loss, jnp.nan)
