"""Edges as lists and as matrices: conversions, segments, loops, types."""

import chex
import graph_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graph_cases import B, E, K, N

from mmjax.array_types import Tokens
from mmjax.nn.dense_graph import (
  from_dense,
  make_dense_graph,
  scatter_edges,
  to_dense,
)
from mmjax.nn.edges import EdgeList, EdgeMatrix
from mmjax.nn.graph import make_graph
from mmjax.nn.graph_attention import DynamicGraphAttention, GraphAttention
from mmjax.nn.graph_convolution import GraphConvolution
from mmjax.nn.graph_network import graph_network
from mmjax.nn.relational_graph import RelationalGraphConvolution
from mmjax.nn.scene_graph import make_scene_graph
from mmjax.nn.segments import segment_softmax, segment_sum, take

pytestmark = pytest.mark.usefixtures("fast_compilation")


def _matrix_by_hand(graph, num_types):
  shape = (B, N, N) if num_types is None else (B, num_types, N, N)
  adjacency, features = np.zeros(shape), np.zeros((B, N, N, graph_cases.F))
  for b in range(B):
    for e in range(E):
      s, r = int(graph.senders[b, e]), int(graph.receivers[b, e])
      if (
        graph.edge_mask[b, e] and graph.node_mask[b, s] & graph.node_mask[b, r]
      ):
        kind = () if num_types is None else (int(graph.types[b, e]),)
        adjacency[(b, *kind, r, s)] += graph.weights[b, e]
        features[b, r, s] += graph.edges[b, e]
  return adjacency, features


@pytest.mark.parametrize("num_types", [None, K])
def test_to_dense_and_back(num_types):
  graph = graph_cases.make_graph()
  dense = jax.jit(lambda g: to_dense(g, num_types))(graph)
  adjacency, features = _matrix_by_hand(graph, num_types)
  np.testing.assert_allclose(dense.adjacency, adjacency, atol=1e-6)
  np.testing.assert_allclose(dense.edges, features, atol=1e-6)
  back = jax.jit(lambda g: from_dense(g, E + 2))(dense)
  assert back.senders.shape == (B, E + 2)
  assert (back.types is None) == (num_types is None)
  again = to_dense(back, num_types)
  chex.assert_trees_all_equal(again, dense)
  order = np.asarray(back.receivers * N + back.senders)
  if num_types:
    order = order + np.asarray(back.types) * N * N
  for b in range(B):
    there = np.asarray(back.edge_mask[b])
    assert (np.diff(order[b][there]) > 0).all()
    assert not there[there.sum() :].any()


def test_a_bool_matrix_gives_a_list_without_weights():
  rng = np.random.default_rng(0)
  adjacency = jnp.asarray(rng.random((B, N, N)) < 0.4)
  mask = jnp.ones((B, N), bool).at[0, 2].set(False)
  tokens = Tokens(jnp.zeros((B, N, 1)), mask)
  graph = from_dense(make_dense_graph(tokens, EdgeMatrix(adjacency)), N * N)
  assert graph.weights is None
  pairs = adjacency & mask[:, :, None] & mask[:, None]
  np.testing.assert_array_equal(to_dense(graph).adjacency, pairs)


def test_edges_without_a_place_are_refused_or_left_out():
  dense = to_dense(graph_cases.make_graph())
  most = int((dense.adjacency > 0).sum(axis=(1, 2)).max())
  with pytest.raises(ValueError, match=f"has {most} edges, and num_edges=2"):
    from_dense(dense, 2)
  assert from_dense(dense, most).senders.shape == (B, most)
  short = jax.jit(lambda g: from_dense(g, 2))(dense)
  assert short.edge_mask.sum(axis=1).max() == 2


def test_types_need_types():
  graph = graph_cases.make_graph(types=False)
  with pytest.raises(ValueError, match="matrix with 3 types"):
    to_dense(graph, num_types=3)


