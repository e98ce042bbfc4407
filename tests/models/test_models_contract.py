"""What every model of the catalogue promises, over one to five modalities.

The table stands in `tests/cases_models.py`. What runs is a step of training:
the loss that the model is trained with, its gradient, and picks sampled.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases_models import CASES, CLASSES, Parts, name_themselves
from fusion_contract import (
  BATCH,
  make_tokens,
  make_variables,
  parametrize,
  rename,
)
from fusion_contract import Case as TokenCase
from module_checks import (
  assert_gradients_are_there,
  assert_near,
  find_equations,
)

EVERY = [(name, n) for name, case in CASES.items() for n in case.numbers]
SEVERAL = [(name, n) for name, n in EVERY if n > 1]
# What costs a program of its own is tried with one number of modalities.
ONCE = [(name, 2) for name in CASES]
SYMMETRIC = [(name, n) for name, n in ONCE if CASES[name].symmetric]

KEY = jax.random.key(5)


def make_batch(number):
  """Tokens of the fusions' contract as features, with labels."""
  tokens = make_tokens(TokenCase(None, {}), number)
  return {
    **{m: t.values for m, t in tokens.items()},
    **{f"{m}_mask": t.mask for m, t in tokens.items()},
    "label": jnp.arange(BATCH) % CLASSES,
    "example_mask": jnp.ones(BATCH, bool),
  }


class Fixture:
  """A case with a number of modalities, compiled once for all its tests.

  Attributes:
    variables: variables of which none is at its special start.
    run: (variables, batch) -> gradients and outputs of a training step, and
      the outputs of an evaluation.
  """

  def __init__(self, name, number):
    self.case, self.names = CASES[name], name_themselves(number)
    self.batch = make_batch(number)
    self.module = self.make()
    self.variables = make_variables(self.module, self.batch)
    self.run = self.compile(self.module)

  def make(self, names=None, **changes):
    return self.case.make(Parts(names or self.names, **changes))

  def compile(self, module):
    def compute_loss(variables, batch):
      outputs = module.apply(
        variables, batch, train=True, rngs={"dropout": KEY}
      )
      losses = self.case.loss(outputs, batch)
      return jnp.where(batch["example_mask"], losses, 0).sum(), outputs

    def run(variables, batch):
      evaluated = module.apply(variables, batch, train=False)
      return *jax.grad(compute_loss, has_aux=True)(variables, batch), evaluated

    return jax.jit(run)

  def without(self, *gone):
    """The batch without some modalities."""
    masks = {f"{m}_mask": jnp.zeros_like(self.batch[f"{m}_mask"]) for m in gone}
    return {**self.batch, **masks}

  @functools.cached_property
  def usual(self):
    """What `run` gives for the batch as it is."""
    return self.run(self.variables, self.batch)


@functools.cache
def _make(name, number):
  return Fixture(name, number)


@pytest.fixture
def model(fast_compilation, request):
  """The compiled fixture of a (name, number); kept for the next test."""
  return _make(*request.param)


over = functools.partial(parametrize, "model")


def assert_finite(*trees):
  for leaf in jax.tree.leaves(trees):
    assert np.isfinite(np.asarray(leaf, np.float32)).all()


@over(EVERY)
def test_shape_dtype_and_number_of_parameters(model):
  for outputs in model.usual[1:]:
    assert outputs["logits"].shape == (BATCH, CLASSES)
    assert outputs["logits"].dtype == jnp.float32
    assert_finite(outputs)
  count = sum(leaf.size for leaf in jax.tree.leaves(model.variables))
  assert count == model.case.count(len(model.names))
  assert hash(model.module) == hash(model.make())


@over(EVERY)
def test_every_parameter_learns_by_the_loss_it_is_trained_with(model):
  assert_gradients_are_there(model.usual[0])


