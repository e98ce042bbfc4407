r"""Batch norm over the rows that are there, with its running statistics.

Ioffe and Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training
by Reducing Internal Covariate Shift", https://arxiv.org/abs/1502.03167.

.. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

In training the mean and the variance are those of the batch, so the rows of a
batch depend on each other; in evaluation they are the running ones, and a row
depends on nothing but itself.

As in the paper, and not in `flax.linen.BatchNorm`, the running variance follows
the unbiased one, :math:`\frac{m}{m-1} \sigma^2` of m values.

Differs from both: absent rows do not count; and the running statistics are
parameters, `mean` and `variance`, so whoever has the parameters has all there
is. No gradient reaches them. The module sows what they become, and
`mmjax.training.step` writes it into them: of several devices, or slices of a
batch, each norms by its own rows, and the running statistics follow the mean
and the pooled variance of all of them. Under a lifted transform, such as
`nn.vmap`, `running` has to be among its `variable_axes`, or nothing is sown.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.array_types import RUNNING, Array


class BatchNorm(nn.Module):
  """Norms each feature over the rows of a batch and all their cells.

  Sows `mean` and `variance` in the collection `running` in training, if that is
  mutable: pairs of the new value [D], times its weight, and the weight.

  Attributes:
    momentum: how much of a running statistic is kept in an update.
    epsilon: added to the variance.
    dtype: dtype of the result.
    param_dtype: dtype of scale and bias. Statistics are float32: in bfloat16
      they would stand still before they are there.
  """

  momentum: float = 0.9
  epsilon: float = 1e-5
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self, values: Array, mask: Array | None = None, *, train: bool
  ) -> Array:
    """Norms features.

    Args:
      values: [R, ..., D].
      mask: bool [R], True = present; None is all. Absent rows do not count;
        what they become means nothing.
      train: whether the statistics are those of this batch.

    Returns:
      [R, ..., D].

    Raises:
      ValueError: a mask that is not bool [R]; or, in training, a single value
        of each feature, which less its mean is 0.
    """
    if train and math.prod(values.shape[:-1]) == 1:
      raise ValueError(
        f"batch norm of {list(values.shape)} has one value of a feature, and"
        " needs more in training; give a device or a slice more rows (less"
        " accumulation_steps, a larger batch), or use another norm"
      )
    scale, bias, mean, variance = (
      self.param(
        name, nn.initializers.constant(start), values.shape[-1:], dtype
      ).astype(jnp.float32)
      for name, start, dtype in (
        ("scale", 1, jnp.dtype(self.param_dtype)),
        ("bias", 0, jnp.dtype(self.param_dtype)),
        ("mean", 0, jnp.float32),
        ("variance", 1, jnp.float32),
      )
    )
    mean, variance = jax.lax.stop_gradient((mean, variance))
    there = self._spread(values, mask)
    kept = jnp.where(there, values, 0).astype(jnp.float32)
    if train:
      axes = tuple(range(values.ndim - 1))
      rows = there.sum(dtype=jnp.float32)
      count = rows * math.prod(values.shape[1:-1])
      old_mean, mean = mean, kept.sum(axes) / jnp.maximum(count, 1)
      self._follow("mean", old_mean, mean, count)
      squares = jnp.square(jnp.where(there, kept - mean, 0)).sum(axes)
      # The pooled variance: one value by itself says nothing of it.
      free = jnp.maximum(count - 1, 0)
      self._follow("variance", variance, squares / jnp.maximum(free, 1), free)
      variance = squares / jnp.maximum(count, 1)
    factor = scale * jax.lax.rsqrt(variance + self.epsilon)
    normed = (kept - mean) * factor + bias
    return normed.astype(self.dtype)

  def _spread(self, values: Array, mask: Array | None) -> Array:
    """Returns the mask as bool [R, 1, ..., 1]."""
    rows = values.shape[:1]
    if mask is None:
      mask = jnp.ones(rows, bool)
    if mask.shape != rows or mask.dtype != jnp.bool_:
      raise ValueError(
        f"batch norm of {list(values.shape)} needs a bool mask {list(rows)},"
        f" True where a row is there, got {mask.dtype} {list(mask.shape)}"
      )
    return mask.reshape(rows + (1,) * (values.ndim - 1))

  def _follow(self, name: str, old: Array, new: Array, weight: Array) -> None:
    """Sows what a running statistic becomes, and how many values say so."""
    if not self.is_mutable_collection(RUNNING) or self.is_initializing():
      return
    target = self.momentum * old + (1 - self.momentum) * new
    # A module that is called several times follows the mean over its calls.
    self.sow(
      RUNNING,
      name,
      (weight * target, weight),
      init_fn=lambda: (0.0, 0.0),
      reduce_fn=lambda total, more: jax.tree.map(jnp.add, total, more),
    )
