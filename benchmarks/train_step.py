"""Times mmjax's train step beside the same model in PyTorch, in one run.

  python -m benchmarks.train_step --json train_step.json

Each repeat starts a fresh process for each side, one after the other, so that
nothing is shared but the machine; who goes first alternates. Both begin with
the same parameters and read the same easy-VQA batches. The table has medians
over the repeats. PyTorch runs eagerly, on all cores.

The machine has to be quiet: other work on its cores slows PyTorch's threads,
which wait for each other, far more than JAX's. A busy one is warned of.

The other experiments have no twin: `--experiment easy_vqa_graph --no-peer`.
"""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks import runner

WITH_TWIN = "easy_vqa_co_attention"
EXPERIMENTS = (WITH_TWIN, "easy_vqa_concat", "easy_vqa_graph")
NAMES = {"mmjax": "mmjax", "torch": "PyTorch"}
ROWS = {
  "examples_per_second": "train step, examples/s",
  "step_ms": "train step, ms",
  "loop_examples_per_second": "real loop, examples/s",
  "data_wait_percent": "real loop, time waiting for data, %",
  "overhead_ms": "loop minus bare steps, ms a step",
  "empty_loop_ms": "loop around a step that does nothing, ms a step",
  "ready_seconds": "from nothing to the first step done, s",
  "compile_seconds": "of which compiling the train step, s",
  "peak_memory_mib": "peak memory of the process, MiB",
  "first_loss": "loss of the first step, nats",
  "last_loss": "loss after the bare loop, nats",
}
LOSSES = ("first_loss", "last_loss")
WITHOUT_RATIO = ("data_wait_percent", "overhead_ms", *LOSSES)


def main() -> int:
  """Parses the flags, measures, prints the table."""
  args = parse_flags()
  sides = {"mmjax": "mmjax_side"}
  if args.peer:
    sides["torch"] = "torch_side"
  settings = {"experiment": args.experiment, "steps": args.steps}
  return runner.run(args, sides, settings, make_table)


def parse_flags() -> argparse.Namespace:
  """Parses the flags; `--peer` is on where there is a twin."""
  parser = runner.make_parser("train_step", __doc__)
  runner.add_peer_flags(
    parser,
    steps=50,
    peer=None,
    help="measure the PyTorch twin too; default: where there is one",
  )
  parser.add_argument("--experiment", choices=EXPERIMENTS, default=WITH_TWIN)
  args = parser.parse_args()
  if args.steps < 2 or args.repeats < 1:
    parser.error("at least 2 steps and 1 repeat are needed")
  if args.peer and args.experiment != WITH_TWIN:
    parser.error(f"only {WITH_TWIN} has a twin in PyTorch; add --no-peer")
  if args.peer is None:
    args.peer = args.experiment == WITH_TWIN
  return args


def make_table(report: Mapping[str, Any]) -> str:
  """Makes the Markdown table: medians, and ratios of them."""
  repeats = report["results"]
  sides = list(repeats[0])
  columns = ["median (lowest to highest)", *(NAMES[side] for side in sides)]
  if len(sides) > 1:
    columns.append("mmjax / PyTorch")
  rows = []
  for key, label in ROWS.items():
    digits = 4 if key in LOSSES else None
    values = [
      [r[side][key] for r in repeats if key in r[side]] for side in sides
    ]
    cells = [
      runner.show_spread(each, digits) if each else "–"  # noqa: RUF001
      for each in values
    ]
    if len(sides) > 1:
      has_ratio = all(values) and key not in WITHOUT_RATIO
      cells.append(runner.show_ratio(*values) if has_ratio else "")
    rows.append([label, *cells])
  parameters = [f"{repeats[0][side]['num_parameters']:,}" for side in sides]
  rows.append(["parameters", *parameters, *[""] * (len(sides) - 1)])
  lines = runner.describe_run(report, report["experiment"])
  return "\n".join(lines + runner.list_rows(columns, rows))


if __name__ == "__main__":
  sys.exit(main())
