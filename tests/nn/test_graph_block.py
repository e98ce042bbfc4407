"""Blocks of graph networks, beside loops over nodes and edges in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import assert_every_parameter_learns, random_variables

from mmjax.nn.dense_graph import from_dense, to_dense
from mmjax.nn.graph import Graph
from mmjax.nn.graph_block import GraphBlock

pytestmark = pytest.mark.usefixtures("fast_compilation")

WIDTH, HEADS, HIDDEN = 6, 3, 7
_RNG = np.random.default_rng(0)
NODE_MASK = np.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 1]], bool)
SENDERS = np.array([[0, 1, 3, 2, 4, 4, 0], [1, 2, 0, 4, 3, 1, 1]], np.int32)
RECEIVERS = np.array([[1, 0, 1, 3, 3, 3, 4], [0, 0, 0, 2, 2, 4, 3]], np.int32)
EDGE_MASK = np.array([[1, 1, 1, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1, 1]], bool)


def make_graph():
  return Graph(
    nodes=_RNG.normal(size=(2, 5, WIDTH)).astype(np.float32),
    edges=_RNG.normal(size=(2, 7, 2)).astype(np.float32),
    globals=None,
    senders=SENDERS,
    receivers=RECEIVERS,
    node_mask=NODE_MASK,
    edge_mask=EDGE_MASK,
  )


GRAPH = make_graph()


def make_block(messages):
  return GraphBlock(WIDTH, messages=messages, num_heads=HEADS, mlp_dim=HIDDEN)


def run(module, variables, graph):
  return jax.jit(
    lambda variables, graph: module.apply(variables, graph, train=False)
  )(variables, graph)


def dense(values, params):
  return values @ params["kernel"] + params.get("bias", 0)


def norm(values, params):
  mean, variance = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
  return (values - mean) / np.sqrt(variance + 1e-6) * params["scale"] + params[
    "bias"
  ]


def mlp(values, params):
  return dense(np.maximum(dense(values, params["hidden"]), 0), params["out"])


def incoming_edges(row, node):
  """The edges of an example that count and enter a node."""
  return [
    e
    for e in range(7)
    if RECEIVERS[row, e] == node
    and EDGE_MASK[row, e]
    and NODE_MASK[row, SENDERS[row, e]]
  ]


def attend(nodes, edges, row, node, params):
  """A head at a time: score each sender, the node itself too, and average."""
  others = [e for e in incoming_edges(row, node) if SENDERS[row, e] != node]
  senders = [SENDERS[row, e] for e in others] + [node]
  features = [edges[e] for e in others] + [np.zeros(2)]
  sent = [dense(nodes[s], params["sender"]).reshape(HEADS, -1) for s in senders]
  received = dense(nodes[node], params["receiver"]).reshape(HEADS, -1)
  heads = []
  for head in range(HEADS):
    scores = []
    for value, feature in zip(sent, features, strict=True):
      of_edge = dense(feature, params["edge"]).reshape(HEADS, -1)
      total = value[head] + received[head] + of_edge[head]
      total = np.where(total > 0, total, 0.2 * total)
      scores.append(total @ params["score"][head])
    shares = np.exp(scores) / np.exp(scores).sum()
    heads.append(sum(s * v[head] for s, v in zip(shares, sent, strict=True)))
  return np.concatenate(heads) + params["bias"]


def interact(nodes, edges, row, node, params):
  """The mean over incoming edges of a perceptron of the edge and its ends."""
  messages = [
    mlp(np.concatenate([edges[e], nodes[SENDERS[row, e]], nodes[node]]), params)
    for e in incoming_edges(row, node)
  ]
  return np.mean(messages, axis=0) if messages else np.zeros(WIDTH)


@pytest.mark.parametrize(
  ("messages", "part", "message_fn"),
  [("attention", "attention", attend), ("perceptron", "message", interact)],
)
def test_blocks_are_what_a_loop_makes(messages, part, message_fn):
  module = make_block(messages)
  variables = random_variables(module.init, GRAPH, train=False)
  params = jax.tree.map(lambda x: np.asarray(x, float), variables["params"])
  expected = np.zeros((2, 5, WIDTH))
  for row in range(2):
    normed = norm(GRAPH.nodes[row].astype(float), params["message_norm"])
    for node in np.flatnonzero(NODE_MASK[row]):
      value = GRAPH.nodes[row, node] + message_fn(
        normed, GRAPH.edges[row], row, node, params[part]
      )
      expected[row, node] = value + mlp(
        norm(value, params["mlp_norm"]), params["mlp"]
      )
  found = run(module, variables, GRAPH)
  np.testing.assert_allclose(found.nodes, expected, atol=2e-5, rtol=2e-5)
  np.testing.assert_array_equal(found.node_mask, NODE_MASK)


@pytest.mark.parametrize("messages", ["attention", "perceptron"])
def test_what_is_masked_changes_nothing_and_all_parameters_learn(messages):
  module = make_block(messages)
  variables = random_variables(module.init, GRAPH, train=False)
  nodes = np.where(NODE_MASK[..., None], GRAPH.nodes, np.nan)
  edges = np.where(EDGE_MASK[..., None], GRAPH.edges, np.nan)
  dirty = GRAPH.replace(
    nodes=nodes.astype(np.float32), edges=edges.astype(np.float32)
  )

  @jax.jit
  def loss_fn(variables, graph):
    nodes = module.apply(variables, graph, train=False).nodes
    return jnp.sum(jnp.tanh(nodes) * np.arange(WIDTH))

  grads = [jax.grad(loss_fn)(variables, graph) for graph in (GRAPH, dirty)]
  for clean, other in zip(*map(jax.tree.leaves, grads), strict=True):
    np.testing.assert_allclose(other, clean, atol=1e-6, rtol=1e-5)
  assert_every_parameter_learns(lambda v: loss_fn(v, GRAPH), variables)


@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize("messages", ["attention", "perceptron"])
def test_lists_and_matrices_agree(messages, features):
  weights = _RNG.uniform(0.5, 2.0, size=EDGE_MASK.shape).astype(np.float32)
  weights[0, 0] = 0.0  # no edge
  graph = GRAPH.replace(weights=weights)
  if not features:
    graph = graph.replace(edges=None)
  dense = to_dense(graph)
  graph = from_dense(dense, num_edges=7)
  module = make_block(messages)
  variables = random_variables(module.init, graph, train=False)
  expected = run(module, variables, graph)
  found = run(module, variables, dense)
  np.testing.assert_allclose(found.nodes, expected.nodes, atol=1e-5)
  np.testing.assert_array_equal(found.adjacency, to_dense(expected).adjacency)


@pytest.mark.parametrize("messages", ["attention", "perceptron"])
def test_an_edge_without_weight_is_no_edge(messages):
  weights = np.ones(EDGE_MASK.shape, np.float32)
  weights[0, 0] = 0.0
  module = make_block(messages)
  variables = random_variables(module.init, GRAPH, train=False)
  expected = GRAPH.replace(edge_mask=EDGE_MASK & (weights > 0))
  found, expected, all_there = (
    run(module, variables, graph).nodes
    for graph in (GRAPH.replace(weights=weights), expected, GRAPH)
  )
  np.testing.assert_allclose(found, expected, atol=1e-6)
  assert abs(found - all_there).max() > 1e-3


def test_wrong_settings_and_widths_are_named():
  for module, match in (
    (GraphBlock(WIDTH, messages="sum"), "'attention' or 'perceptron'"),
    (GraphBlock(8), r"width 8 needs nodes \[B, N, 8\], got \[2, 5, 6\]"),
  ):
    with pytest.raises(ValueError, match=match):
      module.init(jax.random.key(0), GRAPH, train=False)
