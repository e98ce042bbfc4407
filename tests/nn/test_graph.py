"""Graph networks: identities, brute force, permutations, padding, dense."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.nn.dense_graph import from_dense, to_dense
from mmjax.nn.graph import Graph
from mmjax.nn.graph_network import (
  aggregate_attention,
  aggregate_mean,
  aggregate_sum,
  graph_network,
)
from mmjax.nn.typed_graph import pass_messages

B, N, E, D = 2, 5, 11, 3


def _make_graph(seed=0, num_nodes=N, num_edges=E):
  rng = np.random.default_rng(seed)
  node_mask = np.ones((B, num_nodes), bool)
  node_mask[1, 3] = False
  edge_mask = np.ones((B, num_edges), bool)
  edge_mask[0, 4:6] = False

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  return Graph(
    nodes=normal(B, num_nodes, D),
    edges=normal(B, num_edges, D),
    globals=normal(B, D),
    senders=jnp.asarray(rng.integers(0, num_nodes, (B, num_edges))),
    receivers=jnp.asarray(rng.integers(0, num_nodes, (B, num_edges))),
    node_mask=jnp.asarray(node_mask),
    edge_mask=jnp.asarray(edge_mask),
  )


def _block(aggregate=aggregate_sum):
  """Update functions that use every argument, each in its own way."""
  return graph_network(
    lambda e, s, r, u: jnp.tanh(e + 2 * s - 3 * r + u),
    lambda v, m, u: jnp.tanh(v - m + 0.5 * u),
    lambda v, e, u: u + 0.3 * v - 0.7 * e,
    aggregate,
    aggregate,
  )


def _brute_force(graph, mean):
  """The same block by loops over edges and nodes."""
  graph = jax.tree.map(np.asarray, graph)
  edges, nodes, context = (
    np.zeros_like(graph.edges),
    np.zeros_like(graph.nodes),
    np.zeros_like(graph.globals),
  )
  for b in range(graph.nodes.shape[0]):
    u, received, all_edges, all_nodes = graph.globals[b], {}, [], []
    for k in range(graph.edges.shape[1]):
      s, r = graph.senders[b, k], graph.receivers[b, k]
      edges[b, k] = np.tanh(
        graph.edges[b, k] + 2 * graph.nodes[b, s] - 3 * graph.nodes[b, r] + u
      )
      ends = graph.node_mask[b, s] and graph.node_mask[b, r]
      if graph.edge_mask[b, k] and ends:
        received.setdefault(int(r), []).append(edges[b, k])
        all_edges.append(edges[b, k])
    fold = np.mean if mean else np.sum
    for i in range(graph.nodes.shape[1]):
      message = fold(received[i], axis=0) if i in received else 0
      nodes[b, i] = np.tanh(graph.nodes[b, i] - message + 0.5 * u)
      if graph.node_mask[b, i]:
        all_nodes.append(nodes[b, i])
    context[b] = (
      u + 0.3 * fold(all_nodes, axis=0) - 0.7 * fold(all_edges, axis=0)
    )
  return graph.replace(nodes=nodes, edges=edges, globals=context)


def _present(graph):
  """Which edges are there, by looking at each of them."""
  ends = [
    jnp.take_along_axis(graph.node_mask, index, axis=1)
    for index in (graph.senders, graph.receivers)
  ]
  return graph.edge_mask & ends[0] & ends[1]


def _clear(graph, value=0.0):
  """Puts a number where nothing is present."""
  return graph.replace(
    nodes=jnp.where(graph.node_mask[..., None], graph.nodes, value),
    edges=jnp.where(_present(graph)[..., None], graph.edges, value),
  )


def test_no_update_is_identity():
  graph = _make_graph()
  chex.assert_trees_all_equal(graph_network()(graph), graph)


def test_identity_updates_are_identity():
  graph = _make_graph()
  block = graph_network(
    lambda e, s, r, u: e, lambda v, m, u: v, lambda v, e, u: u
  )
  chex.assert_trees_all_equal(block(graph), _clear(graph))


def test_two_nodes_by_hand():
  graph = Graph(
    nodes=jnp.array([[[1.0], [10.0]]]),
    edges=None,
    globals=jnp.array([[100.0]]),
    senders=jnp.array([[0, 0, 1]]),
    receivers=jnp.array([[1, 1, 0]]),
    node_mask=jnp.array([[True, True]]),
    edge_mask=jnp.array([[True, True, False]]),
  )
  out = graph_network(
    lambda e, s, r, u: s + 2 * r + u,  # 121 for both edges into node 1
    lambda v, m, u: v + m,
    lambda v, e, u: u + v + e,
  )(graph)
  np.testing.assert_allclose(out.edges[0, :2, 0], [121, 121])
  np.testing.assert_allclose(out.nodes[0, :, 0], [1, 252])
  np.testing.assert_allclose(out.globals, [[100 + 253 + 242]])


@pytest.mark.parametrize("mean", [False, True])
def test_equals_brute_force(mean):
  graph = _make_graph()
  block = _block(aggregate_mean if mean else aggregate_sum)
  out = jax.jit(block)(graph)
  expected = _clear(_brute_force(graph, mean))
  chex.assert_trees_all_close(out, expected, atol=2e-6)


@pytest.mark.parametrize("mean", [False, True])
def test_a_matrix_of_edges_gives_the_same(mean):
  dense = to_dense(_make_graph())  # edges between the same two nodes added up
  graph = from_dense(dense, E)
  block = jax.jit(_block(aggregate_mean if mean else aggregate_sum))
  expected, out = block(graph), block(dense)
  assert out.edges.shape == (B, N, N, D)
  chex.assert_trees_all_close(
    (out.nodes, out.globals), (expected.nodes, expected.globals), atol=2e-6
  )
  chex.assert_trees_all_close(to_dense(expected).edges, out.edges, atol=2e-6)
  none = graph_network(update_node=lambda v, m, u: 2 * v)(dense)
  chex.assert_trees_all_equal(none.edges, dense.edges)
  typed = dense.replace(adjacency=dense.adjacency[:, None])
  with pytest.raises(ValueError, match=r"without types.*\[2, 1, 5, 5\]"):
    block(typed)


@pytest.mark.parametrize("form", ["list", "matrix"])
def test_masked_content_that_is_no_number_reaches_nothing(form):
  block = graph_network(
    lambda e, s, r, u: jnp.tanh(e * s - r + u) * jnp.sqrt(1 + e**2),
    lambda v, m, u: v * m + u,
    lambda v, e, u: u * v - e,
  )
  graph = _make_graph()

  @jax.jit
  @jax.value_and_grad
  def compute(leaves):
    nodes, edges = leaves
    new = graph.replace(nodes=nodes, edges=edges)
    if form == "matrix":
      dense = to_dense(graph)
      new = dense.replace(
        nodes=nodes, edges=jnp.where(dense.adjacency[..., None] > 0, 0.3, wild)
      )
    out = block(new)
    return jnp.sin(out.nodes).sum() + jnp.sin(out.globals).sum()

  results = []
  for wild in (0.0, jnp.nan):
    compute.clear_cache()
    changed = _clear(graph, wild)
    results.append(compute((changed.nodes, changed.edges)))
  chex.assert_tree_all_finite(results[1])
  chex.assert_trees_all_equal(*results)


def test_permuting_nodes_permutes_nodes_and_nothing_else():
  graph = _make_graph()
  order = np.array([3, 0, 4, 2, 1])
  place = jnp.asarray(np.argsort(order))
  moved = graph.replace(
    nodes=graph.nodes[:, order],
    node_mask=graph.node_mask[:, order],
    senders=place[graph.senders],
    receivers=place[graph.receivers],
  )
  out, new = _block()(graph), _block()(moved)
  np.testing.assert_allclose(new.nodes, out.nodes[:, order], atol=2e-6)
  np.testing.assert_allclose(new.edges, out.edges, atol=2e-6)
  np.testing.assert_allclose(new.globals, out.globals, atol=2e-6)


def test_padding_changes_nothing():
  graph = _make_graph()

  def pad(leaf, size, value):
    shape = (leaf.shape[0], size, *leaf.shape[2:])
    return jnp.concatenate([leaf, jnp.full(shape, value, leaf.dtype)], axis=1)

  padded = graph.replace(
    nodes=pad(graph.nodes, 3, jnp.nan),
    edges=pad(graph.edges, 2, jnp.nan),
    senders=pad(graph.senders, 2, 1),
    receivers=pad(graph.receivers, 2, 2),
    node_mask=pad(graph.node_mask, 3, False),
    edge_mask=pad(graph.edge_mask, 2, False),
  )
  for aggregate in (aggregate_sum, aggregate_mean):
    out, new = _block(aggregate)(graph), _block(aggregate)(padded)
    np.testing.assert_allclose(new.nodes[:, :N], out.nodes, atol=2e-6)
    np.testing.assert_allclose(new.edges[:, :E], out.edges, atol=2e-6)
    np.testing.assert_allclose(new.globals, out.globals, atol=2e-6)


def test_attention_aggregate_by_hand():
  features = {
    "score": jnp.log(jnp.array([[1.0], [3.0], [7.0], [2.0]])),
    "value": jnp.array([[[4.0]], [[8.0]], [[jnp.nan]], [[5.0]]]),
  }
  mask = jnp.array([True, True, False, True])
  out = aggregate_attention(features, mask, jnp.array([0, 0, 0, 2]), 3)
  np.testing.assert_allclose(out[:, 0, 0], [7.0, 0.0, 5.0], atol=1e-6)


def _dense(seed=0):
  rng = np.random.default_rng(seed)
  heads, receivers, senders, dim = 3, 5, 7, 2
  scores = 3 * rng.normal(size=(B, heads, receivers, senders))
  values = rng.normal(size=(B, senders, heads, dim))
  mask = rng.random((B, senders)) < 0.6
  return (
    jnp.asarray(scores, jnp.float32),
    jnp.asarray(values, jnp.float32),
    jnp.asarray(mask),
  )


def test_dense_messages_equal_those_over_a_list_of_edges():
  scores, values, mask = _dense()
  _, heads, num_receivers, num_senders = scores.shape
  receivers, senders = (
    x.ravel()
    for x in np.meshgrid(
      range(num_receivers), range(num_senders), indexing="ij"
    )
  )
  graph = Graph(
    nodes=jnp.zeros((B, num_receivers, heads, 2)),
    edges={
      "score": scores.transpose(0, 2, 3, 1).reshape(B, -1, heads),
      "value": values[:, senders],
    },
    globals=None,
    senders=jnp.zeros((B, len(senders)), int),
    receivers=jnp.broadcast_to(receivers, (B, len(receivers))),
    node_mask=jnp.ones((B, num_receivers), bool),
    edge_mask=mask[:, senders],
  )
  block = graph_network(
    update_node=lambda v, m, u: m, aggregate=aggregate_attention
  )
  messages, weights = pass_messages(scores, values, mask)
  np.testing.assert_allclose(messages, block(graph).nodes, atol=2e-6)
  np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
  present = np.broadcast_to(mask[:, None, None], weights.shape)
  np.testing.assert_allclose(
    weights,
    jax.nn.softmax(scores, where=present),
    atol=1e-6,
  )


def test_dense_gradient_equals_that_of_softmax():
  scores, values, mask = _dense()
  mask = mask.at[1].set(False)
  target = jax.random.normal(jax.random.key(0), (B, 5, 3, 2))

  def plain(scores, values):
    logits = jnp.where(mask[:, None, None], scores, -1e30)
    weights = jnp.where(mask[:, None, None], jax.nn.softmax(logits), 0)
    return (target * jnp.einsum("bhrs,bshd->brhd", weights, values)).sum()

  def ours(scores, values):
    return (target * pass_messages(scores, values, mask)[0]).sum()

  chex.assert_trees_all_close(
    jax.grad(ours, (0, 1))(scores, values),
    jax.grad(plain, (0, 1))(scores, values),
    atol=2e-6,
  )


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_dense_messages_with_large_scores_and_no_senders(shift):
  scores, values, mask = _dense()
  mask = mask.at[1].set(False)
  messages, weights = pass_messages(scores + shift, values, mask)
  assert np.isfinite(messages).all()
  assert (np.asarray(messages[1]) == 0).all()
  assert (np.asarray(weights[1]) == 0).all()
  np.testing.assert_allclose(
    messages, pass_messages(scores, values, mask)[0], atol=5e-3
  )


@pytest.mark.parametrize("form", ["list", "matrix"])
def test_a_distance_has_a_gradient_where_edges_are_absent(form):
  """Its slope at zero is none, which is where an absent edge has its ends."""
  graph = _make_graph()
  graph = graph.replace(
    receivers=jnp.where(graph.edge_mask, (graph.senders + 1) % N, graph.senders)
  )
  graph = to_dense(graph) if form == "matrix" else graph
  block = graph_network(
    lambda e, s, r, u: jnp.linalg.norm(s - r, axis=-1),
    lambda v, m, u: m,
  )

  @jax.jit
  @jax.grad
  def slope(nodes):
    return block(graph.replace(nodes=nodes)).nodes.sum()

  found = slope(graph.nodes)
  assert np.isfinite(found).all()
  assert (np.abs(found).sum() > 0).all()


def test_features_keep_their_dtype():
  graph = _make_graph().replace(edges=jnp.ones((B, E), bool))
  seen = []
  graph_network(lambda e, s, r, u: seen.append(e.dtype) or e)(graph)
  assert seen == [jnp.bool_]
