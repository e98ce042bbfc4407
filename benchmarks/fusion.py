"""Times every fusion, forward and backward, beside PyTorch where it has one.

  python -m benchmarks.fusion --json fusion.json

Two modalities of 16 tokens each, some of them masked, are fused at each size
(examples x width). Each repeat starts a fresh process for each side, one after
the other; who goes first alternates. The tables have medians over the repeats,
and ratios of them. Memory is that of parameters, inputs and all that a pass
adds to them at its peak, gauged alike on both sides; floating-point operations
are counted, not measured. PyTorch runs eagerly, on all cores.

The machine has to be quiet: see train_step.py.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import runner
from benchmarks.fusion_side import NUM_TOKENS

SIDES = ("fusion_mmjax", "fusion_torch")
SIZES = ("32x64", "128x256")
COLUMNS = (
  "fusion",
  "parameters",
  "Mflop",
  "/ first",
  "mmjax, ms",
  "/ first",
  "PyTorch, ms",
  "mmjax / PyTorch",
  "mmjax, MiB",
  "/ first",
  "PyTorch, MiB",
  "mmjax / PyTorch",
)

Numbers = Mapping[str, Sequence[float]]  # of one fusion, one a repeat


def main() -> int:
  """Parses the flags, measures, prints the tables."""
  args = parse_flags()
  sides = SIDES if args.peer else SIDES[:1]
  modules = {name: f"{name}_side" for name in sides}
  modules |= {f"{name}{runner.MEMORY}": f"{name}_side" for name in sides}
  settings = {
    "sizes": args.sizes,
    "fusions": args.fusions,
    "steps": args.steps,
  }
  return runner.run(args, modules, settings, make_tables)


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = runner.make_parser("fusion", __doc__, repeats=3)
  runner.add_peer_flags(parser, steps=10)
  parser.add_argument(
    "--sizes",
    nargs="+",
    type=parse_size,
    default=[parse_size(size) for size in SIZES],
    metavar="BxD",
    help=f"examples x width, by default {' '.join(SIZES)}",
  )
  parser.add_argument(
    "--fusions", nargs="+", metavar="NAME", help="these only; default: all"
  )
  args = parser.parse_args()
  if args.steps < 1 or args.repeats < 1:
    parser.error("at least 1 step and 1 repeat are needed")
  return args


def parse_size(text: str) -> dict[str, int]:
  """Parses "32x64" to 32 examples of width 64.

  Raises:
    argparse.ArgumentTypeError: another form.
  """
  try:
    batch, width = map(int, text.split("x"))
  except ValueError:
    batch = width = 0
  if min(batch, width) < 1:
    raise argparse.ArgumentTypeError(
      f"{text!r} is no size; give examples x width as 32x64"
    )
  return {"batch": batch, "width": width}


def make_tables(report: Mapping[str, Any]) -> str:
  """Makes a Markdown table for each size.

  Raises:
    SideError: a twin has another number of parameters than its fusion.
  """
  lines = runner.describe_run(
    report, f"Forward and backward, two modalities of {NUM_TOKENS} tokens"
  )
  for size in report["sizes"]:
    ours, theirs = (collect(report["results"], side, size) for side in SIDES)
    first = next(iter(ours.values()))
    rows = [
      make_row(name, ours[name], theirs.get(name), first) for name in ours
    ]
    lines += [f"{size['batch']} examples of width {size['width']}:", ""]
    lines += [*runner.list_rows(COLUMNS, rows), ""]
  return "\n".join(lines).rstrip()


def collect(
  repeats: Sequence[Mapping[str, Any]], side: str, size: Mapping[str, int]
) -> dict[str, dict[str, list[float]]]:
  """Gathers a side's numbers at one size: fusion, number, value a repeat."""
  found: dict[str, dict[str, list[float]]] = {}
  for repeat in repeats:
    for name in (side, f"{side}{runner.MEMORY}"):
      for row in repeat.get(name, {}).get("results", ()):
        if {key: row[key] for key in size} == dict(size):
          numbers = found.setdefault(row["fusion"], {})
          for key in ("parameters", "mflop", "mib", "ms"):
            if row.get(key) is not None:
              numbers.setdefault(key, []).append(row[key])
  return found


def make_row(
  name: str, ours: Numbers, theirs: Numbers | None, first: Numbers
) -> list[str]:
  """Makes the row of one fusion.

  Args:
    name: the fusion.
    ours: its numbers.
    theirs: those of its twin, if there is one.
    first: those of the fusion that all are compared with.

  Raises:
    SideError: the twin has another number of parameters.
  """
  if theirs and set(theirs["parameters"]) != set(ours["parameters"]):
    raise runner.SideError(
      f"the PyTorch twin of {name} has {theirs['parameters'][0]:,} parameters,"
      f" not {ours['parameters'][0]:,}: correct its twin in this folder"
    )
  cells = [name, f"{ours['parameters'][0]:,}", f"{ours['mflop'][0]:,.2f}"]
  cells.append(runner.show_ratio(ours["mflop"], first["mflop"]))
  for key, show_fn in (("ms", runner.show_spread), ("mib", show_median)):
    mine, peer = ours.get(key), (theirs or {}).get(key)
    for shown, other in ((mine, first.get(key)), (peer, peer)):
      cells.append(show_fn(shown) if shown else "")
      cells.append(runner.show_ratio(mine, other) if mine and other else "")
  return cells


def show_median(values: Sequence[float]) -> str:
  """Shows the median of MiB."""
  return f"{statistics.median(values):,.1f}"


if __name__ == "__main__":
  sys.exit(main())
