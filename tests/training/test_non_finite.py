"""Ways not to be finite that a finite loss hides."""

import jax
import jax.numpy as jnp
import numpy as np
from training_toys import assert_trees_equal

from mmjax.training.optimizer import AdamW
from mmjax.training.state import create_state
from mmjax.training.step import make_train_step


def test_non_finite_gradient_of_a_finite_loss():
  def apply_fn(variables, batch, *, train, rngs, mutable):
    del train, rngs, mutable
    return variables["params"]["w"] * batch["x"], {}

  def root(outputs, batch):  # sqrt has an infinite slope at 0
    del batch
    return jnp.sqrt(outputs)

  tx = AdamW()(9)
  state = create_state(
    lambda rng: {"params": {"w": jnp.ones(3)}}, tx, jax.random.key(0)
  )
  step = jax.jit(make_train_step(apply_fn, root, tx))
  mask = np.ones(3, bool)
  ok = {"x": np.ones(3, np.float32), "example_mask": mask}
  bad = {"x": np.array([1, 0, 1], np.float32), "example_mask": mask}
  before, _ = step(state, ok)
  after, metrics = step(before, bad)
  assert np.isfinite(metrics["loss"])
  assert not np.isfinite(metrics["grad_norm"])
  assert int(after.bad_step) == 1
  assert_trees_equal(after.replace(bad_step=before.bad_step), before)


def test_gradient_whose_square_overflows_is_bad():
  """Adam would divide by infinity: finite parameters, a ruined state."""

  def apply_fn(variables, batch, *, train, rngs, mutable):
    del train, rngs, mutable
    return variables["params"]["w"] * batch["x"], {}

  tx = AdamW(clip_norm=None)(9)
  before = create_state(
    lambda rng: {"params": {"w": jnp.ones(3)}}, tx, jax.random.key(0)
  )
  step = jax.jit(make_train_step(apply_fn, lambda outputs, _: outputs, tx))
  batch = {"x": np.full(3, 1e30, np.float32), "example_mask": np.ones(3, bool)}
  after, metrics = step(before, batch)
  assert np.isfinite(metrics["loss"])
  assert int(after.bad_step) == 0
  assert_trees_equal(after.replace(bad_step=before.bad_step), before)