@over(EVERY)
def test_masked_and_missing_content_reaches_no_output_and_no_gradient(model):
  """Of each modality some steps are masked, and one example lacks it."""
  batch, changed = dict(model.batch), {}
  for row, m in enumerate(model.names):
    mask = batch[f"{m}_mask"].at[row % BATCH].set(False)
    batch[f"{m}_mask"] = mask
    changed[m] = jnp.where(mask[..., None], batch[m], jnp.nan)
    assert np.isnan(changed[m]).any()
  expected = model.run(model.variables, batch)
  assert_finite(expected)
  found = model.run(model.variables, {**batch, **changed})
  chex.assert_trees_all_equal(found, expected)


@over(EVERY)
def test_missing_modalities_give_finite_outputs_and_gradients(model):
  """One is missing, all but one, all."""
  gone = [(m,) for m in model.names]
  gone += [tuple(n for n in model.names if n != m) for m in model.names]
  for some in {*gone, tuple(model.names)}:
    assert_finite(model.run(model.variables, model.without(*some)))


@over(EVERY)
def test_every_modality_that_is_present_matters(model):
  """To each example: with all of them, and where one of them is missing."""
  for gone in (), tuple(model.names)[:1]:
    batch = model.without(*gone)
    before = model.run(model.variables, batch)[1]["logits"]
    for m in model.names:
      moved = {**batch, m: batch[m][::-1]}
      after = model.run(model.variables, moved)[1]["logits"]
      change = np.abs(after - before).max(axis=1)
      assert np.all((change == 0) if m in gone else (change > 1e-5)), m


@over(SYMMETRIC)
def test_names_and_order_of_modalities_mean_nothing(model):
  """Renamed so that the sorted order turns round, with their parameters."""
  names = dict(zip(sorted(model.names), "zyxwv", strict=False))
  module = model.make(names)
  apply = jax.jit(lambda v, b: module.apply(v, b, train=False))
  found = apply(rename(model.variables, names), rename(model.batch, names))
  expected = rename(model.usual[2], names)
  chex.assert_trees_all_close(found, expected, atol=1e-5)


@over(ONCE)
def test_jit_equals_eager(model):
  eager = model.module.apply(
    model.variables, model.batch, train=True, rngs={"dropout": KEY}
  )
  chex.assert_trees_all_close(model.usual[1], eager, atol=1e-5)


@over(ONCE)
def test_batch_of_one_is_that_row_of_the_batch(model):
  one = {name: value[2:3] for name, value in model.batch.items()}
  apply = jax.jit(lambda v, b: model.module.apply(v, b, train=False))
  expected = jax.tree.map(lambda x: x[2:3], model.usual[2])
  chex.assert_trees_all_close(apply(model.variables, one), expected, atol=1e-5)


@over(ONCE)
@pytest.mark.parametrize(
  ("dtype", "share"), [("bfloat16", 0.1), ("float16", 0.02)]
)
def test_half_precision_is_finite_and_near(model, dtype, share):
  """Forward and backward, from parameters of full precision."""
  run = model.compile(model.make(dtype=dtype))
  assert_near(run(model.variables, model.batch), model.usual, share)
  # Norms, means and softmaxes must not overflow on the way to a fair size.
  large = {m: 100 * model.batch[m] for m in model.names}
  assert_finite(run(model.variables, {**model.batch, **large}))


@over(ONCE)
def test_dropout_is_on_in_training_only_and_in_every_part(model):
  module = model.make(dropped=True)

  def trace(train):
    def run(variables, rng):
      rngs = {"dropout": rng}
      return module.apply(variables, model.batch, train=train, rngs=rngs)

    traced = jax.jit(run).trace(model.variables, KEY)
    return traced, len(list(find_equations(traced.jaxpr.jaxpr, "random_bits")))

  assert trace(train=False)[1] == 0
  traced, draws = trace(train=True)
  assert draws == model.case.draws(len(model.names))
  step = traced.lower().compile()
  one, other = (
    step(model.variables, jax.random.key(seed))["logits"] for seed in (1, 2)
  )
  assert_finite(one)
  assert np.abs(one - other).max() > 1e-3
