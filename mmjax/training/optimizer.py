"""Optimizers as frozen settings that are called with the number of steps.

The schedule follows `training.num_steps`, so a config never states it twice.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmjax.array_types import Array

Schedule = Callable[[Array | int], Array]


def decay_mask(params: Any) -> Any:
  """Says which parameters weight decay shrinks: kernels, and nothing else.

  A kernel is a parameter of two or more axes whose own name ends in `kernel`,
  as linen names the weights of Dense, Conv and recurrent cells. Biases, norm
  scales, embeddings, positions and pooling queries are left alone.

  Args:
    params: pytree of parameters with string keys.

  Returns:
    The same tree with a bool for each parameter.
  """

  def is_kernel(path: tuple[Any, ...], leaf: Array) -> bool:
    name = str(getattr(path[-1], "key", path[-1]))
    return leaf.ndim >= 2 and name.endswith("kernel")

  return jax.tree_util.tree_map_with_path(is_kernel, params)


def warmup_cosine(
  peak: float, num_steps: int, warmup_steps: int, end_factor: float
) -> Schedule:
  """Linear warm-up to `peak`, then half a cosine down to `peak * end_factor`.

  With t = step + 1, the number of the update, w warm-up steps and n steps:

    rate(t) = peak · t / w                                            t <= w
    rate(t) = peak · (e + (1 - e) · (1 + cos(π (t - w) / (n - w))) / 2)  else

  so that no update is wasted on a rate of zero, update w has exactly `peak`
  and update n (and any after it) exactly `peak * end_factor`.

  Args:
    peak: the highest learning rate.
    num_steps: n, at least 1.
    warmup_steps: w, in [0, n).
    end_factor: e, the last rate as a fraction of the peak.

  Returns:
    A function from the step, counted from 0, to a float32 scalar. Source of
    the shape: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983,
    without restarts.
  """

  def schedule(step: Array | int) -> Array:
    update = jnp.asarray(step, jnp.float32) + 1.0
    progress = (update - warmup_steps) / (num_steps - warmup_steps)
    cosine = (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0))) / 2.0
    factor = end_factor + (1.0 - end_factor) * cosine
    return peak * jnp.minimum(update / max(warmup_steps, 1), factor)

  return schedule


@dataclasses.dataclass(frozen=True)
class AdamW:
  """AdamW with warm-up, cosine decay, clipping and decay of kernels only.

  Source: Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101.

  Attributes:
    learning_rate: peak rate.
    warmup_fraction: share of the steps that the rate rises linearly, [0, 1).
    end_factor: last rate as a fraction of the peak, [0, 1].
    weight_decay: decoupled decay of kernels, times the learning rate.
    clip_norm: largest global norm of the gradient; None clips nothing.
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared gradients.
  """

  learning_rate: float = 2e-3
  warmup_fraction: float = 0.05
  end_factor: float = 0.01
  weight_decay: float = 1e-2
  clip_norm: float | None = 1.0
  b1: float = 0.9
  b2: float = 0.999

  def __post_init__(self):
    """Refuses settings that cannot work, by their config names."""
    _check("learning_rate", self.learning_rate, self.learning_rate > 0, "> 0")
    share = self.warmup_fraction
    _check("warmup_fraction", share, 0 <= share < 1, "in [0, 1)")
    end = self.end_factor
    _check("end_factor", end, 0 <= end <= 1, "in [0, 1]")
    _check("weight_decay", self.weight_decay, self.weight_decay >= 0, ">= 0")
    clip = self.clip_norm
    _check("clip_norm", clip, clip is None or clip > 0, "> 0 or None")
    _check("b1", self.b1, 0 <= self.b1 < 1, "in [0, 1)")
    _check("b2", self.b2, 0 <= self.b2 < 1, "in [0, 1)")

  def schedule(self, num_steps: int) -> Schedule:
    """Returns the learning rate of each step of a run of `num_steps`."""
    _check_num_steps(num_steps)
    # Below 1 update a cosine is left, whatever the fraction rounds to.
    warmup = min(round(self.warmup_fraction * num_steps), num_steps - 1)
    return warmup_cosine(self.learning_rate, num_steps, warmup, self.end_factor)

  def __call__(self, num_steps: int) -> optax.GradientTransformation:
    """Returns the transformation for a run of `num_steps`."""
    adamw = optax.adamw(
      self.schedule(num_steps),
      b1=self.b1,
      b2=self.b2,
      weight_decay=self.weight_decay,
      mask=decay_mask,
    )
    if self.clip_norm is None:
      return adamw
    return optax.chain(optax.clip_by_global_norm(self.clip_norm), adamw)


@dataclasses.dataclass(frozen=True)
class Sgd:
  """Plain gradient descent at a constant rate.

  Its update is linear in the gradient, so it shows a wrongly scaled gradient,
  which adaptive optimizers hide: tests across devices compare its parameters.

  Attributes:
    learning_rate: the rate of every step.
  """

  learning_rate: float = 0.1

  def __post_init__(self):
    """Refuses settings that cannot work, by their config names."""
    _check("learning_rate", self.learning_rate, self.learning_rate > 0, "> 0")

  def schedule(self, num_steps: int) -> Schedule:
    """Returns the constant learning rate."""
    _check_num_steps(num_steps)
    return lambda step: jnp.full((), self.learning_rate, jnp.float32)

  def __call__(self, num_steps: int) -> optax.GradientTransformation:
    """Returns the transformation; the number of steps changes nothing."""
    _check_num_steps(num_steps)
    return optax.sgd(self.learning_rate)


def _check(name: str, value: object, good: bool, expected: str) -> None:
  if not good:
    raise ValueError(f"optimizer.{name} is {value!r}; it must be {expected}")


def _check_num_steps(num_steps: int) -> None:
  if num_steps < 1:
    raise ValueError(
      f"training.num_steps is {num_steps!r}; it must be at least 1"
    )
