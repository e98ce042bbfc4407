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
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

# Nothing heavy is imported here: a child process starts with the peak memory
# of its parent, so the parent has to stay small.
ROOT = pathlib.Path(__file__).resolve().parent.parent
WITH_TWIN = "easy_vqa_co_attention"
EXPERIMENTS = (WITH_TWIN, "easy_vqa_concat", "easy_vqa_graph")
SIDES = ("mmjax", "torch")
MAX_BUSY = 0.1  # share of all cores that others may use
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


class SideError(RuntimeError):
  """A side could not be measured; the message says why."""


def main() -> int:
  """Parses the flags, measures, prints the table."""
  args = parse_flags()
  if args.peer and importlib.util.find_spec("torch") is None:
    return fail(
      "PyTorch is not installed; run pip install -e '.[parity]', or leave it "
      "out by --no-peer"
    )
  sides = SIDES if args.peer else SIDES[:1]
  try:
    repeats = measure(sides, args.experiment, args.steps, args.repeats)
  except SideError as error:
    return fail(str(error))
  report = {
    "experiment": args.experiment,
    "steps": args.steps,
    "repeats": args.repeats,
    "date": datetime.date.today().isoformat(),
    "machine": describe_machine(),
    "versions": find_versions(repeats[0]),
    "results": repeats,
  }
  print(make_table(report))
  if args.json is not None:
    args.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
  return 0


