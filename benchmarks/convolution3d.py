"""Times 3-D convolution in both forms beside PyTorch, in one run.

  python -m benchmarks.convolution3d --json convolution3d.json

The layers are those of a network that halves height and width after each one.
Of each layer it times forward and backward together: the output, and the
gradients of the clips and of all parameters. Each repeat starts a fresh process
for each side, one after the other, and the order turns round from repeat to
repeat. All sides get the same numbers and must find the same gradients.

The machine has to be quiet; a busy one is warned of.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import runner

NAMES = {
  "shifts": "mmjax, shifts",
  "direct": "mmjax, direct",
  "torch": "PyTorch",
}
TOLERANCE = 1e-3  # relative difference of two norms of the same gradient


def main() -> int:
  """Parses the flags, measures, prints the table."""
  args = parse_flags()
  layers = list_layers(args.rows, args.frames, args.size, args.features)
  sides = {
    name: "convolution3d_side" for name in NAMES if args.peer or name != "torch"
  }
  settings = {"layers": layers, "steps": args.steps}
  return runner.run(args, sides, settings, make_table)


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = runner.make_parser("convolution3d", __doc__)
  runner.add_peer_flags(parser, steps=20)
  parser.add_argument("--rows", type=int, default=16, help="clips of a batch")
  parser.add_argument("--frames", type=int, default=16, help="of a clip")
  parser.add_argument("--size", type=int, default=32, help="pixels of a side")
  parser.add_argument(
    "--features",
    type=int,
    nargs="+",
    default=[3, 16, 32, 64],
    help="channels of the clips, then features of each layer",
  )
  args = parser.parse_args()
  sizes = (args.rows, args.frames, args.size, args.steps, args.repeats)
  if min(*sizes, *args.features) < 1 or len(args.features) < 2:
    parser.error("all sizes are at least 1, and features at least two numbers")
  return args


def list_layers(
  rows: int, frames: int, size: int, features: Sequence[int]
) -> list[dict[str, Any]]:
  """Lists the layers: the shape of their clips and their features."""
  layers = []
  for i, (channels, width) in enumerate(itertools.pairwise(features)):
    side = -(-size // 2**i)
    clips = [rows, frames, side, side, channels]
    layers.append({"clips": clips, "features": width})
  return layers


def check_gradients(
  repeats: Sequence[Mapping[str, Any]], layers: Sequence[Any]
) -> None:
  """Raises SideError unless all sides found gradients of the same size."""
  for i in range(len(layers)):
    norms = {
      name: result["norms"][i]
      for each in repeats
      for name, result in each.items()
    }
    first = next(iter(norms.values()))
    if not all(
      math.isclose(x, first, rel_tol=TOLERANCE) for x in norms.values()
    ):
      raise runner.SideError(
        f"the sides did not compute the same in layer {i + 1}: norms of the"
        f" gradients are {norms}"
      )


def make_table(report: Mapping[str, Any]) -> str:
  """Makes the Markdown table: medians, and ratios of them.

  Raises:
    SideError: the sides did not compute the same.
  """
  repeats, layers = report["results"], report["layers"]
  check_gradients(repeats, layers)
  sides = list(repeats[0])
  pairs = list(itertools.combinations(sides, 2))
  columns = ["clips, features: median (lowest to highest)"]
  columns += [f"{NAMES[side]}, ms" for side in sides]
  columns += [f"{a} / {b}" for a, b in pairs]

  def make_row(label: str, places: slice) -> list[str]:
    times = {
      side: [sum(r[side]["step_ms"][places]) for r in repeats] for side in sides
    }
    cells = [runner.show_spread(values) for values in times.values()]
    cells += [runner.show_ratio(times[a], times[b]) for a, b in pairs]
    return [label, *cells]

  rows = []
  for i, layer in enumerate(layers):
    label = f"{' x '.join(map(str, layer['clips']))}, {layer['features']}"
    rows.append(make_row(label, slice(i, i + 1)))
  rows.append(make_row("all", slice(None)))
  lines = runner.describe_run(report, "3-D convolution, forward and backward")
  return "\n".join(lines + runner.list_rows(columns, rows))


if __name__ == "__main__":
  sys.exit(main())
