"""What every graph layer promises, from one table, in both forms."""

import functools

import chex
import graph_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graph_cases import CASES, ISOLATED, B, E, N
from module_checks import assert_gradients_are_there

from mmjax.nn.dense_graph import scatter_edges

names = pytest.mark.parametrize("name", CASES)

pytestmark = pytest.mark.usefixtures("fast_compilation")

NAN = jnp.nan


def _per_node(name):
  return not CASES[name].query


def _poison(graph):
  """NaN wherever nothing is there, and edges that lead to no node."""
  there = graph.edge_set().restrict(graph.node_mask, graph.node_mask).mask
  flip = np.arange(E) % 2 == 0

  def spoil(leaf, mask, value=NAN):
    if leaf is None:
      return None
    mask = mask.reshape(mask.shape + (1,) * (leaf.ndim - 2))
    return jnp.where(mask, leaf, value)

  return graph.replace(
    nodes=spoil(graph.nodes, graph.node_mask),
    edges=spoil(graph.edges, there),
    weights=spoil(graph.weights, there),
    senders=spoil(graph.senders, graph.edge_mask | flip, N + 2),
    receivers=spoil(graph.receivers, graph.edge_mask | ~flip, -1),
  )


@names
def test_parameters(name):
  variables = graph_cases.make_variables(name)
  assert set(variables) == {"params"}
  leaves = jax.tree.leaves(variables)
  assert sum(leaf.size for leaf in leaves) == CASES[name].parameters
  assert all(leaf.dtype == np.float32 for leaf in leaves)


@functools.cache
def _gradients(name, dtype="float32"):
  """Compiles values, what is sown, and gradients of a case."""
  case = CASES[name]
  module = case.module.clone(dtype=dtype)

  @jax.jit
  def compute(variables, graph):
    def total(variables, nodes, edges):
      given = graph.replace(nodes=nodes, edges=edges)
      out, sown = module.apply(
        variables,
        *case.arguments(given),
        train=False,
        mutable=["intermediates"],
      )
      weights = np.random.default_rng(1).normal(size=out.shape)
      return (jnp.tanh(out) * weights).sum(), (out, sown)

    return jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)(
      variables, graph.nodes, graph.edges
    )

  return compute


@names
def test_list_and_matrix_give_the_same_values_and_gradients(name):
  case, variables = CASES[name], graph_cases.make_variables(name)
  graph = case.graph()
  dense = case.dense(graph)
  compute = _gradients(name)
  (_, (out, sown)), grads = compute(variables, graph)
  (_, (new, dense_sown)), dense_grads = compute(variables, dense)
  assert np.abs(out).max() > 0.1
  np.testing.assert_allclose(new, out, atol=1e-5)
  chex.assert_trees_all_close(dense_grads[:2], grads[:2], atol=1e-4, rtol=1e-4)
  if case.features:
    scattered = scatter_edges(grads[2], graph.edge_set(), N, N)
    np.testing.assert_allclose(dense_grads[2], scattered, atol=1e-5)
  assert_gradients_are_there(grads[0])
  for key in case.sown:
    (shown,) = sown["intermediates"][key]
    (expected,) = dense_sown["intermediates"][key]
    edges = graph.edge_set().restrict(graph.node_mask, graph.node_mask)
    if shown.shape[2] > E:
      edges = edges.add_loops(graph.node_mask)
    pairs = scatter_edges(jnp.moveaxis(shown, 1, -1), edges, N, N)
    np.testing.assert_allclose(np.moveaxis(pairs, -1, 1), expected, atol=1e-6)
    if key == "attention":
      any_edge = (np.asarray(expected) > 0).any(axis=-1)
      np.testing.assert_allclose(expected.sum(axis=-1), any_edge, atol=1e-6)


@names
def test_what_is_masked_in_a_matrix_changes_nothing(name):
  case = CASES[name]
  graph = case.graph()
  out, _ = graph_cases.run(name, graph)
  clean = case.dense(graph)
  dense = clean.replace(
    nodes=jnp.where(clean.node_mask[..., None], clean.nodes, NAN)
  )
  pairs = clean.node_mask[:, :, None] & clean.node_mask[:, None]
  if case.types:
    pairs = pairs[:, None]
  dense = dense.replace(adjacency=jnp.where(pairs, dense.adjacency, 3.0))
  if case.features:
    there = clean.edge_set().factors() > 0
    edges = jnp.where(there[..., None], dense.edges, NAN)
    dense = dense.replace(edges=edges)
  new, _ = graph_cases.run(name, dense)
  np.testing.assert_allclose(new, out, atol=1e-5)
  if _per_node(name):
    assert not np.asarray(out)[~np.asarray(graph.node_mask)].any()


