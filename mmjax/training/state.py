"""The training state: everything that a resumed run needs to go on exactly."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from mmjax.array_types import Array

# rng -> variables, for instance `lambda rng: model.init(rng, batch, train=...)`
InitFn = Callable[[Array], Any]


@flax.struct.dataclass
class TrainState:
  """What changes from step to step, and the key that all randomness is from.

  Attributes:
    step: int32 scalar, number of updates made; the next one uses batch `step`.
    params: pytree of parameters, without a device axis on any device count.
    opt_state: the optimizer's state.
    rng: typed key that never changes; step k draws from `fold_in(rng, k)`, so
      that a restart at k is exact.
    bad_step: int32 scalar, -1 or the first step whose loss, gradient or
      update was not finite. From then on nothing in the state changes.
  """

  step: Array
  params: Any
  opt_state: optax.OptState
  rng: Array
  bad_step: Array


def create_state(
  init_fn: InitFn, tx: optax.GradientTransformation, rng: Array
) -> TrainState:
  """Initialises parameters and optimizer in one jitted call.

  Args:
    init_fn: function from a key to linen variables. Besides `params` it may
      return `intermediates` (sown values), which are dropped.
    tx: the optimizer.
    rng: typed key, `jax.random.key(seed)`. It is split, so the caller's key
      survives the donation of the state.

  Returns:
    The state before the first step.

  Raises:
    ValueError: the model has a mutable collection (such as batch statistics),
      which the step would silently never update.
  """
  return jax.jit(_make_create(init_fn, tx))(rng)


def abstract_state(
  init_fn: InitFn, tx: optax.GradientTransformation, rng: Array
) -> TrainState:
  """Like `create_state` but shapes and dtypes only; compiles nothing.

  It is the target that a checkpoint is restored into.
  """
  return jax.eval_shape(_make_create(init_fn, tx), rng)


def _make_create(
  init_fn: InitFn, tx: optax.GradientTransformation
) -> Callable[[Array], TrainState]:
  def create(rng: Array) -> TrainState:
    init_rng, step_rng = jax.random.split(rng)
    variables = init_fn(init_rng)
    others = sorted(set(variables) - {"params", "intermediates"})
    if others:
      raise ValueError(
        f"the model has the mutable collections {others}, which training does "
        "not update; use modules without them, for instance "
        "`mmjax.nn.batch_norm.BatchNorm`, whose statistics are parameters, "
        "instead of that of linen"
      )
    params = variables["params"]
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=tx.init(params),
      rng=step_rng,
      bad_step=jnp.full((), -1, jnp.int32),
    )

  return create
