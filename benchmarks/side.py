"""What both sides of the comparison measure alike."""

import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

NUM_HELD = 8  # batches kept in memory for the loops that measure no data
NUM_WARM_UP = 3


def read_request() -> dict[str, Any]:
  """Reads what to measure: `experiment`, `steps` and `folder`."""
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
  """Returns the seconds of one step, each of which blocks until it is done.

  Args:
    step: makes one update with a batch and waits for its end.
    batches: taken in turn.
    steps: how many to make.
  """
  begin = time.perf_counter()
  for i in range(steps):
    step(batches[i % len(batches)])
  return (time.perf_counter() - begin) / steps


def mean_examples(batches: Sequence[Mapping[str, Any]]) -> float:
  """Returns the examples of a batch, without its padding."""
  return sum(int(b["example_mask"].sum()) for b in batches) / len(batches)
