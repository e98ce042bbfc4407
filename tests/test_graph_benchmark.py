"""The benchmark of graphs: equal sides, positive numbers, honest tables."""

import dataclasses
import functools
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # it uses parts of torch that are to go
  pytest.importorskip("torch_geometric.nn")

from benchmarks import (  # noqa: E402
  graph,
  graph_mmjax_side,
  graph_torch_side,
  runner,
)
from benchmarks.graph_side import LAYERS, Size, make_inputs, measure  # noqa: E402

pytestmark = pytest.mark.usefixtures("fast_compilation")

SIZE = Size(graphs=3, nodes=5, edges=11, width=8)


def test_edges_are_neither_loops_nor_doubled():
  nodes, senders, receivers = make_inputs(SIZE)
  assert nodes.shape == (3, 5, 8)
  assert (senders != receivers).all()
  for row in senders * 5 + receivers:
    assert len(set(row.tolist())) == 11


def test_all_sides_compute_the_same():
  request = {
    "sizes": [dataclasses.asdict(SIZE)],
    "layers": LAYERS,
    "steps": 1,
    "side": "graph_sparse",
  }
  found = [
    measure(prepare_fn, request)
    for prepare_fn in (
      functools.partial(graph_mmjax_side.prepare, dense=False),
      functools.partial(graph_mmjax_side.prepare, dense=True),
      graph_torch_side.prepare,
    )
  ]
  for rows in zip(*found, strict=True):
    norms = [row["norm"] for row in rows]
    assert all(row["ms"] > 0 for row in rows)
    np.testing.assert_allclose(norms, norms[0], rtol=1e-4)


def _report(sparse, dense, norm=1.0):
  sizes = [
    {"graphs": 2, "nodes": 9, "edges": 9 * degree, "width": 4}
    for degree in (2, 4, 8)
  ]

  def side(kind, values, norm=1.0):
    rows = [
      {"layer": "gcn", **size, kind: value, "norm": norm}
      for size, value in zip(sizes, values, strict=True)
    ]
    return {"results": rows, "busy_before": 0.0}

  result = {
    "graph_sparse": side("ms", sparse),
    "graph_dense": side("ms", dense, norm),
    "graph_sparse_memory": side("mib", [3.0, 5.0, 9.0]),
  }
  return {
    "results": [result],
    "sizes": sizes,
    "layers": ["gcn"],
    "steps": 1,
    "repeats": 1,
    "date": "today",
    "machine": "here",
    "device": "cpu",
    "versions": {},
  }


@pytest.mark.parametrize(
  ("sparse", "expected"),
  [
    ([1, 1, 3], "8 (100% of all) edges of a node on, the list still with 4"),
    ([1, 3, 3], "4 (50% of all) edges of a node on, the list still with 2"),
    ([3, 3, 3], "from 2 (25% of all) edges of a node on."),
    ([3, 3, 1], "The list is faster even for full graphs"),
    ([3, 1, 3], "8 (100% of all) edges of a node on, the list still with 4"),
  ],
)
def test_tables_tell_where_the_forms_cross(sparse, expected):
  text = graph.make_tables(_report(sparse, [2, 2, 2]))
  assert expected in text
  # 2 MiB for each 36 edges more.
  assert "1.0 MiB + 58,254 bytes an edge (R² 1.000" in text


def test_sides_that_differ_are_refused():
  with pytest.raises(runner.SideError, match="gcn with 9 nodes and 18 edges"):
    graph.make_tables(_report([1, 1, 1], [2, 2, 2], norm=1.1))