def parse_flags() -> argparse.Namespace:
  """Parses the flags; `--peer` is on where there is a twin."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.train_step",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--experiment", choices=EXPERIMENTS, default=WITH_TWIN)
  parser.add_argument(
    "--steps", type=int, default=50, help="steps of each measurement"
  )
  parser.add_argument(
    "--repeats", type=int, default=5, help="processes of each side"
  )
  parser.add_argument(
    "--peer",
    action=argparse.BooleanOptionalAction,
    help="measure the PyTorch twin too; default: where there is one",
  )
  parser.add_argument(
    "--json", type=pathlib.Path, metavar="OUT", help="write all numbers here"
  )
  args = parser.parse_args()
  if args.steps < 2 or args.repeats < 1:
    parser.error("at least 2 steps and 1 repeat are needed")
  if args.peer and args.experiment != WITH_TWIN:
    parser.error(f"only {WITH_TWIN} has a twin in PyTorch; add --no-peer")
  if args.peer is None:
    args.peer = args.experiment == WITH_TWIN
  return args


def fail(message: str) -> int:
  """Prints an error and returns the exit code."""
  print(f"error: {message}", file=sys.stderr)
  return 1


def measure(
  sides: Sequence[str], experiment: str, steps: int, repeats: int
) -> list[dict[str, Any]]:
  """Measures all sides `repeats` times.

  Returns:
    The results by side, one mapping a repeat.
  """
  results = []
  with tempfile.TemporaryDirectory() as folder:
    request = {"experiment": experiment, "steps": steps, "folder": folder}
    for repeat in range(repeats):
      # mmjax goes first at the start: it leaves the parameters for its twin.
      order = sides if repeat % 2 == 0 else sides[::-1]
      result = {}
      for side in order:
        print(f"repeat {repeat + 1} of {repeats}: {side}", file=sys.stderr)
        busy = measure_busy()
        result[side] = run_side(side, request, cpu=len(sides) > 1)
        result[side]["busy_before"] = busy
      results.append(result)
  return results


def run_side(
  side: str, request: Mapping[str, Any], *, cpu: bool
) -> dict[str, Any]:
  """Measures one side in a fresh process.

  Args:
    side: one of `SIDES`.
    request: what `side.read_request` gives the process.
    cpu: whether JAX has to stay on the CPU, where PyTorch is.
  """
  env = dict(os.environ)
  # A cache of compiled programs would hide how long compiling takes.
  env.pop("JAX_COMPILATION_CACHE_DIR", None)
  if cpu:
    env["JAX_PLATFORMS"] = "cpu"
  done = subprocess.run(
    [sys.executable, "-m", f"benchmarks.{side}_side", json.dumps(request)],
    cwd=ROOT,
    env=env,
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise SideError(f"the {side} side failed:\n{done.stderr[-2000:]}")
  return json.loads(done.stdout.splitlines()[-1])


def measure_busy(seconds: float = 1.0) -> float | None:
  """Returns the share of all cores that is in use while this process sleeps.

  None where the system does not tell, that is elsewhere than on Linux.
  """
  stat = pathlib.Path("/proc/stat")
  if not stat.exists():
    return None

  def read() -> tuple[int, int]:
    # user, nice, system, idle, iowait, irq, softirq, steal
    ticks = [int(x) for x in stat.read_text("utf-8").split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]

  total, idle = read()
  time.sleep(seconds)
  new_total, new_idle = read()
  return 1 - (new_idle - idle) / max(new_total - total, 1)


def describe_machine() -> str:
  """Returns the processor, its cores, the system and Python."""
  model = platform.processor() or platform.machine()
  cpuinfo = pathlib.Path("/proc/cpuinfo")
  if cpuinfo.exists():
    for line in cpuinfo.read_text("utf-8").splitlines():
      if line.startswith("model name"):
        model = line.partition(":")[2].strip()
        break
  if hasattr(os, "sched_getaffinity"):
    cores = len(os.sched_getaffinity(0))
  else:
    cores = os.cpu_count()
  return f"{model}, {cores} cores, Python {platform.python_version()}"


def find_versions(result: Mapping[str, Any]) -> dict[str, str]:
  """Joins the versions that the sides told."""
  joined: dict[str, str] = {}
  for values in result.values():
    joined |= values["versions"]
  return joined


def make_table(report: Mapping[str, Any]) -> str:
  """Makes the Markdown table: medians, and ratios of them."""
  repeats = report["results"]
  sides = [side for side in SIDES if side in repeats[0]]
  names = {"mmjax": "mmjax", "torch": "PyTorch"}
  columns = [names[side] for side in sides]
  if len(sides) > 1:
    columns.append("mmjax / PyTorch")
  lines = [
    *warn_if_busy(repeats),
    f"{report['experiment']}: {report['repeats']} repeats of "
    f"{report['steps']} steps, {report['date']}, {report['machine']}, "
    + ", ".join(f"{n} {v}" for n, v in report["versions"].items()),
    "",
    "| median (lowest to highest) | " + " | ".join(columns) + " |",
    "|---|" + "---:|" * len(columns),
  ]
  for key, label in ROWS.items():
    cells, medians = [], []
    for side in sides:
      values = [r[side][key] for r in repeats if key in r[side]]
      if values:
        medians.append(statistics.median(values))
        cells.append(show_spread(values, 4 if key in LOSSES else None))
      else:
        cells.append("–")  # noqa: RUF001
    if len(sides) > 1:
      has_ratio = len(medians) == 2 and key not in WITHOUT_RATIO
      cells.append(f"{medians[0] / medians[1]:.2f}" if has_ratio else "")
    lines.append(f"| {label} | " + " | ".join(cells) + " |")
  parameters = [f"{repeats[0][side]['num_parameters']:,}" for side in sides]
  parameters += [""] * (len(columns) - len(sides))
  lines.append("| parameters | " + " | ".join(parameters) + " |")
  return "\n".join(lines)


def warn_if_busy(repeats: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns a warning if others used the machine before a measurement."""
  busy = max(
    result["busy_before"] or 0.0 for each in repeats for result in each.values()
  )
  if busy <= MAX_BUSY:
    return []
  return [
    f"Not a fair comparison: other processes used up to {busy:.0%} of the "
    "cores; measure again on a quiet machine.",
    "",
  ]


def show_spread(values: Sequence[float], digits: int | None = None) -> str:
  """Shows the median and the range of some numbers."""
  middle = statistics.median(values)
  if digits is None:
    digits = 0 if abs(middle) >= 100 else 1 if abs(middle) >= 10 else 3
  low, high = min(values), max(values)
  return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
  sys.exit(main())
