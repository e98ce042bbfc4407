"""Running statistics: parameters that the step itself writes."""

import functools

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_toys import assert_trees_close

from mmjax.nn.batch_norm import BatchNorm
from mmjax.training.optimizer import AdamW
from mmjax.training.parallel import split_batch
from mmjax.training.state import create_state
from mmjax.training.step import make_eval_step, make_train_step

NUM_STEPS = 300
values = np.random.default_rng(0).normal(3, 2, (12, 4)).astype(np.float32)
BATCH = {
  "x": values,
  "x_mask": np.arange(12) < 9,
  "label": values.sum(axis=1),
  "example_mask": np.arange(12) < 9,
}


class Normed(nn.Module):
  """A norm within a module, as of an encoder, and a head."""

  @nn.compact
  def __call__(self, batch, *, train):
    normed = BatchNorm(momentum=0.9, name="norm")(
      batch["x"], batch["x_mask"], train=train
    )
    return nn.Dense(1, name="out")(normed)[:, 0]


def loss_fn(outputs, batch):
  return jnp.square(outputs - batch["label"])


def make(**settings):
  tx = AdamW(learning_rate=0.1)(NUM_STEPS)
  state = create_state(
    lambda rng: Normed().init(rng, BATCH, train=False), tx, jax.random.key(0)
  )
  return state, make_train_step(Normed().apply, loss_fn, tx, **settings)


def move_by(values):
  """What running statistics become in a step, from the first ones."""
  return {
    "mean": 0.1 * values.mean(axis=0),
    "variance": 0.9 + 0.1 * values.var(axis=0, ddof=1),
  }


def test_a_step_writes_them_and_the_optimizer_does_not():
  state, step = make()
  new, metrics = step(state, BATCH)
  for name, value in move_by(BATCH["x"][:9]).items():
    np.testing.assert_allclose(
      new.params["norm"][name], value, rtol=1e-5, err_msg=name
    )
  assert np.abs(new.params["norm"]["bias"]).min() > 0
  assert set(metrics) == {"loss", "grad_norm", "num_examples"}


@pytest.mark.parametrize("way", ["slices", "devices"])
def test_slices_and_devices_are_weighed_by_their_rows(way):
  """Each of three norms by its own rows: 4, 4 and 1 are there."""
  if way == "slices":
    state, step = make(accumulation_steps=3)
    new, _ = jax.jit(step)(state, BATCH)
  else:
    state, step = make()
    mapped = jax.vmap(
      functools.partial(step, axis_name="batch"),
      axis_name="batch",
      in_axes=(None, 0),
      out_axes=None,
      axis_size=3,
    )
    new, _ = jax.jit(mapped)(state, split_batch(BATCH, 3))
  # The variance is the pooled one, so that of one row counts nothing.
  first, second = move_by(BATCH["x"][:4]), move_by(BATCH["x"][4:8])
  expected = {
    "mean": 0.1 * BATCH["x"][:9].mean(axis=0),
    "variance": (first["variance"] + second["variance"]) / 2,
  }
  for name, value in expected.items():
    np.testing.assert_allclose(new.params["norm"][name], value, rtol=1e-5)


def test_without_a_row_they_stay():
  state, step = make()
  nothing = {**BATCH, "x_mask": np.zeros(12, bool)}
  new, _ = step(state, nothing)
  for name in ("mean", "variance"):
    np.testing.assert_array_equal(
      new.params["norm"][name], state.params["norm"][name]
    )


def test_a_large_variance_is_no_bad_step():
  """It is finite, though its square is not."""
  state, step = make()
  large = {**BATCH, "x": 1e12 * BATCH["x"]}
  new, _ = step(state, large)
  assert int(new.bad_step) == -1
  assert float(new.params["norm"]["variance"].min()) > 1e20
  new, _ = step(state, {**BATCH, "x": 1e25 * BATCH["x"]})
  assert int(new.bad_step) == 0


@pytest.mark.parametrize(
  "params",
  [[jnp.ones(2)], (jnp.ones(2), {}), flax.core.freeze({"w": jnp.ones(2)})],
  ids=["list", "tuple", "FrozenDict"],
)
def test_parameters_may_be_any_tree(params):
  """Of functions that sow nothing."""

  def apply_fn(variables, batch, **_):
    (weights,) = jax.tree.leaves(variables["params"])
    return batch["x"] @ weights, {}

  tx = AdamW(learning_rate=0.1)(NUM_STEPS)
  state = create_state(lambda rng: {"params": params}, tx, jax.random.key(0))
  step = make_train_step(apply_fn, loss_fn, tx)
  batch = {**BATCH, "x": BATCH["x"][:, :2]}
  new, _ = step(state, batch)
  assert jax.tree.structure(new.params) == jax.tree.structure(params)
  assert jax.tree.leaves(new.params)[0].min() != 1


def test_a_model_without_parameters_makes_steps():
  def apply_fn(variables, batch, **_):
    return batch["x"].sum(axis=1), {}

  tx = AdamW(learning_rate=0.1)(NUM_STEPS)
  state = create_state(lambda rng: {"params": {}}, tx, jax.random.key(0))
  new, metrics = make_train_step(apply_fn, loss_fn, tx)(state, BATCH)
  assert (int(new.step), int(new.bad_step)) == (1, -1)
  assert float(metrics["loss"]) == 0


def test_frozen_parameters_are_followed_too():
  state, step = make()
  frozen = state.replace(
    params=flax.core.freeze(state.params),
    opt_state=AdamW(learning_rate=0.1)(NUM_STEPS).init(
      flax.core.freeze(state.params)
    ),
  )
  new, _ = step(frozen, BATCH)
  np.testing.assert_allclose(
    new.params["norm"]["mean"], move_by(BATCH["x"][:9])["mean"], rtol=1e-5
  )


def test_a_bad_step_changes_them_neither():
  state, step = make()
  bad = {**BATCH, "label": np.full(12, np.inf, np.float32)}
  new, _ = step(state, bad)
  assert int(new.bad_step) == 0
  assert_trees_close(new.params, state.params, 0)


def test_after_training_evaluation_norms_by_what_they_became():
  state, step = make()
  step = jax.jit(step)
  for _ in range(NUM_STEPS):
    state, metrics = step(state, BATCH)
  assert float(metrics["loss"]) < 0.05

  class Sums:
    def update(self, outputs, batch):
      kept = jnp.where(batch["example_mask"], loss_fn(outputs, batch), 0)
      return kept.sum()

  total = make_eval_step(Normed().apply, Sums())(state.params, BATCH)
  x = BATCH["x"][:9]
  normed = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=1) + 1e-5)
  norm, out = state.params["norm"], state.params["out"]
  answers = (normed * norm["scale"] + norm["bias"]) @ out["kernel"][:, 0]
  expected = np.square(answers + out["bias"] - BATCH["label"][:9]).sum()
  np.testing.assert_allclose(total, expected, rtol=1e-3)
