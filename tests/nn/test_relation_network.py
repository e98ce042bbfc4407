"""Relation Network: equal to the naive form, masks, orders, sown pairs."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import (
  assert_gradients_are_there,
  product_dtypes,
  random_variables,
)

from mmjax.array_types import Tokens
from mmjax.nn.relation_network import RelationNetwork, make_pair_mask

pytestmark = pytest.mark.usefixtures("fast_compilation")

B, N, D, Q = 3, 5, 4, 2
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(B, N, D)).astype(np.float32)
MASK = np.array([[1, 1, 0, 1, 1], [0, 0, 1, 0, 0], [0] * 5], bool)
QUERY = RNG.normal(size=(B, Q)).astype(np.float32)
OBJECTS = Tokens(jnp.asarray(VALUES), jnp.asarray(MASK))
MODULE = RelationNetwork(pair_widths=[7, 6, 5], widths=[3])


def _variables(module=MODULE):
  return random_variables(module.init, OBJECTS, QUERY, train=False)


def _naive(params, values, mask, self_pairs, combine):
  """Concatenates both objects and the query for every pair, as the paper.

  Returns what comes out, and the share of each pair in the sum of all norms.
  """
  layers = ("first_object", "second_object", "query")
  kernel = np.concatenate([params[name]["kernel"] for name in layers])
  dense = lambda p, x: np.maximum(x @ p["kernel"] + p["bias"], 0)  # noqa: E731
  out, norms = [], np.zeros((len(values), N, N))
  for b in range(len(values)):
    total, count = np.zeros(5), 0
    for i in range(values.shape[1]):
      for j in range(values.shape[1]):
        if not (mask[b, i] and mask[b, j]) or (i == j and not self_pairs):
          continue
        pair = np.concatenate([values[b, i], values[b, j], QUERY[b]])
        first = {"kernel": kernel, "bias": params["first_object"]["bias"]}
        hidden = dense(first, pair)
        hidden = dense(params["pair_2"], dense(params["pair_1"], hidden))
        norms[b, i, j] = np.sqrt((hidden**2).sum())
        total += hidden
        count += 1
    if combine == "mean":
      total = total / max(count, 1)
    out.append(dense(params["sum_0"], total))
  sums = norms.sum(axis=(1, 2), keepdims=True)
  return np.array(out), norms / np.where(sums > 0, sums, 1)


@pytest.mark.parametrize("combine", ["sum", "mean"])
@pytest.mark.parametrize("self_pairs", [True, False])
def test_equals_the_naive_form(combine, self_pairs):
  module = MODULE.clone(combine=combine, self_pairs=self_pairs)
  variables = _variables(module)
  out, state = jax.jit(
    lambda v: module.apply(
      v, OBJECTS, QUERY, train=False, mutable=["intermediates"]
    )
  )(variables)
  params = jax.tree.map(np.float64, variables["params"])
  expected, shares = _naive(params, VALUES, MASK, self_pairs, combine)
  assert out.shape == (B, 3)
  np.testing.assert_allclose(out, expected, atol=1e-5)
  (pairs,) = state["intermediates"]["pairs"]
  np.testing.assert_allclose(pairs[:, 0], shares, atol=1e-6)


def test_parameters_learn_and_no_pair_has_the_width_of_both_objects():
  module = RelationNetwork(pair_widths=(7, 6, 5), widths=(3,))
  variables = _variables()
  count = (2 * D + Q + 1) * 7 + 8 * 6 + 7 * 5 + 6 * 3
  assert sum(x.size for x in jax.tree.leaves(variables)) == count

  def total(variables, values):
    out = module.apply(
      variables, Tokens(values, OBJECTS.mask), QUERY, train=False
    )
    return (jnp.arange(3) + 1.0) @ (out**2).sum(axis=0)

  assert_gradients_are_there(jax.jit(jax.grad(total))(variables, VALUES))
  jaxpr = jax.make_jaxpr(total)(variables, VALUES)
  shapes = [var.aval.shape for eqn in jaxpr.eqns for var in eqn.outvars]
  assert (B, N, N, 7) in shapes
  assert all(shape[-1:] != (2 * D + Q,) for shape in shapes if len(shape) == 4)


def test_absent_objects_and_their_order_change_nothing():
  variables = _variables()

  @jax.jit
  def run(values, mask):
    return jax.value_and_grad(
      lambda v: (
        MODULE.apply(v, Tokens(values, mask), QUERY, train=False) ** 2
      ).sum()
    )(variables)

  value, grads = run(VALUES, MASK)
  order = np.array([4, 2, 0, 3, 1])
  spoiled = np.where(MASK[..., None], VALUES, np.nan)
  for values, mask in (
    (spoiled, MASK),
    (VALUES[:, order], MASK[:, order]),
  ):
    new, new_grads = run(values, mask)
    np.testing.assert_allclose(new, value, rtol=1e-5)
    for a, b in zip(
      jax.tree.leaves(grads), jax.tree.leaves(new_grads), strict=True
    ):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_pairs_are_sown_and_a_batch_of_one_works():
  variables = _variables()
  one = jax.tree.map(lambda leaf: leaf[:1], OBJECTS)
  out, state = MODULE.apply(
    variables, one, QUERY[:1], train=False, mutable=["intermediates"]
  )
  full = MODULE.apply(variables, OBJECTS, QUERY, train=False)
  np.testing.assert_allclose(out, full[:1], atol=1e-5)
  (pairs,) = state["intermediates"]["pairs"]
  assert pairs.shape == (1, 1, N, N)
  np.testing.assert_allclose(pairs.sum(), 1, atol=1e-6)
  assert not np.asarray(pairs)[:, 0][
    ~np.asarray(make_pair_mask(one.mask))
  ].any()


def test_half_precision_without_query():
  module = MODULE.clone(dtype="bfloat16")
  variables = random_variables(module.init, OBJECTS, train=False)
  assert "query" not in variables["params"]
  apply_fn = lambda v: module.apply(v, OBJECTS, train=False)  # noqa: E731
  out = jax.jit(apply_fn)(variables)
  assert out.dtype == jnp.bfloat16
  assert np.isfinite(np.asarray(out, np.float32)).all()
  for dtypes in product_dtypes(jax.make_jaxpr(apply_fn)(variables).jaxpr):
    assert dtypes == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize(
  ("changes", "query", "match"),
  [
    ({"combine": "max"}, QUERY, "'max'; it must be 'sum' or 'mean'"),
    ({"pair_widths": ()}, QUERY, "at least one layer of a pair"),
    ({}, QUERY[:2], r"a query \[3, Q\]"),
  ],
)
def test_what_cannot_be_meant_is_named(changes, query, match):
  with pytest.raises(ValueError, match=match):
    MODULE.clone(**changes).init(jax.random.key(0), OBJECTS, query, train=False)


@pytest.mark.parametrize(
  ("mask", "match"),
  [
    (MASK[:, 1:], r"a bool mask \[B, N\], got \[3, 5, 4\] and bool \[3, 4\]"),
    (MASK.astype(np.float32), r"and float32 \[3, 5\]; give one True"),
  ],
)
def test_objects_without_a_mask_that_fits_are_named(mask, match):
  with pytest.raises(ValueError, match=match):
    MODULE.init(jax.random.key(0), Tokens(VALUES, mask), train=False)


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 8])
def test_chunks_change_nothing(chunk_size):
  rng = np.random.default_rng(0)
  values = rng.normal(size=(5, 4, 6)).astype(np.float32)
  query = rng.normal(size=(5, 3)).astype(np.float32)
  objects = Tokens(values, rng.random((5, 4)) < 0.7)

  def run(chunk_size):
    module = RelationNetwork((8, 9, 10), (4, 3), chunk_size=chunk_size)
    variables = module.init(jax.random.key(0), objects, query, train=False)
    params = variables["params"]

    def loss(params, values, query):
      out, state = module.apply(
        {"params": params},
        objects.replace(values=values),
        query,
        train=False,
        mutable="intermediates",
      )
      return (out**2).sum(), (out, state["intermediates"]["pairs"])

    grad_fn = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
    return params, grad_fn(params, values, query)

  chex.assert_trees_all_close(run(chunk_size), run(None), atol=1e-5)


def test_a_chunk_of_none_is_named():
  objects = Tokens(np.zeros((1, 2, 3), np.float32), np.ones((1, 2), bool))
  module = RelationNetwork((4,), (4,), chunk_size=0)
  with pytest.raises(ValueError, match="chunk_size is 0; it must be at least"):
    module.init(jax.random.key(0), objects, train=False)