@names
def test_what_is_masked_changes_no_gradient(name):
  variables, graph = graph_cases.make_variables(name), CASES[name].graph()
  (_, (out, _)), grads = _gradients(name)(variables, graph)
  (_, (new, _)), new_grads = _gradients(name)(variables, _poison(graph))
  chex.assert_trees_all_close((new, new_grads), (out, grads), atol=1e-5)
  nodes = np.asarray(new_grads[1])
  assert not nodes[~np.asarray(graph.node_mask)].any()


@names
def test_order_of_nodes_and_edges_does_not_matter(name):
  graph = CASES[name].graph()
  out, _ = graph_cases.run(name, graph)
  order = np.array([3, 0, 4, 2, 1])
  place = jnp.asarray(np.argsort(order), jnp.int32)
  moved = graph.replace(
    nodes=graph.nodes[:, order],
    node_mask=graph.node_mask[:, order],
    senders=place[graph.senders],
    receivers=place[graph.receivers],
  )
  new, _ = graph_cases.run(name, moved)
  expected = out[:, order] if _per_node(name) else out
  np.testing.assert_allclose(new, expected, atol=1e-5)
  edges = np.random.default_rng(0).permutation(E)

  def shuffle(leaf):
    return None if leaf is None else leaf[:, edges]

  shuffled = graph.replace(
    edges=shuffle(graph.edges),
    senders=shuffle(graph.senders),
    receivers=shuffle(graph.receivers),
    edge_mask=shuffle(graph.edge_mask),
    weights=shuffle(graph.weights),
    types=shuffle(graph.types),
  )
  new, _ = graph_cases.run(name, shuffled)
  np.testing.assert_allclose(new, out, atol=1e-5)


@names
def test_padding_and_other_examples_change_nothing(name):
  graph = CASES[name].graph()
  out, _ = graph_cases.run(name, graph)

  def pad(leaf, size, value):
    if leaf is None:
      return None
    shape = (leaf.shape[0], size, *leaf.shape[2:])
    return jnp.concatenate([leaf, jnp.full(shape, value, leaf.dtype)], axis=1)

  padded = graph.replace(
    nodes=pad(graph.nodes, 2, NAN),
    node_mask=pad(graph.node_mask, 2, False),
    edges=pad(graph.edges, 3, NAN),
    senders=pad(graph.senders, 3, 0),
    receivers=pad(graph.receivers, 3, N + 1),
    edge_mask=pad(graph.edge_mask, 3, True),
    weights=pad(graph.weights, 3, 7),
    types=pad(graph.types, 3, 1),
  )
  alone = jax.tree.map(lambda leaf: leaf[:1], padded)
  new, _ = graph_cases.run(name, alone)
  new = new[:, :N] if _per_node(name) else new
  np.testing.assert_allclose(new, out[:1], atol=1e-5)


@names
def test_nodes_without_edges(name):
  graph = CASES[name].graph()
  out, _ = graph_cases.run(name, graph)
  b, i = ISOLATED
  assert np.isfinite(out).all()
  empty = graph.replace(edge_mask=jnp.zeros((B, E), bool))
  new, _ = graph_cases.run(name, empty)
  assert np.isfinite(new).all()
  if _per_node(name):
    np.testing.assert_allclose(new[b, i], out[b, i], atol=1e-6)
  nothing = graph.replace(node_mask=jnp.zeros((B, N), bool))
  none, _ = graph_cases.run(name, nothing)
  assert np.isfinite(none).all()
  if _per_node(name):
    assert not np.asarray(none).any()


@names
def test_half_precision(name):
  variables, graph = graph_cases.make_variables(name), CASES[name].graph()
  exact, _ = graph_cases.run(name, graph)
  compute = _gradients(name, "bfloat16")
  (_, (out, _)), grads = compute(variables, graph)
  assert out.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    np.asarray(out, np.float32), exact, atol=0.06 * np.abs(exact).max()
  )
  assert_gradients_are_there(grads[0])