def test_edges_between_the_same_nodes_add_up_in_every_layer():
  ends = jnp.array([[0, 0, 1, 2, 0, 0]]), jnp.array([[1, 1, 2, 1, 1, 1]])
  kinds = jnp.array([[0, 1, 0, 1, 1, 0]])
  edges = EdgeList(*ends, jnp.ones((1, 6), bool), types=kinds)
  tokens = Tokens(jnp.asarray(np.eye(3, 4)[None]), jnp.ones((1, 3), bool))
  graph = make_graph(tokens, edges)
  for module, num_types in (
    (GraphConvolution(2), None),
    (GraphAttention(2), None),
    (DynamicGraphAttention(2), None),
    (RelationalGraphConvolution(2, 2), 2),
  ):
    variables = graph_cases.random_variables(module.init, graph, train=False)
    np.testing.assert_allclose(
      module.apply(variables, to_dense(graph, num_types), train=False),
      module.apply(variables, graph, train=False),
      atol=1e-6,
    )


def test_an_edge_of_weight_0_is_absent_in_both_forms():
  ends = jnp.array([[0, 0, 1]]), jnp.array([[1, 2, 1]])
  edges = EdgeList(
    *ends,
    jnp.ones((1, 3), bool),
    jnp.array([[[jnp.nan], [3.0], [5.0]]]),
    jnp.array([[0.0, 1.0, 0.0]]),
  )
  tokens = Tokens(jnp.array([[[1.0], [jnp.nan], [4.0]]]), jnp.ones((1, 3)) > 0)
  graph = make_graph(tokens, edges, jnp.zeros((1, 1)))
  block = graph_network(
    lambda e, s, r, u: e + s + r + 1,
    lambda v, m, u: m,
    lambda v, e, u: e,
  )
  for form in (graph, to_dense(graph)):
    out = block(form)
    np.testing.assert_array_equal(out.nodes[0, :, 0], [0, 0, 9])
    np.testing.assert_array_equal(out.globals, [[9]])
  np.testing.assert_array_equal(
    to_dense(graph).edges[0, ..., 0], [[0, 0, 0], [0, 0, 0], [3, 0, 0]]
  )


def test_features_of_an_edge_of_weight_0_reach_no_gradient():
  graph = graph_cases.make_graph()
  graph = graph.replace(weights=graph.weights.at[:, :3].set(0))
  spoiled = graph.replace(edges=graph.edges.at[:, :3].set(jnp.nan))
  module = graph_cases.CASES["gatv2"].module
  variables = graph_cases.make_variables("gatv2")

  @jax.jit
  @jax.grad
  def slope(variables, graph):
    return jnp.sin(module.apply(variables, graph, train=False)).sum()

  chex.assert_trees_all_equal(
    slope(variables, spoiled), slope(variables, graph)
  )


def test_unknown_types_are_left_out_where_they_cannot_be_looked_at():
  graph = graph_cases.make_graph(features=False)
  spoiled = graph.replace(
    types=graph.types.at[:, 0].set(K).at[:, 1].set(-1),
    edge_mask=graph.edge_mask.at[:, :2].set(True),
  )
  without = graph.replace(edge_mask=graph.edge_mask.at[:, :2].set(False))
  out, _ = graph_cases.run("rgcn", spoiled)
  expected, _ = graph_cases.run("rgcn", without)
  np.testing.assert_allclose(out, expected, atol=1e-6)
  np.testing.assert_array_equal(
    jax.jit(lambda g: to_dense(g, K))(spoiled).adjacency,
    to_dense(without, K).adjacency,
  )


