"""Builders of edges against loops; masks; all of them under jit."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.array_types import Tokens
from mmjax.nn.dense_graph import to_dense
from mmjax.nn.edges import EdgeList
from mmjax.nn.graph import make_graph
from mmjax.nn.graph_builders import (
  connect_all,
  connect_given,
  connect_grid,
  connect_sequence,
  join_edges,
  reverse_edges,
  shift_edges,
)
from mmjax.nn.scene_graph import (
  connect_triples,
  make_scene_graph,
  pad_triples,
)
from mmjax.nn.similarity_graph import (
  compute_cosines,
  connect_similar_frames,
  connect_top_k,
)

pytestmark = pytest.mark.usefixtures("fast_compilation")

RNG = np.random.default_rng(0)
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 1]], bool)
OTHER = np.array([[1, 1, 0], [0, 1, 1]], bool)


def _pairs(edges, b):
  """The (sender, receiver) that are there, in order."""
  there = np.asarray(edges.mask[b])
  ends = zip(
    np.asarray(edges.senders[b])[there].tolist(),
    np.asarray(edges.receivers[b])[there].tolist(),
    strict=True,
  )
  return list(ends)


def _check(build_fn, mask, joined_fn, receiver_mask=None, size=None):
  """Compares with a loop that asks of each pair whether it is joined."""
  receiver_mask = mask if receiver_mask is None else receiver_mask
  edges = jax.jit(build_fn)()
  for b in range(len(mask)):
    expected = {
      (s, r)
      for s in np.nonzero(mask[b])[0].tolist()
      for r in np.nonzero(receiver_mask[b])[0].tolist()
      if joined_fn(s, r)
    }
    found = _pairs(edges, b)
    assert len(found) == len(set(found))
    assert set(found) == expected
  if size is not None:
    assert edges.senders.shape == (len(mask), size)
  return edges


def test_all_pairs():
  _check(lambda: connect_all(MASK), MASK, lambda s, r: s != r, size=30)
  _check(
    lambda: connect_all(MASK, loops=True), MASK, lambda s, r: True, size=36
  )
  _check(lambda: connect_all(MASK, OTHER), MASK, lambda s, r: True, OTHER, 18)


@pytest.mark.parametrize("neighbours", [4, 8])
def test_grid(neighbours):
  def near(s, r):
    down, right = abs(s // 3 - r // 3), abs(s % 3 - r % 3)
    return (down + right if neighbours == 4 else max(down, right)) == 1

  size = 14 if neighbours == 4 else 22
  _check(lambda: connect_grid(MASK, 2, 3, neighbours), MASK, near, size=size)


def test_sequence():
  both = lambda s, r: abs(s - r) in (1, 4)  # noqa: E731
  _check(lambda: connect_sequence(MASK, (1, 4)), MASK, both, size=14)
  ahead = lambda s, r: r - s in (1, 2)  # noqa: E731
  forward = lambda: connect_sequence(MASK, (2, 1), direction="forward")  # noqa: E731
  _check(forward, MASK, ahead, size=9)
  backward = connect_sequence(MASK, (1, 2), direction="backward")
  for b in range(2):
    assert set(_pairs(reverse_edges(backward), b)) == set(_pairs(forward(), b))
  _check(lambda: connect_sequence(MASK, (9,)), MASK, lambda s, r: False, size=0)


def test_frames_with_patches():
  _check(
    lambda: connect_sequence(MASK, (1,), per_step=2, direction="forward"),
    MASK,
    lambda s, r: r - s == 2,
    size=4,
  )


def test_given_alignments():
  pairs = np.array(
    [[[0, 1], [5, 2], [-1, -1], [3, 0]], [[1, 1]] * 3 + [[5, 2]]]
  )
  edges = jax.jit(connect_given)(pairs, MASK, OTHER)
  assert _pairs(edges, 0) == [(0, 1), (3, 0)]  # receiver 2 is absent
  assert _pairs(edges, 1) == [(5, 2)]  # sender 1 is absent
  assert edges.senders.min() >= 0


def _tokens(mask, width=4, seed=0):
  values = np.random.default_rng(seed).normal(size=(*mask.shape, width))
  return Tokens(jnp.asarray(values, jnp.float32), jnp.asarray(mask))


def _cosine(a, b):
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize("across", [False, True])
def test_top_k_by_similarity(across):
  senders = _tokens(MASK)
  receivers = _tokens(OTHER, seed=1) if across else None
  edges = jax.jit(lambda s, r: connect_top_k(s, 2, r, keep_similarity=True))(
    senders, receivers
  )
  ends = receivers if across else senders
  num_receivers = ends.mask.shape[1]
  assert edges.senders.shape == (2, 2 * num_receivers)
  for b in range(2):
    found = _pairs(edges, b)
    expected, cosines = [], []
    for r in np.nonzero(ends.mask[b])[0]:
      near = {
        int(s): _cosine(senders.values[b, s], ends.values[b, r])
        for s in np.nonzero(senders.mask[b])[0]
        if across or s != r
      }
      best = sorted(near, key=near.get, reverse=True)[:2]
      expected += [(s, int(r)) for s in best]
      cosines += [near[s] for s in best]
    assert found == expected
    there = np.asarray(edges.mask[b])
    np.testing.assert_allclose(edges.features[b, there, 0], cosines, atol=1e-6)
    assert not np.asarray(edges.features)[b, ~there].any()


def test_similarity_ignores_what_is_absent_and_has_a_gradient():
  senders = _tokens(MASK)
  spoiled = Tokens(
    jnp.where(MASK[..., None], senders.values, jnp.nan), senders.mask
  )

  def total(values):
    tokens = Tokens(values, senders.mask)
    edges = connect_top_k(tokens, 3, keep_similarity=True)
    return (edges.features * jnp.arange(18.0)[:, None]).sum(), edges

  compute = jax.jit(jax.grad(total, has_aux=True))
  grads, edges = compute(senders.values)
  new_grads, new = compute(spoiled.values)
  chex.assert_trees_all_equal(new, edges)
  np.testing.assert_array_equal(new_grads, grads)
  assert np.abs(grads)[MASK].min() > 0
  # Two nodes are absent: three of four others are joined, never five.
  assert edges.mask.sum(axis=1).tolist() == [18, 12]


def test_fewer_nodes_than_k_and_vectors_of_zeros():
  mask = jnp.zeros((1, 4), bool).at[0, :2].set(True)
  tokens = Tokens(jnp.zeros((1, 4, 3)), mask)
  edges = connect_top_k(tokens, 3)
  assert _pairs(edges, 0) == [(1, 0), (0, 1)]
  grad = jax.grad(lambda v: compute_cosines(Tokens(v, mask), tokens).sum())(
    tokens.values
  )
  assert np.isfinite(grad).all()


def test_similar_frames_are_apart():
  frames = _tokens(np.ones((2, 8), bool))
  edges = connect_similar_frames(frames, 2, per_step=2, min_steps=2)
  senders, receivers = np.asarray(edges.senders), np.asarray(edges.receivers)
  there = np.asarray(edges.mask)
  apart = np.abs(senders // 2 - receivers // 2)
  assert (apart[there] >= 2).all()
  assert there.all()
  edges = connect_similar_frames(frames, 8, min_steps=1)
  for b in range(2):
    assert set(_pairs(edges, b)) == {
      (s, r) for s in range(8) for r in range(8) if s != r
    }


def test_scene_graph():
  triples = pad_triples([[(0, 2, 3), (3, 0, 1)], [(2, 1, 0), (1, 0, 0)]], 3)
  np.testing.assert_array_equal(triples[0, 2], -1)
  graph = jax.jit(lambda t, x: make_scene_graph(t, x, 3))(
    _tokens(MASK), triples
  )
  found = [
    [
      (int(s), int(k), int(r))
      for s, r, k, there in zip(*rows, strict=True)
      if there
    ]
    for rows in zip(
      graph.senders, graph.receivers, graph.types, graph.edge_mask, strict=True
    )
  ]
  # Object 1 of the second scene is absent.
  assert found == [
    [(0, 2, 3), (3, 0, 1), (3, 5, 0), (1, 3, 3)],
    [(2, 1, 0), (0, 4, 2)],
  ]
  # Where nobody can look, relation 2 and object 6, which do not exist, are left
  # out.
  triples[0, 2] = (0, 1, 6)
  edges = jax.jit(lambda t: connect_triples(t, MASK, 2, inverse=False))(triples)
  assert _pairs(edges, 0) == [(3, 1)]
  assert to_dense(graph, 6).adjacency.sum(axis=(1, 2, 3)).tolist() == [4, 2]


def test_a_negative_number_anywhere_is_padding():
  triples = np.array([[(-1, 0, 1), (0, -1, 1), (0, 0, -1), (0, 0, 1)]] * 2)
  edges = connect_triples(triples, MASK, 1, inverse=False)
  np.testing.assert_array_equal(
    edges.mask[0], [False, False, False, True], strict=True
  )


def test_edges_of_several_kinds_make_one_graph():
  words, regions = MASK, OTHER
  edges = join_edges(
    connect_sequence(words),
    shift_edges(connect_all(regions), 6, 6),
    shift_edges(connect_all(words, regions), 0, 6),
  )
  mask = np.concatenate([words, regions], axis=1)
  graph = make_graph(_tokens(mask), edges)
  assert graph.types.shape == (2, 10 + 6 + 18)
  dense = to_dense(graph, 3).adjacency
  assert not dense[:, 1, :6].any()
  assert not dense[:, 1, :, :6].any()
  np.testing.assert_array_equal(
    dense[:, 2, 6:, :6], regions[:, :, None] & words[:, None]
  )
  weighed = EdgeList(
    edges.senders, edges.receivers, edges.mask, weights=jnp.full((2, 34), 0.5)
  )
  joined = join_edges(weighed, connect_all(mask))
  np.testing.assert_array_equal(
    joined.weights[:, :34], 0.5 * np.asarray(edges.mask)
  )


@pytest.mark.parametrize(
  ("build_fn", "match"),
  [
    (lambda: connect_grid(MASK, 2, 2), "has 4 cells"),
    (lambda: connect_grid(MASK, 2, 3, 6), "4 or 8 neighbours, got 6"),
    (lambda: connect_sequence(MASK, (0,)), "at least 1"),
    (lambda: connect_sequence(MASK, (2, 2)), "different numbers"),
    (lambda: connect_sequence(MASK, direction="up"), "'up'; it must be"),
    (lambda: connect_sequence(MASK, per_step=4), "6 nodes are no sequence"),
    (lambda: connect_given(np.zeros((2, 3)), MASK), r"\[2, E, 2\]"),
    (lambda: connect_top_k(_tokens(MASK), 7), "between 1 and the 6"),
    (
      lambda: connect_top_k(_tokens(MASK), 1, _tokens(OTHER, 5)),
      "vectors of one width",
    ),
    (lambda: connect_similar_frames(_tokens(MASK), 1, per_step=4), "per_step"),
    (lambda: pad_triples([[(0, 0, 1)] * 3], 2), "scene 0 has 3 relations"),
    (lambda: connect_triples(np.zeros((2, 3)), MASK, 1), r"\[2, E, 3\]"),
    (lambda: connect_triples(np.array([[[0, 2, 1]]] * 2), MASK, 2), "0, 2, 1"),
    (
      lambda: connect_triples(jnp.array([[[0, 1, 6]]] * 2), MASK, 2),
      r"relation \(0, 1, 6\), .* objects 0 to 5 and relations 0 to 1;",
    ),
    (lambda: join_edges(), "at least one list"),
    (
      lambda: join_edges(join_edges(connect_all(MASK))),
      "can have no features",
    ),
    (
      lambda: join_edges(connect_all(MASK), connect_all(OTHER[:1])),
      r"same number of examples, got masks \[2, 30\], \[1, 6\]; build",
    ),
    (
      lambda: connect_top_k(_tokens(MASK), 1, allowed=MASK),
      r"bool \[6, 6\] or \[2, 6, 6\], receivers.*got bool \[2, 6\]",
    ),
    (
      lambda: connect_top_k(_tokens(MASK), 1, allowed=np.ones((6, 6))),
      r"must be bool .*, got float64 \[6, 6\]",
    ),
  ],
)
def test_what_cannot_be_meant_is_named(build_fn, match):
  with pytest.raises(ValueError, match=match):
    build_fn()
