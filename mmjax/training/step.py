"""One update and one evaluation as pure functions of state and batch.

Means are wrong to average over devices whose masks differ (39 % gradient
error, measured), so nothing is divided until sums and counts of all devices
are added: (sum, count) → psum → one division → optax.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import lax

from mmjax.array_types import RUNNING, Array, Batch
from mmjax.training.optimizer import Schedule
from mmjax.training.parallel import split_batch
from mmjax.training.state import TrainState

# (outputs, batch) -> [B], one value for each example, not yet masked
PerExampleFn = Callable[[Any, Batch], Array]
RESERVED = ("loss", "num_examples", "grad_norm", "learning_rate", RUNNING)


class Metrics(Protocol):
  """What turns outputs into sums that can be added over batches."""

  def update(self, outputs: Any, batch: Batch) -> Any:
    """Returns a pytree of sums over the examples that are not padding."""


def make_train_step(
  apply_fn: Callable[..., Any],
  loss_fn: PerExampleFn,
  tx: optax.GradientTransformation,
  *,
  metric_fns: Mapping[str, PerExampleFn] = MappingProxyType({}),
  learning_rate_fn: Schedule | None = None,
  accumulation_steps: int = 1,
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
  """Makes `step(state, batch, *, axis_name=None) -> (state, metrics)`.

  With the loss l_b and the mask m_b of every example b on every device, the
  loss is Σ m_b l_b / Σ m_b, exactly, however examples are spread over devices
  and slices (dropout and batch norm aside). A batch without examples has loss
  0.

  If loss, gradient, update (their norms count: an overflow in float32 is not
  finite either) or new parameters are not finite, the state comes back
  unchanged but for `bad_step`, and never changes again.

  Args:
    apply_fn: `model.apply`, called with `({"params": params}, batch,
      train=True, rngs={"dropout": key}, mutable=["running"])`. What is sown
      there replaces the parameters of the same paths, as running statistics.
    loss_fn: (outputs, batch) -> [B], the loss of each example, unmasked.
    tx: the optimizer.
    metric_fns: more values of each example to average, by name.
    learning_rate_fn: adds `learning_rate` of this step to the metrics.
    accumulation_steps: slices that the (device's) batch is worked through in,
      to need less memory. The gradient is that of the whole batch.

  Returns:
    The step. `axis_name` names the axis of pmap or vmap, if any. `metrics`
    are float32 scalars, equal on all devices: `loss` in nats, each of
    `metric_fns`, `grad_norm` before clipping and `num_examples`.

  Raises:
    ValueError: a metric's name is taken; or, when traced, a loss or metric
      that is not [B], or a batch without `example_mask`.
  """
  taken = sorted(set(metric_fns) & set(RESERVED))
  if taken:
    raise ValueError(f"metrics may not be named {taken}: the step uses these")
  per_example = {"loss": loss_fn, **metric_fns}

  def compute_sums(
    params: Any, batch: Batch, rng: Array
  ) -> tuple[Array, dict[str, Any]]:
    outputs, sown = apply_fn(
      {"params": params},
      batch,
      train=True,
      rngs={"dropout": rng},
      mutable=[RUNNING],
    )
    mask = _example_mask(batch)
    sums = {"num_examples": jnp.sum(mask, dtype=jnp.float32)}
    for name, fn in per_example.items():
      sums[name] = _masked_sum(name, fn(outputs, batch), mask)
    return sums["loss"], sums | {RUNNING: sown.get(RUNNING, {})}

  def compute_gradient(
    params: Any, batch: Batch, rng: Array
  ) -> tuple[dict[str, Any], Any]:
    (_, sums), grads = jax.value_and_grad(compute_sums, has_aux=True)(
      params, batch, rng
    )
    return sums, grads

  def accumulate(
    params: Any, batch: Batch, rng: Array
  ) -> tuple[dict[str, Any], Any]:
    def add(total: Any, inputs: Any) -> tuple[Any, dict[str, Any]]:
      index, piece = inputs
      key = jax.random.fold_in(rng, index)
      sums, grads = compute_gradient(params, piece, key)
      return jax.tree.map(jnp.add, total, grads), sums

    pieces = split_batch(batch, accumulation_steps)
    # Unrolled: a convolution in an XLA CPU loop is 12 times slower.
    grads, sums = lax.scan(
      add,
      jax.tree.map(jnp.zeros_like, params),
      (jnp.arange(accumulation_steps), pieces),
      unroll=True,
    )
    return jax.tree.map(lambda leaf: leaf.sum(axis=0), sums), grads

  compute = compute_gradient if accumulation_steps == 1 else accumulate

  def step(
    state: TrainState, batch: Batch, *, axis_name: str | None = None
  ) -> tuple[TrainState, dict[str, Array]]:
    rng = step_rng(state.rng, state.step, axis_name)
    sums, grads = compute(state.params, batch, rng)
    if axis_name is not None:
      sums, grads = lax.psum((sums, grads), axis_name)
    num_examples, running = sums.pop("num_examples"), sums.pop(RUNNING)
    count = jnp.maximum(num_examples, 1.0)
    grads = jax.tree.map(lambda g: (g / count).astype(g.dtype), grads)
    metrics = {name: total / count for name, total in sums.items()}
    metrics["grad_norm"] = optax.tree.norm(grads)
    metrics["num_examples"] = num_examples
    if learning_rate_fn is not None:
      metrics["learning_rate"] = learning_rate_fn(state.step)
    return _update(state, grads, running, metrics, tx), metrics

  return step


def make_eval_step(
  apply_fn: Callable[..., Any], metrics: Metrics
) -> Callable[..., Any]:
  """Makes `step(params, batch, *, axis_name=None) -> counts`.

  Args:
    apply_fn: `model.apply`, called with `({"params": params}, batch,
      train=False)`.
    metrics: what makes a pytree of sums from outputs and batch. Padding
      examples must not count.

  Returns:
    The step; its counts are summed over `axis_name`, so adding those of all
    batches gives the counts of the split.
  """

  def step(params: Any, batch: Batch, *, axis_name: str | None = None) -> Any:
    outputs = apply_fn({"params": params}, batch, train=False)
    counts = metrics.update(outputs, batch)
    return counts if axis_name is None else lax.psum(counts, axis_name)

  return step


def step_rng(rng: Array, step: Array, axis_name: str | None = None) -> Array:
  """Returns the key of one step on one device: a function of nothing else."""
  device = 0 if axis_name is None else lax.axis_index(axis_name)
  return jax.random.fold_in(jax.random.fold_in(rng, step), device)


def _update(
  state: TrainState,
  grads: Any,
  running: Mapping[str, Any],
  metrics: Mapping[str, Array],
  tx: optax.GradientTransformation,
) -> TrainState:
  """Applies the gradient, or marks the step as bad and changes nothing."""
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  params = _follow(params, running)
  finite = (
    jnp.isfinite(metrics["loss"])
    & jnp.isfinite(metrics["grad_norm"])
    & jnp.isfinite(optax.tree.norm(updates))
    & _all_finite(params)
  )
  good = state.bad_step < 0
  params, opt_state = jax.tree.map(
    lambda new, old: jnp.where(good & finite, new, old),
    (params, opt_state),
    (state.params, state.opt_state),
  )
  return state.replace(
    step=state.step + (good & finite).astype(jnp.int32),
    params=params,
    opt_state=opt_state,
    bad_step=jnp.where(good & ~finite, state.step, state.bad_step),
  )


def _follow(params: Any, running: Mapping[str, Any]) -> Any:
  """Replaces parameters by what was sown for them, if any value said so."""
  pairs, _ = jax.tree_util.tree_flatten_with_path(
    running, is_leaf=lambda node: isinstance(node, tuple)
  )
  sown = {jax.tree_util.keystr(path): pair for path, pair in pairs}

  def replace(path: Any, old: Array) -> Array:
    name = jax.tree_util.keystr(path)
    if name not in sown:
      return old
    total, weight = sown[name]
    mean = total / jnp.maximum(weight, 1.0)
    return jnp.where(weight > 0, mean, old).astype(old.dtype)

  return jax.tree_util.tree_map_with_path(replace, params)


def _all_finite(tree: Any) -> Array | bool:
  """Whether every number is; running variances may be larger than norms."""
  finite = jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), tree)
  return jax.tree.reduce(jnp.logical_and, finite, True)


def _example_mask(batch: Batch) -> Array:
  if "example_mask" not in batch:
    raise ValueError(
      f"the batch has no 'example_mask' [B], only {sorted(batch)}; add one, "
      "all True if no example is padding"
    )
  return batch["example_mask"]


def _masked_sum(name: str, values: Array, mask: Array) -> Array:
  if values.shape != mask.shape:
    raise ValueError(
      f"{name!r} must give one value an example, {list(mask.shape)}, but gave "
      f"{list(values.shape)}; do not reduce over examples"
    )
  return jnp.sum(jnp.where(mask, values, 0), dtype=jnp.float32)
