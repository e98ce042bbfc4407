"""Typed nodes and edges: a layer for each edge type, in both forms."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import assert_gradients_are_there, random_variables

from mmjax.array_types import Tokens
from mmjax.nn.edges import EdgeList, EdgeMatrix
from mmjax.nn.graph_attention import DynamicGraphAttention
from mmjax.nn.graph_builders import connect_all, connect_sequence
from mmjax.nn.graph_convolution import GraphConvolution
from mmjax.nn.heterogeneous_graph import (
  HeterogeneousGraph,
  HeterogeneousLayer,
  edges_to_lists,
  edges_to_matrices,
)

pytestmark = pytest.mark.usefixtures("fast_compilation")

NEXT, NAMES, WITH = (
  ("word", "next", "word"),
  ("word", "names", "region"),
  ("region", "with", "region"),
)
LAYERS = {
  "word_next_word": GraphConvolution(6),
  "word_names_region": DynamicGraphAttention(6, num_heads=2),
  "region_with_region": DynamicGraphAttention(6, num_heads=3),
}


def _graph():
  rng = np.random.default_rng(0)
  mask = {
    "word": jnp.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool),
    "region": jnp.array([[1, 1, 1], [0, 1, 1]], bool),
    "image": jnp.ones((2, 1), bool),
  }
  widths = {"word": 3, "region": 4, "image": 7}
  nodes = {
    t: Tokens(
      jnp.asarray(rng.normal(size=(*mask[t].shape, widths[t])), jnp.float32),
      mask[t],
    )
    for t in mask
  }
  edges = {
    NEXT: connect_sequence(mask["word"]),
    NAMES: EdgeList(
      jnp.asarray(rng.integers(0, 5, (2, 7))),
      jnp.asarray(rng.integers(0, 3, (2, 7))),
      jnp.ones((2, 7), bool),
    ),
    WITH: connect_all(mask["region"]),
  }
  return HeterogeneousGraph(nodes, edges)


GRAPH = _graph()


@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_layers_of_edge_types_are_joined_at_the_receivers(combine):
  module = HeterogeneousLayer(LAYERS, combine)
  variables = random_variables(module.init, GRAPH, train=False)
  out = module.apply(variables, GRAPH, train=False)
  assert set(variables["params"]) == {
    *(f"layers_{name}" for name in LAYERS),
    *("own_word", "own_region"),
  }

  def own(t):
    kernel = variables["params"][f"own_{t}"]["kernel"]
    mask = GRAPH.nodes[t].mask[..., None]
    return jnp.where(mask, GRAPH.nodes[t].values @ kernel, 0)

  def alone(edge_type):
    name = "_".join(edge_type)
    params = variables["params"][f"layers_{name}"]
    graph, receivers = GRAPH.part(edge_type)
    return LAYERS[name].apply({"params": params}, graph, receivers, train=False)

  words = alone(NEXT) + own("word")
  regions = alone(NAMES) + alone(WITH)
  if combine == "mean":
    regions = regions / 2
  regions = regions + own("region")
  np.testing.assert_allclose(out.nodes["word"].values, words, atol=1e-6)
  np.testing.assert_allclose(out.nodes["region"].values, regions, atol=1e-6)
  chex.assert_trees_all_equal(out.nodes["image"], GRAPH.nodes["image"])


def test_a_node_without_edges_remembers_itself_unless_told_not_to():
  alone = {t: e.replace(mask=e.mask & False) for t, e in GRAPH.edges.items()}
  graph = GRAPH.replace(edges=alone)
  layers = {
    "word_next_word": GraphConvolution(6, self_loops=False),
    "word_names_region": DynamicGraphAttention(6, num_heads=2),
  }
  for keep_own in (True, False):
    module = HeterogeneousLayer(layers, keep_own=keep_own)
    variables = random_variables(module.init, graph, train=False)
    nodes = module.apply(variables, graph, train=False).nodes
    for t in ("word", "region"):
      found = nodes[t].values[graph.nodes[t].mask]
      apart = len(np.unique(np.round(found, 4), axis=0))
      assert apart == (len(found) if keep_own else 1)


def test_masked_nodes_that_are_no_numbers_reach_nothing():
  module = HeterogeneousLayer(LAYERS)
  variables = random_variables(module.init, GRAPH, train=False)

  @jax.jit
  @jax.value_and_grad
  def compute(variables, values):
    nodes = {t: Tokens(values[t], GRAPH.nodes[t].mask) for t in values}
    out = module.apply(variables, GRAPH.replace(nodes=nodes), train=False)
    return sum(jnp.sin(tokens.values).sum() for tokens in out.nodes.values())

  zeros, wild = (
    compute(
      variables,
      {
        t: jnp.where(tokens.mask[..., None], tokens.values, value)
        for t, tokens in GRAPH.nodes.items()
      },
    )
    for value in (0.0, jnp.nan)
  )
  chex.assert_tree_all_finite(wild)
  chex.assert_trees_all_equal(zeros, wild)


def test_lists_and_matrices_agree_and_all_learns():
  module = HeterogeneousLayer(LAYERS)
  variables = random_variables(module.init, GRAPH, train=False)

  @jax.jit
  @jax.value_and_grad
  def compute(variables, graph):
    out = module.apply(variables, graph, train=False).nodes
    return sum(jnp.sin(out[t].values).sum() for t in ("word", "region"))

  dense = edges_to_matrices(GRAPH)
  sizes = {NEXT: 8, NAMES: 7, WITH: 9}
  value, grads = compute(variables, GRAPH)
  assert_gradients_are_there(grads)
  for form in (dense, edges_to_lists(dense, sizes)):
    chex.assert_trees_all_close(
      compute(variables, form), (value, grads), atol=2e-5
    )


@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_a_list_has_no_edges_at_absent_nodes(dtype):
  mask = jnp.array([[False, True, True]])
  nodes = {"word": Tokens(jnp.ones((1, 3, 2)), mask)}
  everything = EdgeMatrix(jnp.ones((1, 3, 3), dtype))
  graph = HeterogeneousGraph(nodes, {NEXT: everything})
  convert = functools.partial(edges_to_lists, num_edges={NEXT: 4})
  for found in (convert(graph), jax.jit(convert)(graph)):
    edges = found.edges[NEXT]
    pairs = zip(edges.receivers[0], edges.senders[0], strict=True)
    assert [(int(r), int(s)) for r, s in pairs] == [
      *((1, 1), (1, 2), (2, 1), (2, 2)),
    ]
    assert edges.mask.all()


def test_layers_add_no_loops_of_their_own():
  same = [
    HeterogeneousLayer(
      {"word_next_word": GraphConvolution(6, self_loops=loops)}
    )
    for loops in (True, False)
  ]
  variables = random_variables(same[0].init, GRAPH, train=False)
  nodes = [layer.apply(variables, GRAPH, train=False).nodes for layer in same]
  chex.assert_trees_all_equal(*nodes)


def test_what_does_not_belong_together_is_named():
  def check(match, graph=GRAPH, **changes):
    module = HeterogeneousLayer(**{"layers": LAYERS, **changes})
    with pytest.raises(ValueError, match=match):
      module.init(jax.random.key(0), graph, train=False)

  check("'max'; it must be 'sum' or 'mean'", combine="max")
  check(
    "no edges for the layers word_sees_word",
    layers={"word_sees_word": GraphConvolution(6)},
  )
  check(
    "that enter region give",
    layers={**LAYERS, "word_names_region": GraphConvolution(5)},
  )
  edges = {("word", "next", "sound"): GRAPH.edges[NEXT]}
  check("need nodes 'sound'", graph=GRAPH.replace(edges=edges))
  edges = {"word_next_word": GRAPH.edges[NEXT]}
  check("sender type, name.*'word_next_word'", graph=GRAPH.replace(edges=edges))
  for turn in (edges_to_matrices, lambda graph: edges_to_lists(graph, {})):
    with pytest.raises(ValueError, match="sender type, name"):
      turn(GRAPH.replace(edges=edges))
  cut = GRAPH.edges[NEXT].replace(mask=GRAPH.edges[NEXT].mask[:, 1:])
  short = GRAPH.replace(edges={**GRAPH.edges, NEXT: cut})
  check("graph convolution needs everything of the edges", graph=short)
  with pytest.raises(ValueError, match="word_next_word needs everything"):
    edges_to_matrices(short)
