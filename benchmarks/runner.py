"""What the commands of this folder share: processes, the machine, tables.

A command measures sides, such as mmjax and PyTorch. Each repeat starts a fresh
process for each side, one after the other, so that nothing is shared but the
machine; the order turns round from repeat to repeat.

Nothing heavy is imported here: a child process starts with the peak memory of
its parent, so the parent has to stay small.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAX_BUSY = 0.1  # share of all cores that others may use
PEER = "torch"  # in the name of every side that needs PyTorch
MEMORY = "_memory"  # ends the name of every side that gauges, not times
# All but small blocks are mapped one by one, and given back when they are
# freed: what is resident is what is in use. It makes a process slower.
GAUGED = {
  "MALLOC_MMAP_THRESHOLD_": str(2**14),
  "MALLOC_MMAP_MAX_": str(2**20),
  "MALLOC_ARENA_MAX": "1",
}


class SideError(RuntimeError):
  """A side could not be measured; the message says why."""


def make_parser(
  name: str, description: str, *, repeats: int = 5, what: str = "processes"
) -> argparse.ArgumentParser:
  """Makes a parser with `--repeats` and `--json`, which all commands have."""
  parser = argparse.ArgumentParser(
    prog=f"python -m benchmarks.{name}",
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "--repeats", type=int, default=repeats, help=f"{what} of each side"
  )
  parser.add_argument(
    "--json", type=pathlib.Path, metavar="OUT", help="write all numbers here"
  )
  return parser


def add_peer_flags(
  parser: argparse.ArgumentParser,
  *,
  steps: int,
  peer: bool | None = True,
  help: str = "measure PyTorch too; JAX then stays on the CPU",
) -> None:
  """Adds `--steps` and `--peer`."""
  parser.add_argument(
    "--steps", type=int, default=steps, help="steps of each measurement"
  )
  parser.add_argument(
    "--peer", action=argparse.BooleanOptionalAction, default=peer, help=help
  )


def run(
  args: argparse.Namespace,
  sides: Mapping[str, str],
  settings: Mapping[str, Any],
  make_table: Callable[[Mapping[str, Any]], str],
) -> int:
  """Measures all sides, prints the table, writes the numbers.

  Args:
    args: the flags `repeats` and `json`.
    sides: the module of this folder that measures it, by name of a side.
    settings: what to measure, for the processes and for the report.
    make_table: makes Markdown of the report; may raise SideError.

  Returns:
    The exit code.
  """
  try:
    report = measure(sides, settings, args.repeats)
    print(make_table(report))
  except SideError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  write_json(args.json, report)
  return 0


def measure(
  sides: Mapping[str, str], settings: Mapping[str, Any], repeats: int
) -> dict[str, Any]:
  """Measures all sides `repeats` times.

  The first side goes first at the start: it may leave files for the others.

  Returns:
    The settings, when and where it was, and `results`: one mapping a repeat,
    what `run_side` gives by name of the side.

  Raises:
    SideError: PyTorch is missing, or a side failed.
  """
  with_peer = any(PEER in name for name in sides)
  if with_peer and importlib.util.find_spec(PEER) is None:
    raise SideError(
      "PyTorch is not installed; run pip install -e '.[parity]', or leave it "
      "out by --no-peer"
    )
  results = []
  with tempfile.TemporaryDirectory() as folder:
    for repeat in range(repeats):
      result = {}
      for name in list(sides) if repeat % 2 == 0 else reversed(sides):
        print(f"repeat {repeat + 1} of {repeats}: {name}", file=sys.stderr)
        busy = measure_busy()
        request = {**settings, "side": name, "folder": folder}
        result[name] = run_side(sides[name], request, cpu=with_peer)
        result[name]["busy_before"] = busy
      results.append({name: result[name] for name in sides})
  versions: dict[str, str] = {}
  for result in results[0].values():
    versions |= result["versions"]
  return {
    **settings,
    "repeats": repeats,
    "date": datetime.date.today().isoformat(),
    "machine": describe_machine(),
    "device": results[0][next(iter(sides))]["device"],
    "versions": versions,
    "results": results,
  }


def run_side(
  module: str, request: Mapping[str, Any], *, cpu: bool
) -> dict[str, Any]:
  """Measures one side in a fresh process.

  Args:
    module: the module of this folder that does it.
    request: what `side.read_request` gives the process.
    cpu: whether JAX has to stay on the CPU, where PyTorch is.

  Raises:
    SideError: the process failed.
  """
  env = dict(os.environ)
  # A cache of compiled programs would hide how long compiling takes.
  env.pop("JAX_COMPILATION_CACHE_DIR", None)
  if cpu:
    env["JAX_PLATFORMS"] = "cpu"
  if request["side"].endswith(MEMORY):
    env |= GAUGED
  done = subprocess.run(
    [sys.executable, "-m", f"benchmarks.{module}", json.dumps(request)],
    cwd=ROOT,
    env=env,
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise SideError(
      f"the side {request['side']} failed:\n{done.stderr[-2000:]}"
    )
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
  """Returns the processor, its cores and Python."""
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


def describe_run(report: Mapping[str, Any], what: str) -> list[str]:
  """Says what was measured, when and where; warns of a busy machine."""
  versions = ", ".join(f"{n} {v}" for n, v in report["versions"].items())
  return [
    *warn_if_busy(
      result["busy_before"]
      for each in report["results"]
      for result in each.values()
    ),
    f"{what}: {report['repeats']} repeats of {report['steps']} steps, "
    f"{report['date']}, {report['machine']}, {report['device']}, {versions}",
    "",
  ]


def warn_if_busy(shares: Iterable[float | None]) -> list[str]:
  """Returns a warning if others used the machine before a measurement."""
  busy = max(share or 0.0 for share in shares)
  if busy <= MAX_BUSY:
    return []
  return [
    f"Not a fair comparison: other processes used up to {busy:.0%} of the "
    "cores; measure again on a quiet machine.",
    "",
  ]


def list_rows(
  columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> list[str]:
  """Lists the lines of a Markdown table, numbers to the right."""
  return [
    "| " + " | ".join(columns) + " |",
    "|---|" + "---:|" * (len(columns) - 1),
    *("| " + " | ".join(cells) + " |" for cells in rows),
  ]


def show_spread(values: Sequence[float], digits: int | None = None) -> str:
  """Shows the median and the range of some numbers."""
  middle = statistics.median(values)
  if digits is None:
    digits = 0 if abs(middle) >= 100 else 1 if abs(middle) >= 10 else 3
  low, high = min(values), max(values)
  return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def show_ratio(values: Sequence[float], others: Sequence[float]) -> str:
  """Shows the median of some numbers over that of others."""
  return f"{statistics.median(values) / statistics.median(others):.2f}"


def write_json(path: pathlib.Path | None, numbers: Any) -> None:
  """Writes all numbers, if they are wanted."""
  if path is not None:
    path.write_text(json.dumps(numbers, indent=2) + "\n", "utf-8")
