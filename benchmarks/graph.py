"""Times graph layers over lists and matrices of edges, beside torch_geometric.

  python -m benchmarks.graph --json graph.json

A forward and a backward pass of GCN and GATv2, gradients by all parameters and
nodes. For each number of nodes a table goes through the number of edges that
enter a node: times of the list and of the matrix, where they cross, memory of
both, and torch_geometric on the same graphs with the same parameters. All sides
must find the same gradients. Below each table stands how the memory of the list
grows with its edges. Each repeat starts a fresh process for each side, one
after the other; the order turns round from repeat to repeat.

The machine has to be quiet: see train_step.py.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import runner
from benchmarks.graph_side import LAYERS, NUM_HEADS

NAMES = {
  "graph_sparse": "list",
  "graph_dense": "matrix",
  "graph_torch": "torch_geometric",
}
TOLERANCE = 1e-3  # relative difference of two norms of the same gradient
COLUMNS = (
  "edges of a node",
  "edges of a graph",
  "list, ms",
  "matrix, ms",
  "list / matrix",
  "torch_geometric, ms",
  "list / torch_geometric",
  "list, MiB",
  "matrix, MiB",
  "torch_geometric, MiB",
)

# Of a side, layer, size and kind ("ms", "mib"): a number a repeat.
Numbers = Mapping[tuple[str, str, int, int, str], Sequence[float]]


def main() -> int:
  """Parses the flags, measures, prints the tables."""
  args = parse_flags()
  sides = [name for name in NAMES if args.peer or runner.PEER not in name]
  modules = {
    name: "graph_torch_side" if runner.PEER in name else "graph_mmjax_side"
    for name in sides
  }
  modules |= {f"{name}{runner.MEMORY}": modules[name] for name in sides}
  settings = {
    "sizes": list_sizes(args),
    "layers": args.layers,
    "steps": args.steps,
  }
  return runner.run(args, modules, settings, make_tables)


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = runner.make_parser("graph", __doc__, repeats=3)
  runner.add_peer_flags(parser, steps=10)
  parser.add_argument(
    "--rows", type=int, default=2048, help="nodes of all graphs together"
  )
  parser.add_argument(
    "--nodes", type=int, nargs="+", default=[16, 64, 256], help="of a graph"
  )
  parser.add_argument(
    "--degrees",
    type=int,
    nargs="+",
    default=[2, 4, 8, 16, 32, 64, 128, 255],
    help="edges that enter a node, on average; too many are left out",
  )
  parser.add_argument("--width", type=int, default=64, help="of the nodes")
  parser.add_argument(
    "--layers", nargs="+", choices=LAYERS, default=list(LAYERS)
  )
  args = parser.parse_args()
  numbers = (args.rows, args.width, args.steps, args.repeats)
  if min(*numbers, *args.nodes, *args.degrees) < 1:
    parser.error("all numbers are at least 1")
  if args.width % NUM_HEADS:
    parser.error(f"the width is a multiple of the {NUM_HEADS} heads")
  if min(args.degrees) >= min(args.nodes):
    parser.error("each graph needs a degree below its number of nodes")
  return args


def list_sizes(args: argparse.Namespace) -> list[dict[str, int]]:
  """Lists the sizes: as many nodes in all, in smaller or larger graphs.

  The full graph always ends a table.
  """
  sizes = []
  for nodes in args.nodes:
    degrees = {d for d in args.degrees if d < nodes} | {nodes - 1}
    for degree in sorted(degrees - {0}):
      sizes.append(
        {
          "graphs": max(args.rows // nodes, 1),
          "nodes": nodes,
          "edges": nodes * degree,
          "width": args.width,
        }
      )
  return sizes


def make_tables(report: Mapping[str, Any]) -> str:
  """Makes a Markdown table for each layer and number of nodes.

  Raises:
    SideError: the sides did not compute the same.
  """
  check_gradients(report["results"])
  numbers = collect(report["results"])
  lines = runner.describe_run(report, "Graph layers, forward and backward")
  nodes_of = dict.fromkeys(size["nodes"] for size in report["sizes"])
  for layer in report["layers"]:
    for nodes in nodes_of:
      sizes = [size for size in report["sizes"] if size["nodes"] == nodes]
      first = sizes[0]
      lines += [
        f"{layer}, {first['graphs']} graphs of {nodes} nodes, width"
        f" {first['width']}:",
        "",
        *runner.list_rows(
          COLUMNS, [make_row(numbers, layer, size) for size in sizes]
        ),
        "",
        *describe_crossover(numbers, layer, sizes),
        *describe_growth(numbers, layer, sizes),
      ]
  return "\n".join(lines).rstrip()


def collect(repeats: Sequence[Mapping[str, Any]]) -> Numbers:
  """Gathers the numbers of all sides."""
  found: dict[tuple[str, str, int, int, str], list[float]] = {}
  for repeat in repeats:
    for name, result in repeat.items():
      side = name.removesuffix(runner.MEMORY)
      for row in result["results"]:
        for kind in ("ms", "mib"):
          if row.get(kind) is not None:
            key = (side, row["layer"], row["nodes"], row["edges"], kind)
            found.setdefault(key, []).append(row[kind])
  return found


def check_gradients(repeats: Sequence[Mapping[str, Any]]) -> None:
  """Raises SideError unless all sides found gradients of the same size."""
  norms: dict[tuple[Any, ...], dict[str, float]] = {}
  for repeat in repeats:
    for name, result in repeat.items():
      for row in result["results"]:
        key = (row["layer"], row["nodes"], row["edges"])
        norms.setdefault(key, {})[name] = row["norm"]
  for (layer, nodes, edges), found in norms.items():
    first = next(iter(found.values()))
    if not all(
      math.isclose(norm, first, rel_tol=TOLERANCE) for norm in found.values()
    ):
      raise runner.SideError(
        f"the sides did not compute the same in {layer} with {nodes} nodes and"
        f" {edges} edges: norms of the gradients are {found}"
      )


def make_row(
  numbers: Numbers, layer: str, size: Mapping[str, int]
) -> list[str]:
  """Makes the row of one layer and size."""

  def find(side: str, kind: str) -> Sequence[float]:
    return numbers.get((side, layer, size["nodes"], size["edges"], kind), ())

  def compare(values: Sequence[float], others: Sequence[float]) -> str:
    return runner.show_ratio(values, others) if values and others else ""

  sparse, dense, peer = (find(side, "ms") for side in NAMES)
  cells = [f"{size['edges'] // size['nodes']}", f"{size['edges']:,}"]
  cells += [runner.show_spread(sparse), runner.show_spread(dense)]
  cells += [compare(sparse, dense), runner.show_spread(peer) if peer else ""]
  cells.append(compare(sparse, peer))
  for side in NAMES:
    memory = find(side, "mib")
    cells.append(f"{statistics.median(memory):,.1f}" if memory else "")
  return cells


def describe_crossover(
  numbers: Numbers, layer: str, sizes: Sequence[Mapping[str, int]]
) -> list[str]:
  """Says from how many edges on the matrix is faster, and when not yet."""
  slower = []
  for size in sizes:
    sparse, dense = (
      statistics.median(
        numbers[side, layer, size["nodes"], size["edges"], "ms"]
      )
      for side in ("graph_sparse", "graph_dense")
    )
    slower.append(sparse > dense)
  nodes = sizes[0]["nodes"]
  degrees = [size["edges"] // nodes for size in sizes]
  start = len(slower)
  while start > 0 and slower[start - 1]:
    start -= 1
  if start == len(slower):
    return ["The list is faster even for full graphs.", ""]

  def show(degree: int) -> str:
    return f"{degree} ({degree / (nodes - 1):.0%} of all)"

  text = f"The matrix is faster from {show(degrees[start])} edges of a node on"
  if start > 0:
    text += f", the list still with {show(degrees[start - 1])}"
  return [f"{text}.", ""]


def describe_growth(
  numbers: Numbers, layer: str, sizes: Sequence[Mapping[str, int]]
) -> list[str]:
  """Says how the list's memory grows with edges, by least squares."""
  points = [
    (size["graphs"] * size["edges"], statistics.median(numbers[key]))
    for size in sizes
    if (key := ("graph_sparse", layer, size["nodes"], size["edges"], "mib"))
    in numbers
  ]
  if len(points) < 3:
    return []
  edges, memory = zip(*points, strict=True)
  slope, start = statistics.linear_regression(edges, memory)
  r_squared = statistics.correlation(edges, memory) ** 2
  return [
    f"Memory of the list: {start:.1f} MiB + {slope * 2**20:,.0f} bytes an edge"
    f" (R² {r_squared:.3f} of a straight line).",
    "",
  ]


if __name__ == "__main__":
  sys.exit(main())
