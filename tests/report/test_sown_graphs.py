"""Graphs in what models sow: whose nodes they are, and what is left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.array_types import Tokens
from mmjax.nn.dense_graph import to_dense
from mmjax.nn.edges import EdgeList
from mmjax.nn.graph import make_graph
from mmjax.nn.graph_dot_attention import DotGraphAttention
from mmjax.nn.graph_reasoning import GraphReasoning
from mmjax.nn.heterogeneous_graph import (
  HeterogeneousGraph,
  HeterogeneousLayer,
  edges_to_matrices,
)
from mmjax.report.node_sets import (
  NodeSet,
  frame_nodes,
  grid_nodes,
  word_nodes,
)
from mmjax.report.sown_graphs import find_graphs

_RNG = np.random.default_rng(0)


def _objects(number=3, mask=None):
  return NodeSet(
    [f"object {i}" for i in range(number)],
    np.ones(number, bool) if mask is None else np.array(mask),
    _RNG.random((number, 2)),
  )


def _sets(**more):
  return {
    "objects": _objects(),
    "text": word_nodes(["any", "red"], np.ones(5, bool)),
    **more,
  }


def _one_edge(receiver, sender, shape, weight=0.5):
  weights = np.zeros((1, 2, *shape))
  weights[:, :, receiver, sender] = weight
  return weights


def _edges(view):
  return [(edge.sender, edge.receiver) for edge in view.steps[0].edges]


def test_the_last_round_is_drawn_averaged_over_heads():
  old, new = _one_edge(0, 1, (3, 3)), _one_edge(2, 1, (3, 3))
  new[:, 1] = 0
  tree = {"fusion": {"objects_over_objects": (old, new)}}
  (view,) = find_graphs(tree, _sets(), {})
  (edge,) = view.steps[0].edges
  assert (edge.sender, edge.receiver) == (("objects", 1), ("objects", 2))
  assert edge.weight == 0.25
  assert view.caption == (
    "The only edge within a modality, of the last of 2 rounds, mean over 2"
    " heads."
  )


def test_a_text_of_one_token_is_one_node():
  tree = {"fusion": {"objects_over_text": (_one_edge(1, 0, (3, 1)),)}}
  (view,) = find_graphs(tree, _sets(), {})
  assert _edges(view) == [(("text", 0), ("objects", 1))]
  assert [node.label for node in view.nodes][-1] == "text"


def test_edges_of_an_encoder_are_of_its_modality():
  tree = {
    "encoders_objects": {
      "stages_0": {"token_over_token": (_one_edge(1, 0, (3, 3)),)}
    }
  }
  (view,) = find_graphs(tree, _sets(other=_objects()), {})
  assert view.title == "Strongest edges within objects"
  assert _edges(view) == [(("objects", 0), ("objects", 1))]


def test_pairs_belong_to_the_only_set_that_fits():
  tree = {"fusion": {"relations": {"pairs": (_one_edge(1, 0, (3, 3)),)}}}
  (view,) = find_graphs(tree, _sets(), {})
  assert view.title == "Pairs that add most"
  assert _edges(view) == [(("objects", 0), ("objects", 1))]
  # Two sets fit: rather nothing than the wrong thing.
  assert find_graphs(tree, _sets(other=_objects()), {}) == []
  assert find_graphs(tree, {"objects": _objects(5)}, {}) == []


def test_layers_between_two_sets_are_read_off_their_names():
  tree = {
    "matcher": {
      "round_0": {
        "layers_text_names_objects": {"attention": (_one_edge(2, 1, (3, 5)),)},
        "layers_objects_beside_objects": {
          "edge_weights": (_one_edge(0, 1, (3, 3)),)
        },
      }
    }
  }
  (view,) = find_graphs(tree, _sets(), {})
  assert _edges(view) == [
    (("objects", 1), ("objects", 0)),
    (("text", 1), ("objects", 2)),
  ]


@pytest.mark.parametrize("loops", [0, 4])
def test_lists_of_edges_are_found_around_their_layer(loops):
  weights = np.zeros((1, 2, 5 + loops))
  weights[..., 1], weights[..., 3], weights[..., 4] = 0.5, 0.25, 0.9
  tree = {
    "encoders_video": {
      "edge_senders": (np.array([[0, 1, 2, 3, 0]]),),
      "edge_receivers": (np.array([[1, 2, 3, 1, 3]]),),
      "edge_mask": (np.array([[True, True, True, True, False]]),),
      "block_0": {"attention": {"attention": (weights,)}},
    }
  }
  sets = {"video": frame_nodes(np.ones(4, bool))}
  (view,) = find_graphs(tree, sets, {})
  assert view.num_frames == 4
  assert _edges(view) == [
    (("video", 1), ("video", 2)),
    (("video", 3), ("video", 1)),
  ]
  del tree["encoders_video"]["edge_senders"]
  assert find_graphs(tree, sets, {}) == []


def _attend(senders, receivers, form):
  """What a layer over random edges from words to objects sows."""
  rng = np.random.default_rng(0)
  edges = EdgeList(
    jnp.asarray(senders)[None],
    jnp.asarray(receivers)[None],
    jnp.arange(len(senders))[None] < len(senders) - 1,
  )
  words, objects = (
    Tokens(
      jnp.asarray(rng.normal(size=(1, number, 6)), jnp.float32),
      jnp.ones((1, number), bool),
    )
    for number in (5, 3)
  )
  graph = HeterogeneousGraph(
    {"text": words, "objects": objects},
    {("text", "names", "objects"): edges},
  )
  if form == "matrix":
    graph = edges_to_matrices(graph)
  module = HeterogeneousLayer({"text_names_objects": DotGraphAttention(6, 2)})
  _, sown = module.init_with_output(
    jax.random.key(0), graph, train=False, mutable=["params", "intermediates"]
  )
  return {"matcher": sown["intermediates"]}


def test_lists_and_matrices_of_a_layer_are_drawn_alike():
  # No edge has the last word, nor the last object: neither tells its number.
  senders, receivers = [0, 1, 1, 0, 4], [0, 0, 1, 1, 2]
  views = [
    find_graphs(_attend(senders, receivers, form), _sets(), {})
    for form in ("list", "matrix")
  ]
  (listed,), (matrix,) = views
  assert _edges(listed) == _edges(matrix)
  assert len(_edges(listed)) == 4
  for one, other in zip(
    listed.steps[0].edges, matrix.steps[0].edges, strict=True
  ):
    assert one.weight == pytest.approx(other.weight, abs=1e-6)


@pytest.mark.parametrize("types", [None, 2])
def test_a_walk_has_a_step_for_each_look(types):
  shares = [np.array([[0.0, 1.0, 0.0]]), np.array([[0.5, 0.5, 0.0]])]
  gate = np.zeros((1, 3, 3))
  gate[:, 0, 1] = 0.7
  if types:
    gate = np.stack([gate, 0 * gate], axis=1)
  tree = {"fusion": {"reasoning": {"nodes": tuple(shares), "gates": (gate,)}}}
  (view,) = find_graphs(tree, _sets(), {})
  assert view.title == "Steps of reasoning"
  assert len(view.steps) == 2
  assert view.steps[0].shares["objects", 1] == 1
  (edge,) = view.steps[1].edges
  assert (edge.sender, edge.receiver) == (("objects", 1), ("objects", 0))
  assert edge.weight == pytest.approx(0.7)


def test_a_walk_over_a_list_of_edges():
  tree = {
    "edge_senders": (np.array([[0, 2]]),),
    "edge_receivers": (np.array([[1, 1]]),),
    "edge_mask": (np.array([[True, True]]),),
    "nodes": (np.array([[0.5, 0.0, 0.5]]), np.array([[0.0, 1.0, 0.0]])),
    "gates": (np.array([[0.5, 1.0]]),),
  }
  (view,) = find_graphs({"reasoning": tree}, _sets(), {})
  weights = [edge.weight for edge in view.steps[1].edges]
  assert weights == pytest.approx([0.5, 0.25])


def test_a_walk_of_the_module_is_drawn_alike_over_lists_and_matrices():
  rng = np.random.default_rng(0)
  nodes = Tokens(
    jnp.asarray(rng.normal(size=(1, 3, 4)), jnp.float32),
    jnp.ones((1, 3), bool),
  )
  edges = EdgeList(
    jnp.array([[0, 1, 0]]), jnp.array([[1, 0, 2]]), jnp.array([[1, 1, 0]], bool)
  )
  listed = make_graph(nodes, edges)
  views = []
  for graph in (listed, to_dense(listed)):
    _, sown = GraphReasoning(5, num_steps=2).init_with_output(
      jax.random.key(0),
      graph,
      jnp.ones((1, 6)),
      train=False,
      mutable=["params", "intermediates"],
    )
    (view,) = find_graphs({"reasoning": sown["intermediates"]}, _sets(), {})
    views.append(view)
  one, other = ([*view.steps[1].edges] for view in views)
  assert len(one) == 1  # of both directions the stronger
  assert [(e.sender, e.receiver) for e in one] == [
    (e.sender, e.receiver) for e in other
  ]
  np.testing.assert_allclose(
    [e.weight for e in one], [e.weight for e in other], atol=1e-6
  )


def test_a_walk_of_one_step_has_no_gates():
  tree = {"reasoning": {"nodes": (np.array([[0.2, 0.8, 0.0]]),)}}
  (view,) = find_graphs(tree, _sets(), {})
  assert view.steps[0].edges == []


def test_what_is_pooled_makes_nodes_larger():
  tree = {"fusion": {"objects_over_objects": (_one_edge(0, 1, (3, 3)),)}}
  pools = {"pool_objects": np.array([0.1, 0.7, 0.2])}
  (view,) = find_graphs(tree, _sets(), pools)
  assert view.steps[0].shares["objects", 1] == 0.7
  (view,) = find_graphs({}, _sets(), pools)
  assert view.title == "Where it looked: objects"
  assert view.steps[0].shares["objects", 1] == 0.7
  # Cells of a picture have a map instead, and words have theirs.
  sets = {"image": grid_nodes((2, 3)), "text": _sets()["text"]}
  pools = {"pool_image": np.ones(6) / 6, "pool_text": np.ones(5) / 5}
  assert find_graphs({}, sets, pools) == []


@pytest.mark.parametrize(
  "tree",
  [
    {},
    {"fusion": {"weights": (np.ones((1, 2)),)}},
    {"fusion": {"objects_over_objects": (np.ones((1, 2, 4, 4)),)}},
    {"fusion": {"latents_over_objects": (np.ones((1, 2, 5, 3)),)}},
    {"block_0": {"self_attention": (np.ones((1, 2, 3, 3)),)}},
    {"fusion": {"nodes": (np.ones((1, 2, 3)),)}},
    {"fusion": {"attention": (np.ones((1, 2, 7)),)}},
  ],
)
def test_what_is_no_graph_of_known_nodes_is_left_alone(tree):
  assert find_graphs(tree, _sets(), {}) == []
