"""What the encoders of clips and the ResNet promise, from one table."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases_video import CASES, CLIPS, init, run
from module_checks import (
  assert_gradients_are_there,
  product_dtypes,
)

names = pytest.mark.parametrize("name", CASES)
clips = pytest.mark.parametrize("name", [n for n in CASES if n != "resnet"])

pytestmark = pytest.mark.usefixtures("fast_compilation")


@functools.cache
def _init(name, dtype="float32"):
  case = CASES[name]
  module = case.make(dtype)
  return module, init(module, case.values, case.mask)


@functools.cache
def _compiled(name):
  """(values, mask) -> tokens, and the gradient of a loss: one program."""
  module, variables = _init(name)

  def loss_fn(variables, values, mask):
    tokens = module.apply(variables, values, mask, train=False)
    weights = np.random.default_rng(1).normal(size=tokens.values.shape)
    return jnp.sum(jnp.tanh(tokens.values) * weights), tokens

  grad_fn = jax.jit(jax.grad(loss_fn, has_aux=True))
  return functools.partial(grad_fn, variables)


def _encode(name, values=None, mask=None):
  case = CASES[name]
  values = case.values if values is None else values
  return _compiled(name)(values, case.mask if mask is None else mask)[1]


@names
def test_shapes_dtypes_and_parameter_count(name):
  case, tokens = CASES[name], _encode(name)
  _, variables = _init(name)
  steps = case.steps_mask(case.mask).shape[1]
  groups = tuple(steps * number for number in case.per_step)
  assert tokens.values.shape == (3, sum(groups), case.width)
  assert tokens.values.dtype == jnp.float32
  assert tokens.groups == groups
  assert set(variables) == {"params"}
  assert sum(x.size for x in jax.tree.leaves(variables)) == case.count


@names
def test_masked_tokens_are_zero_and_steps_are_there_if_a_frame_is(name):
  case, tokens = CASES[name], _encode(name)
  steps = case.steps_mask(case.mask)
  expected = np.concatenate(
    [np.repeat(steps, number, axis=1) for number in case.per_step], axis=1
  )
  np.testing.assert_array_equal(tokens.mask, expected)
  assert tokens.mask.dtype == jnp.bool_
  np.testing.assert_array_equal(tokens.values[~expected], 0)
  assert np.all(np.abs(tokens.values[expected]).max(-1) > 0)


@names
def test_masked_frames_change_nothing_whatever_they_hold(name):
  case = CASES[name]
  shape = case.mask.shape + (1,) * (case.values.ndim - case.mask.ndim)
  outputs_and_grads = _compiled(name)(case.values, case.mask)
  for content in (np.nan, 0.9):
    dirty = np.where(case.mask.reshape(shape), case.values, content)
    chex.assert_trees_all_equal(
      _compiled(name)(dirty.astype(np.float32), case.mask), outputs_and_grads
    )


@names
def test_every_parameter_has_a_gradient(name):
  case = CASES[name]
  assert_gradients_are_there(_compiled(name)(case.values, case.mask)[0])


@names
def test_a_missing_input_gives_zeros(name):
  case = CASES[name]
  grads, tokens = _compiled(name)(case.values, np.zeros_like(case.mask))
  chex.assert_tree_all_finite(grads)
  assert not tokens.mask.any()
  np.testing.assert_array_equal(tokens.values, 0)


def test_jit_equals_eager():
  name = "tubelet_joint"
  case, (module, variables) = CASES[name], _init(name)
  eager = module.apply(variables, case.values, case.mask, train=False)
  chex.assert_trees_all_close(_encode(name), eager, atol=1e-4, rtol=1e-4)


@names
def test_a_batch_of_one_shorter_clip_gives_what_the_padded_one_gives(name):
  case, (module, variables) = CASES[name], _init(name)
  row = (slice(2, 3), slice(None, 3))[: case.mask.ndim]
  short = run(module, variables, case.values[row], case.mask[row], train=False)
  whole = jax.tree.map(lambda x: x[2:3], _encode(name))
  assert short.mask.all()
  pieces = zip(short.split_groups(), whole.split_groups(), strict=True)
  for one, other in pieces:
    number = one.mask.shape[1]
    np.testing.assert_allclose(
      one.values, other.values[:, :number], atol=1e-4, rtol=1e-4
    )
    assert not other.mask[:, number:].any()


@pytest.mark.parametrize(
  "name",
  [
    "resnet",
    "conv3d",
    "conv3d_lstm",
    "two_stream",
    "frames_lstm",
    "graph_tokens",
    "tubelet_factorised",
  ],
)
def test_bfloat16_reaches_every_product(name):
  case, (module, variables) = CASES[name], _init(name, "bfloat16")
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))

  traced = jax.jit(
    lambda v: module.apply(v, case.values, case.mask, train=False)
  ).trace(variables)
  tokens = traced.lower().compile()(variables)
  assert tokens.values.dtype == jnp.bfloat16
  found = tokens.values.astype(jnp.float32)
  assert np.isfinite(found).all()
  assert np.abs(found - _encode(name).values).mean() < 0.06
  dtypes = list(product_dtypes(traced.jaxpr.jaxpr))
  assert dtypes
  assert all(each == {jnp.dtype("bfloat16")} for each in dtypes)


@clips
def test_the_order_of_frames_matters(name):
  case = CASES[name]
  mask = np.ones_like(case.mask)
  forward = _encode(name, mask=mask).values.mean(axis=1)
  backward = _encode(name, case.values[:, ::-1], mask).values.mean(axis=1)
  assert np.abs(forward - backward).max() > 1e-3


@pytest.mark.parametrize(
  "name",
  [
    "frames_lstm",
    "frames_transformer",
    "graph",
    "tubelet_joint",
    "tubelet_factorised",
  ],
)
def test_every_token_sees_every_present_frame(name):
  case, tokens = CASES[name], _encode(name)
  other = case.values.copy()
  other[0, 0] = 1 - other[0, 0]
  changed = np.abs(_encode(name, other).values - tokens.values).max(axis=-1)
  assert np.all(changed[0][tokens.mask[0]] > 1e-5)
  np.testing.assert_array_equal(changed[1:], 0)


@pytest.mark.parametrize("name", ["conv3d", "two_stream"])
def test_a_mask_of_clips_is_that_of_all_their_frames(name):
  case, (module, variables) = CASES[name], _init(name)
  mask = np.array([False, True, True])
  spread = np.repeat(mask[:, None], 5, axis=1)
  found = run(module, variables, case.values, mask, train=False)
  chex.assert_trees_all_close(found, _encode(name, mask=spread), atol=1e-5)


@pytest.mark.parametrize("name", ["frames_lstm", "graph", "tubelet_factorised"])
def test_dropout_is_on_only_in_training(name):
  case, (module, variables) = CASES[name], _init(name)
  module = module.clone(dropout_rate=0.5)

  @jax.jit
  def train_fn(rng):
    return module.apply(
      variables, case.values, case.mask, train=True, rngs={"dropout": rng}
    )

  dropped = train_fn(jax.random.key(0))
  assert not np.allclose(dropped.values, _encode(name).values, atol=1e-3)
  np.testing.assert_array_equal(dropped.values[~dropped.mask], 0)


@pytest.mark.parametrize(
  ("name", "grid"), [("conv3d", (3, 2, 3)), ("tubelet_joint", (3, 2, 3))]
)
def test_the_grid_of_a_clip_is_sown(name, grid):
  case, (module, variables) = CASES[name], _init(name)
  _, state = jax.jit(
    lambda v: module.apply(
      v, case.values, case.mask, train=False, mutable="intermediates"
    )
  )(variables)
  (found,) = state["intermediates"]["video_grid"]
  np.testing.assert_array_equal(found, grid)


@clips
@pytest.mark.parametrize(
  ("values", "mask", "message"),
  [
    (CLIPS[:, 0], np.ones(3, bool), r"got \[3, 8, 9, 3\] and \[3\]"),
    (CLIPS, np.ones((3, 4), bool), r"\[3, 5, 8, 9, 3\] and \[3, 4\]"),
    (CLIPS[:, :0], np.ones((3, 0), bool), "T > 0"),
    (CLIPS.astype(np.int32), np.ones(3, bool), "got int32"),
  ],
)
def test_wrong_clips_are_named(name, values, mask, message):
  with pytest.raises(ValueError, match=message):
    CASES[name].make("float32").init(
      jax.random.key(0), values, mask, train=False
    )
