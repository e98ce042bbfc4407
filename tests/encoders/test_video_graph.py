"""Graphs over time: their edges beside loops, and what is refused."""

import itertools

import jax
import numpy as np
import pytest
from cases_video import CASES, CLIPS, CLIPS_MASK, EVERY, init, run

from mmjax.array_types import Tokens
from mmjax.encoders.image import GridEncoder
from mmjax.encoders.video_graph import VideoGraphEncoder, tie_frames

pytestmark = pytest.mark.usefixtures("fast_compilation")


def list_edges(edges, row):
  """The present edges of an example: (sender, receiver, type)."""
  parts = (edges.senders, edges.receivers, edges.types)
  columns = (
    np.asarray(part)[row][np.asarray(edges.mask)[row]] for part in parts
  )
  return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("num_similar", [0, 2])
def test_edges_are_those_of_a_loop(num_similar):
  rng = np.random.default_rng(1)
  values = rng.normal(size=(3, 10, 4)).astype(np.float32)
  mask = np.repeat(CLIPS_MASK, 2, axis=1)
  skips = (1, 3)
  edges = jax.jit(lambda nodes: tie_frames(nodes, 2, skips, num_similar))(
    Tokens(values, mask)
  )
  unit = values / np.linalg.norm(values, axis=-1, keepdims=True)
  for row in range(3):
    nodes = np.flatnonzero(mask[row]).tolist()
    expected = []
    for s, r in itertools.product(nodes, nodes):
      apart = s // 2 - r // 2
      if s % 2 == r % 2 and abs(apart) in skips:
        expected.append((s, r, 2 * skips.index(abs(apart)) + (apart > 0)))
    for r in nodes if num_similar else ():
      others = [s for s in nodes if s // 2 != r // 2]
      others.sort(key=lambda s: -unit[row, s] @ unit[row, r])
      expected += [(s, r, 4 + (s // 2 > r // 2)) for s in others[:num_similar]]
    assert sorted(list_edges(edges, row)) == sorted(expected)
  there = np.asarray(edges.mask)
  np.testing.assert_array_equal(
    edges.features[..., : 4 + num_similar][there],
    np.eye(4 + num_similar)[np.asarray(edges.types)[there]],
  )
  if not num_similar:
    assert edges.features.shape[-1] == 4
    return
  rows = np.arange(3)[:, None]
  cosines = np.sum(unit[rows, edges.senders] * unit[rows, edges.receivers], -1)
  cosines = np.where(np.asarray(edges.types) >= 4, cosines, 0)
  np.testing.assert_allclose(
    edges.features[..., -1][there], cosines[there], atol=1e-6
  )


def test_edges_and_their_shares_are_sown():
  case = CASES["graph"]
  module = case.make("float32")
  variables = init(module, case.values, case.mask)
  _, state = run(
    module,
    variables,
    case.values,
    case.mask,
    train=False,
    mutable="intermediates",
  )
  sown = state["intermediates"]
  # Over one frame, three frames, by similarity, and loops.
  num_edges = 2 * (4 + 2) + 5 * 2 + 5
  layer = sown["block_1"]["attention"]
  (present,), (receivers,) = layer["edge_mask"], layer["edge_receivers"]
  assert present.shape == receivers.shape == (3, num_edges)
  (shares,) = layer["attention"]
  assert shares.shape == (3, 3, num_edges)
  assert not np.asarray(shares)[:, 0][~np.asarray(present)].any()
  total = np.zeros((3, 5))
  for row, edge in np.argwhere(np.asarray(present)):
    total[row, receivers[row, edge]] += shares[row, 0, edge]
  np.testing.assert_allclose(total, CLIPS_MASK, atol=1e-5)


def test_a_token_hears_of_neighbours_only():
  module = VideoGraphEncoder(
    6,
    GridEncoder(5, features=(3, 4)),
    nodes="tokens",
    skips=(2,),
    num_similar=0,
    num_rounds=1,
    num_heads=2,
    mlp_dim=7,
  )
  variables = init(module, CLIPS, EVERY)
  other = CLIPS.copy()
  other[0, 1] = 1 - other[0, 1]
  before, after = (
    run(module, variables, clips, EVERY, train=False).values
    for clips in (CLIPS, other)
  )
  changed = np.abs(before - after).max(axis=-1).reshape(3, 5, 6).max(axis=-1)
  np.testing.assert_array_equal(changed[1:], 0)
  np.testing.assert_array_equal(
    changed[0] > 1e-6, [False, True, False, True, False]
  )


@pytest.mark.parametrize(
  ("settings", "match"),
  [
    ({"nodes": "patches"}, "'frames' or 'tokens'"),
    ({"skips": (1, 1)}, r"skips are \(1, 1\)"),
    ({"skips": (0,)}, "at least 1"),
    ({"num_similar": -1}, "got -1 and 2"),
    ({"num_rounds": 0}, "got 2 and 0"),
    ({"skips": (), "num_similar": 0}, "has no edges"),
    ({"messages": "none"}, "'attention' or 'perceptron'"),
  ],
)
def test_what_does_not_fit_is_named(settings, match):
  module = VideoGraphEncoder(8, GridEncoder(5, features=(3,)), **settings)
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(
      lambda: module.init(jax.random.key(0), CLIPS, EVERY, train=False)
    )
