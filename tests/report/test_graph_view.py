"""Graph views of hand-made weights: which nodes, which edges, which order."""

import numpy as np
import pytest

from mmjax.report.graph_view import (
  Edge,
  describe_graph,
  make_graph,
  make_nodes,
  make_walk,
  strongest_edges,
)
from mmjax.report.node_sets import (
  NodeSet,
  frame_nodes,
  grid_nodes,
  sown_nodes,
  word_nodes,
)


def _objects(mask=(True, True, True)):
  places = np.array([[0.1, 0.2], [0.5, 0.5], [0.9, 0.3]])
  return NodeSet(["red", "green", "blue"], np.array(mask), places)


def _ends(edges):
  return [(edge.sender, edge.receiver) for edge in edges]


def test_cells_lie_at_their_places_row_by_row():
  nodes = grid_nodes((2, 3))
  assert nodes.labels == [f"cell {r}/{c}" for r in (1, 2) for c in (1, 2, 3)]
  np.testing.assert_allclose(nodes.places[0], [1 / 6, 1 / 4])
  np.testing.assert_allclose(nodes.places[5], [5 / 6, 3 / 4])
  assert not grid_nodes((2, 3), present=False).mask.any()


def test_words_leave_padding_out_whatever_the_mask_says():
  nodes = word_nodes(["any", "red"], np.ones(5, bool))
  assert nodes.mask.tolist() == [True, True, False, False, False]
  assert [node.label for node in make_nodes({"text": nodes})] == ["any", "red"]


def test_a_modality_can_be_one_node():
  whole = word_nodes(["any", "red"], np.ones(5, bool)).fit(1, "text")
  assert (whole.labels, whole.mask.tolist()) == (["text"], [True])
  assert not whole.is_placed
  absent = word_nodes(["any"], np.zeros(5, bool)).fit(1, "text")
  assert absent.mask.tolist() == [False]
  assert grid_nodes((2, 3)).fit(5, "image") is None


def test_frames_can_be_grids_of_cells():
  frames = frame_nodes(np.array([True, False, True]))
  assert frames.fit(3, "video") is frames
  cells = frames.fit(12, "video")
  assert cells.labels[5] == "frame 2, cell 1/2"
  assert cells.frames.tolist() == [0] * 4 + [1] * 4 + [2] * 4
  assert cells.mask.tolist() == [True] * 4 + [False] * 4 + [True] * 4
  np.testing.assert_allclose(cells.places[5], [0.75, 0.25])
  assert frames.fit(6, "video") is None  # two cells are no square


@pytest.mark.parametrize(
  "changes",
  [
    {"mask": np.ones(2, bool)},
    {"places": np.zeros((3, 3))},
    {"frames": np.zeros(2, int)},
  ],
)
def test_what_is_not_of_n_nodes_is_refused(changes):
  fields = {"labels": ["a", "b", "c"], "mask": np.ones(3, bool), **changes}
  with pytest.raises(ValueError, match="set of 3 nodes needs"):
    NodeSet(**fields)


def test_models_can_sow_the_places_of_what_they_find():
  places = np.array([[[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.7, 0.9]]])
  tree = {
    "detector": {
      "places_objects": (places,),
      "mask_objects": (np.array([[True, False]]),),
      "places": (places,),
    }
  }
  found = sown_nodes(tree)
  assert list(found) == ["objects"]
  assert found["objects"].labels == ["#1", "#2"]
  (node,) = make_nodes(found)
  assert node.box == (0.1, 0.2, 0.3, 0.4)
  assert node.place == pytest.approx((0.2, 0.3))


def test_strongest_edges_skip_loops_padding_and_the_weaker_direction():
  within = np.array([[0.9, 0.3, 0.1], [0.5, 0.0, 0.0], [0.0, 0.2, 0.7]])
  across = np.zeros((5, 3))
  across[1, 2] = 0.4
  across[4, 0] = 0.8  # padding: the text has three words
  weights = {("image", "image"): within, ("text", "image"): across}
  nodes = {("image", i) for i in range(3)} | {("text", i) for i in range(3)}
  edges, total = strongest_edges(weights, nodes, 9)
  assert edges == [
    Edge(("image", 1), ("image", 0), 0.5),
    Edge(("text", 1), ("image", 2), 0.4),
    Edge(("image", 2), ("image", 1), 0.2),
    Edge(("image", 0), ("image", 2), 0.1),
  ]
  assert total == 4
  assert strongest_edges(weights, nodes, 2) == (edges[:2], 4)


