"""What the measured processes share: request and answer, clock and gauge."""

import ctypes
import gc
import importlib.metadata
import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

NUM_HELD = 8  # batches kept in memory for the loops that measure no data
NUM_WARM_UP = 3


def read_request() -> dict[str, Any]:
  """Reads what to measure: the settings, and the name of the `side`.

  `folder` is a folder that the sides of one run share.
  """
  return json.loads(sys.argv[1])


def answer(results: Mapping[str, Any]) -> None:
  """Prints the results as the last line of standard output."""
  print(json.dumps(results), flush=True)


def num_cores() -> int:
  """Returns the cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def peak_memory() -> float:
  """Returns the largest resident size of this process so far, in MiB."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (2**20 if sys.platform == "darwin" else 2**10)


def versions(*names: str) -> dict[str, str]:
  """Returns the versions of installed packages."""
  return {name: importlib.metadata.version(name) for name in names}


def cycle(batches: Sequence[Any]) -> Iterator[Any]:
  """Yields batches over and over; unlike itertools' it can be closed."""
  while True:
    yield from batches


def time_bare(
  step: Callable[[Any], None], batches: Sequence[Any], steps: int
) -> float:
  """Warms up, then returns the seconds of one step.

  Args:
    step: makes one update with a batch and waits for its end.
    batches: taken in turn.
    steps: how many to time.
  """
  for i in range(NUM_WARM_UP):
    step(batches[i % len(batches)])
  begin = time.perf_counter()
  for i in range(steps):
    step(batches[i % len(batches)])
  return (time.perf_counter() - begin) / steps


def mean_examples(batches: Sequence[Mapping[str, Any]]) -> float:
  """Returns the examples of a batch, without its padding."""
  return sum(int(b["example_mask"].sum()) for b in batches) / len(batches)


def measure_memory(run_fn: Callable[[], None]) -> float | None:
  """Tells how many MiB a function takes at its peak, whoever allocates them.

  It is the rise of the resident size of this process over that before a call,
  the second one: what the first caches is there. The process has to give freed
  memory back at once, see `runner.MEMORY`. Errs by about a quarter of a MiB, as
  the kernel's counts do. None elsewhere than on Linux with glibc.
  """
  try:
    trim_fn = ctypes.CDLL("libc.so.6").malloc_trim
  except (OSError, AttributeError):
    return None
  run_fn()
  gc.collect()
  trim_fn(0)
  # The peak so far is forgotten.
  pathlib.Path("/proc/self/clear_refs").write_text("5", "ascii")
  before = _read_status("VmRSS")
  run_fn()
  return (_read_status("VmHWM") - before) / 2**10


def _read_status(name: str) -> int:
  """Reads one number of this process, in KiB."""
  lines = pathlib.Path("/proc/self/status").read_text("ascii").splitlines()
  fields = dict(line.split(":", 1) for line in lines)
  return int(fields[name].split()[0])
