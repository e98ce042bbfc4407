"""Graphs whose edges are a list are drawn as those whose edges are a matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.array_types import Tokens
from mmjax.encoders.image import GridEncoder
from mmjax.encoders.video_graph import VideoGraphEncoder, tie_frames
from mmjax.nn.dense_graph import to_dense
from mmjax.nn.edges import EdgeList
from mmjax.nn.graph import make_graph
from mmjax.nn.graph_attention import DynamicGraphAttention
from mmjax.report.node_sets import frame_nodes
from mmjax.report.sown_graphs import find_graphs

PRESENT = np.array([True, True, False, True, True, False])


def _draw(module, *inputs):
  """The edges that are drawn of a module of the encoder of a clip."""
  _, sown = jax.jit(
    lambda: module.init_with_output(
      jax.random.key(1),
      *inputs,
      train=False,
      mutable=["params", "intermediates"],
    )
  )()
  tree = {"encoders_video": sown["intermediates"]}
  (view,) = find_graphs(tree, {"video": frame_nodes(PRESENT)}, {})
  return view


def _weights(view):
  return {(e.sender, e.receiver): e.weight for e in view.steps[0].edges}


def _nodes(mask=PRESENT):
  rng = np.random.default_rng(0)
  values = rng.normal(size=(1, len(mask), 8))
  return Tokens(jnp.asarray(values, jnp.float32), jnp.asarray(mask)[None])


@pytest.mark.parametrize("per_step", [1, 4])
def test_edges_over_time_are_drawn_alike(per_step):
  mask = PRESENT.repeat(per_step)
  nodes = _nodes(mask)
  edges = tie_frames(nodes, per_step, skips=(1, 3), num_similar=0)
  graph = make_graph(nodes, edges)
  layer = DynamicGraphAttention(6, num_heads=2)
  listed, matrix = _draw(layer, graph), _draw(layer, to_dense(graph))
  assert listed.nodes == matrix.nodes
  assert len(listed.nodes) == 4 * per_step
  assert listed.caption == matrix.caption
  if per_step == 1:  # of more there are equal ones at the end of the list
    assert _weights(listed) == pytest.approx(_weights(matrix), abs=1e-6)
    # 1 and 2, 4 and 5 next to each other; 1 and 4, 2 and 5 three apart.
    assert len(_weights(listed)) == 4
  else:
    assert sorted(_weights(listed).values()) == pytest.approx(
      sorted(_weights(matrix).values()), abs=1e-6
    )
  frames = {node.end: node.frame for node in listed.nodes}
  for sender, receiver in _weights(listed):
    assert abs(frames[sender] - frames[receiver]) in (1, 3)


def test_what_several_edges_bring_adds_up_as_in_a_matrix():
  """Frames that are alike may be neighbours too, and have two edges then."""
  ends = [(0, 1), (0, 1), (3, 1), (4, 3), (4, 3), (4, 3), (0, 3)]
  senders, receivers = np.array(ends).T
  edges = EdgeList(
    jnp.asarray(senders)[None],
    jnp.asarray(receivers)[None],
    jnp.arange(len(ends))[None] != 4,  # one of three is absent
  )
  graph = make_graph(_nodes(), edges)
  layer = DynamicGraphAttention(6, num_heads=2)
  listed, matrix = _draw(layer, graph), _draw(layer, to_dense(graph))
  assert len(_weights(listed)) == 4
  assert _weights(listed) == pytest.approx(_weights(matrix), abs=1e-6)


def test_each_round_of_a_video_graph_sows_its_edges_once():
  encoder = VideoGraphEncoder(
    width=8,
    frame_encoder=GridEncoder(width=4, features=(3,), stem_size=2),
    skips=(1,),
    num_similar=1,
    num_rounds=2,
    num_heads=2,
    mlp_dim=8,
  )
  video = np.random.default_rng(0).integers(0, 256, (1, 6, 8, 8, 1), np.uint8)
  _, sown = jax.jit(
    lambda: encoder.init_with_output(
      jax.random.key(1),
      video,
      PRESENT[None],
      train=False,
      mutable=["params", "intermediates"],
    )
  )()
  sown = sown["intermediates"]
  found = [
    (path, leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(sown)
    if "edge_senders" in jax.tree_util.keystr(path)
  ]
  assert len(found) == encoder.num_rounds
  view = _draw(encoder, video, PRESENT[None])
  assert {node.frame for node in view.nodes} == {0, 1, 3, 4}
  assert "of the last of 2 rounds" in view.caption
  # What is drawn is the last round, edge by edge.
  layer = sown["block_1"]["attention"]
  (shares,), (senders,) = layer["attention"], layer["edge_senders"]
  (receivers,), (mask,) = layer["edge_receivers"], layer["edge_mask"]
  total = np.zeros((6, 6))
  for edge in np.flatnonzero(mask[0]):
    total[receivers[0, edge], senders[0, edge]] += shares[0, :, edge].mean()
  for (sender, receiver), weight in _weights(view).items():
    assert weight == pytest.approx(total[receiver[1], sender[1]], abs=1e-6)