@pytest.mark.parametrize("name", ["rgcn", "reasoning", "matrix"])
def test_types_that_are_too_large_are_named(name):
  graph = graph_cases.make_graph()
  b, e = np.argwhere(np.asarray(graph.edge_mask & (graph.types == K - 1)))[0]
  graph = graph.replace(types=graph.types.at[b, e].set(K + 1))

  def run(graph):
    if name == "matrix":
      return to_dense(graph, K)
    case, variables = graph_cases.CASES[name], graph_cases.make_variables(name)
    arguments = case.arguments(graph)
    return case.module.apply(variables, *arguments, train=False)

  match = "edge of type 4, and num_types=3 has types 0 to 2; give num_types=5"
  with pytest.raises(ValueError, match=match):
    run(graph)
  run(graph.replace(edge_mask=graph.edge_mask.at[b, e].set(False)))
  run(graph.replace(weights=graph.weights.at[b, e].set(0)))
  run(graph.replace(node_mask=graph.node_mask.at[b].set(False)))


def test_a_layer_that_forgets_the_inverse_relations_is_told():
  objects = Tokens(jnp.ones((1, 2, 3)), jnp.ones((1, 2), bool))
  graph = make_scene_graph(objects, jnp.array([[[0, 0, 1]]]), 1, inverse=True)
  layer = RelationalGraphConvolution(4, num_types=1)
  with pytest.raises(ValueError, match="of type 1, and num_types=1"):
    layer.init(jax.random.key(0), graph, train=False)


def test_segments_by_hand():
  index = jnp.array([[2, 0, 2, 7, -1]])
  values = jnp.array([[1.0, 2.0, 4.0, 8.0, 16.0]])
  np.testing.assert_array_equal(segment_sum(values, index, 3), [[2, 0, 5]])
  np.testing.assert_array_equal(
    take(jnp.array([[3.0, 5.0, 7.0]]), index), [[7, 3, 7, 0, 0]]
  )
  shares = segment_softmax(
    jnp.log(jnp.array([[[1.0], [9.0], [3.0], [5.0], [5.0]]])),
    jnp.array([[2.0, 0.5, 1.0, 0.0, 0.0]]),
    index,
    3,
  )
  np.testing.assert_allclose(shares[0, :, 0], [0.4, 1, 0.6, 0, 0], atol=1e-6)


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_large_scores_are_no_trouble(shift):
  graph = graph_cases.make_graph()
  edges = graph.edge_set().restrict(graph.node_mask, graph.node_mask)
  scores = jax.random.normal(jax.random.key(0), (B, E, 2))
  np.testing.assert_allclose(
    edges.softmax(scores + shift, N), edges.softmax(scores, N), atol=2e-3
  )


def test_loops_replace_those_that_are_there():
  graph = graph_cases.make_graph()
  edges = graph.edge_set().restrict(graph.node_mask, graph.node_mask)
  looped = edges.add_loops(graph.node_mask)
  matrix = to_dense(graph).edge_set().add_loops(graph.node_mask)
  total = scatter_edges(looped.factors(), looped, N, N)
  np.testing.assert_allclose(total, matrix.adjacency, atol=1e-6)
  loops = np.diagonal(matrix.adjacency, axis1=1, axis2=2)
  np.testing.assert_array_equal(loops, graph.node_mask)
  features = scatter_edges(looped.features, looped, N, N)
  np.testing.assert_allclose(features, matrix.features, atol=1e-6)
  typed = to_dense(graph, K).edge_set().add_loops(graph.node_mask)
  np.testing.assert_allclose(typed.factors(), matrix.adjacency, atol=1e-6)


def test_shapes_that_do_not_fit_are_named():
  graph = graph_cases.make_graph()
  layer = GraphConvolution(3)
  two = Tokens(graph.nodes[:2], graph.node_mask[:2])

  def check(match, given, **kwargs):
    with pytest.raises(ValueError, match=match):
      layer.init(jax.random.key(0), given, train=False, **kwargs)

  check("needs a Graph or a DenseGraph, got Tokens", two)
  check("one array", graph.replace(nodes={"a": graph.nodes}))
  check("bool mask", graph.replace(node_mask=graph.node_mask[:, 1:]))
  check(r"as \[3, E\]", graph.replace(weights=graph.weights[:, 1:]))
  dense = to_dense(graph)
  check("adjacency", dense.replace(adjacency=dense.adjacency[:, 1:]))
  check("as many examples", graph, receivers=two)


