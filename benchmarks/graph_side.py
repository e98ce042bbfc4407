"""What the sides of the benchmark of graphs share; numpy only."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import side
from benchmarks.fusion_side import Pass, time_pass
from benchmarks.runner import MEMORY

LAYERS = ("gcn", "gatv2")
NUM_HEADS = 4


@dataclasses.dataclass(frozen=True)
class Size:
  """The size of a measurement.

  Attributes:
    graphs: how many graphs there are.
    nodes: of a graph.
    edges: of a graph, without loops.
    width: width of the nodes, in and out.
  """

  graphs: int
  nodes: int
  edges: int
  width: int


def make_inputs(size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Makes nodes [B, N, D], and senders and receivers [B, E].

  No two edges of a graph join the same nodes, and none is a loop: a matrix
  holds all of them.
  """
  rng = np.random.default_rng(0)
  pairs = np.arange(size.nodes**2)
  pairs = pairs[pairs % size.nodes != pairs // size.nodes]
  chosen = np.stack(
    [rng.permutation(pairs)[: size.edges] for _ in range(size.graphs)]
  )
  shape = size.graphs, size.nodes, size.width
  nodes = rng.standard_normal(shape, np.float32)
  ends = chosen.astype(np.int32)
  return nodes, ends % size.nodes, ends // size.nodes


def make_parameters(layer: str, width: int) -> dict[str, np.ndarray]:
  """Makes the parameters of a layer, by their names in mmjax."""
  rng = np.random.default_rng(1)
  shapes: dict[str, tuple[int, ...]] = {"bias": (width,)}
  if layer == "gcn":
    shapes["node/kernel"] = (width, width)
  else:
    shapes["sender/kernel"] = shapes["receiver/kernel"] = (width, width)
    shapes["receiver/bias"] = (width,)
    shapes["score"] = (NUM_HEADS, width // NUM_HEADS)
  return {
    name: rng.standard_normal(shape, np.float32) / np.sqrt(width)
    for name, shape in shapes.items()
  }


def measure(
  prepare_fn: Callable[[str, Size], tuple[Pass, Callable[[], float]]],
  request: Mapping[str, Any],
) -> list[dict[str, Any]]:
  """Measures the layers at all sizes of the request.

  Args:
    prepare_fn: makes a layer ready, from its name and size: a pass, and what
      gives the norm of the gradient of the nodes.
    request: `sizes`, `layers` and `steps`.

  Returns:
    A row for each size and layer: `layer`, the size, `norm`, and the `ms` of a
    pass or, of a side that gauges memory, `mib`: parameters, inputs and what a
    pass adds to them at its peak; None where it cannot be told.
  """
  rows = []
  for size in request["sizes"]:
    for layer in request["layers"]:
      one, norm_fn = prepare_fn(layer, Size(**size))
      row: dict[str, Any] = {"layer": layer, **size}
      if request["side"].endswith(MEMORY):
        added = side.measure_memory(one.run_fn)
        row["mib"] = None if added is None else one.num_bytes / 2**20 + added
      else:
        row["ms"] = 1e3 * time_pass(one, request["steps"])
      row["norm"] = norm_fn()
      rows.append(row)
  return rows