def test_a_graph_has_its_strongest_edges_of_both_kinds():
  rng = np.random.default_rng(0)
  sets = {
    "image": grid_nodes((5, 5)),
    "text": word_nodes(["any", "red"], np.ones(7, bool)),
  }
  weights = {
    (q, k): rng.random((len(sets[q].labels), len(sets[k].labels)))
    for q in sets
    for k in sets
  }
  view = make_graph("edges", sets, weights, {}, "mean over 4 heads")
  (step,) = view.steps
  kinds = [{edge.receiver[0], edge.sender[0]} for edge in step.edges]
  assert kinds == [{"image"}] * 12 + [{"image", "text"}] * 8
  assert view.caption == (
    "The 12 strongest of 300 edges within a modality and the 8 strongest of 50"
    " edges across modalities, mean over 4 heads."
  )
  assert len(view.nodes) == 27


def test_a_masked_node_is_neither_there_nor_linked():
  rng = np.random.default_rng(1)
  weights = {("objects", "objects"): rng.random((3, 3)) + 1}
  shares = {"objects": np.array([0.1, 0.8, 0.1])}
  sets = {"objects": _objects((True, False, True))}
  view = make_graph("edges", sets, weights, shares)
  assert [node.label for node in view.nodes] == ["red", "blue"]
  (step,) = view.steps
  assert len(step.edges) == 1
  assert set(step.shares) == {("objects", 0), ("objects", 2)}
  walk = make_walk(
    "steps", "objects", sets["objects"], [shares["objects"]] * 2,
    [np.ones((3, 3))],
  )  # fmt: skip
  assert [node.label for node in walk.nodes] == ["red", "blue"]
  assert {end for edge in walk.steps[1].edges for end in _ends([edge])[0]} == {
    ("objects", 0),
    ("objects", 2),
  }


def test_what_lies_nowhere_is_not_drawn_alone():
  words = {"text": word_nodes(["any", "red"], np.ones(2, bool))}
  weights = {("text", "text"): np.ones((2, 2))}
  assert make_graph("edges", words, weights, {}) is None
  assert make_graph("edges", {"objects": _objects()}, {}, {}) is None
  frames = {**words, "video": frame_nodes(np.ones(3, bool))}
  across = {("video", "text"): np.ones((3, 2))}
  assert make_graph("edges", frames, across, {}) is None


def test_shares_alone_are_a_graph_without_edges():
  shares = {"objects": np.array([0.1, 0.7, 0.2])}
  view = make_graph("look", {"objects": _objects()}, {}, shares)
  assert view.steps[0].edges == []
  assert view.steps[0].shares["objects", 1] == 0.7


def test_a_walk_has_its_steps_in_order_and_ways_from_what_was_attended_to():
  shares = [
    np.array([0.0, 0.9, 0.1]),
    np.array([1.0, 0.0, 0.0]),
    np.array([0.2, 0.0, 0.8]),
  ]
  gates = np.zeros((2, 3, 3))
  gates[0, 0, 1] = 0.5  # green to red, as green was attended to
  gates[0, 0, 2] = 1.0  # blue to red, a little
  gates[0, 1, 0] = 1.0  # nothing can come from red
  gates[1, 2, 0] = 0.6
  view = make_walk("steps", "objects", _objects(), shares, gates)
  assert [dict(step.shares) for step in view.steps] == [
    {("objects", i): share for i, share in enumerate(each.tolist())}
    for each in shares
  ]
  assert not view.steps[0].edges
  first, second = view.steps[1].edges
  assert _ends([first, second]) == [
    (("objects", 1), ("objects", 0)),
    (("objects", 2), ("objects", 0)),
  ]
  assert [first.weight, second.weight] == pytest.approx([0.45, 0.1])
  (last,) = view.steps[2].edges
  assert _ends([last]) == [(("objects", 0), ("objects", 2))]
  assert describe_graph(view) == (
    "Step 1: green 90 %, blue 10 %. Step 2: red 100 %; green to red; blue to"
    " red. Step 3: blue 80 %, red 20 %; red to blue"
  )


def test_weights_that_are_not_numbers_are_not_drawn():
  weights = np.array([[0, np.nan, 0.2], [0, 0, 0], [0, 0, 0]])
  view = make_graph(
    "edges", {"objects": _objects()}, {("objects", "objects"): weights}, {}
  )
  assert _ends(view.steps[0].edges) == [(("objects", 2), ("objects", 0))]