@pytest.mark.parametrize("form", ["list", "matrix"])
def test_graph_networks_name_what_does_not_fit(form):
  graph = graph_cases.make_graph()
  make_fn = to_dense if form == "matrix" else lambda graph: graph
  good = make_fn(graph)

  def check(match, **changes):
    with pytest.raises(ValueError, match=match):
      graph_network()(good.replace(**changes))

  mask = graph.node_mask
  check(r"node_mask \[B, N\], got float32 \[3, 5\]", node_mask=mask * 1.0)
  check(r"need a bool mask \[3, 5\], got bool \[3, 4\]", node_mask=mask[:, 1:])
  check(r"node_mask \[B, N\], got bool \[15\]", node_mask=mask.ravel())
  check("features of edges that start with", edges=good.edges[:, 1:])
  if form == "matrix":
    check(r"adjacency \[3, 5, 5\]", adjacency=good.adjacency[:, 1:])
    return
  there = graph.edge_mask
  check(r"as \[3, E\], got.*mask \[3, 10\]", edge_mask=there[:, 1:])
  check("bool mask of the edges, got float32", edge_mask=there * 1.0)
  check(r"as \[3, E\], got.*weights \[3, 10\]", weights=graph.weights[:, 1:])


def test_attributes_that_cannot_be_meant_are_named():
  graph = graph_cases.make_graph(types=False)

  def check(match, layer, given=graph):
    with pytest.raises(ValueError, match=match):
      layer.init(jax.random.key(0), given, train=False)

  for kind in (GraphAttention, DynamicGraphAttention):
    check("width that its heads divide", kind(7, num_heads=2))
    check("'sum'; it must be", kind(6, merge="sum"))
    check("at least one head", kind(6, num_heads=0))
  check("edges with types", RelationalGraphConvolution(3, K))
  check(r"adjacency \[B, 3", RelationalGraphConvolution(3, K), to_dense(graph))
  check("one type and one base", RelationalGraphConvolution(3, 0))


def test_what_does_not_fit_is_told_where_a_graph_is_made_or_turned():
  graph = graph_cases.make_graph()
  for changes, message in (
    (
      {"node_mask": graph.node_mask[:, 1:]},
      r"mask \[3, 5\], got bool \[3, 4\]",
    ),
    ({"edge_mask": graph.edge_mask[:, 1:]}, r"as \[3, E\], got .*; pad what"),
    ({"weights": graph.weights[:, 1:]}, r"as \[3, E\], got .*; pad what"),
  ):
    with pytest.raises(ValueError, match=message):
      to_dense(graph.replace(**changes))
  tokens = Tokens(graph.nodes, graph.node_mask)
  with pytest.raises(ValueError, match=r"to_dense needs a Graph .*got Tokens"):
    to_dense(tokens)
  with pytest.raises(ValueError, match=r"globals \[3, \.\.\.\].*got \[2, 7\]"):
    make_graph(tokens, graph.edge_set(), jnp.ones((2, 7)))
  dense = to_dense(graph)
  with pytest.raises(ValueError, match="from_dense needs an adjacency"):
    from_dense(dense.replace(adjacency=dense.adjacency[:, 1:]), 9)
  with pytest.raises(ValueError, match=r"as \[2, E\].*senders \[3,"):
    make_graph(Tokens(tokens.values[:2], tokens.mask[:2]), graph.edge_set())
  with pytest.raises(
    ValueError, match=r"make_graph: the graph's nodes .* bool mask \[3, 5\]"
  ):
    make_graph(tokens.replace(mask=tokens.mask[:, 1:]), graph.edge_set())
