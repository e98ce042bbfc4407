"""What both sides of the comparison of fusions share; numpy only."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from benchmarks import side
from benchmarks.runner import MEMORY

MODALITIES = ("image", "text")
NUM_TOKENS = 16  # of each modality
MIN_SECONDS = 0.1  # for which a fusion is timed at least


@dataclasses.dataclass(frozen=True)
class Size:
  """The size of a measurement.

  Attributes:
    batch: examples.
    width: width of the tokens, in and out.
  """

  batch: int
  width: int


@dataclasses.dataclass(frozen=True)
class Pass:
  """A forward and a backward pass of one fusion, made ready.

  Attributes:
    run_fn: makes one, waits for its end, and keeps nothing of it.
    parameters: how many the fusion has.
    num_bytes: of its parameters and inputs.
    account: other numbers of the table, by name.
  """

  run_fn: Callable[[], None]
  parameters: int
  num_bytes: int
  account: Mapping[str, float] = dataclasses.field(default_factory=dict)


Arrays = dict[str, np.ndarray]


def make_inputs(size: Size) -> tuple[Arrays, Arrays]:
  """Makes random values [B, N, D] and masks [B, N] of each modality."""
  random = np.random.default_rng(0)
  values, masks = {}, {}
  for m in MODALITIES:
    shape = size.batch, NUM_TOKENS, size.width
    values[m] = random.normal(size=shape).astype(np.float32)
    lengths = random.integers(1, NUM_TOKENS + 1, size.batch)
    masks[m] = np.arange(NUM_TOKENS) < lengths[:, None]
  return values, masks


def time_pass(one: Pass, steps: int) -> float:
  """Returns the seconds of a pass; short ones are made more than `steps`."""

  def step(_: None) -> None:
    one.run_fn()

  seconds = side.time_bare(step, [None], steps)
  needed = int(MIN_SECONDS / seconds)
  return seconds if needed <= steps else side.time_bare(step, [None], needed)


def measure(
  prepare_fn: Callable[[str, Size], Pass],
  names: Iterable[str],
  request: Mapping[str, Any],
) -> list[dict[str, Any]]:
  """Measures fusions at all sizes of the request.

  Args:
    prepare_fn: makes a fusion ready, from its name and size.
    names: the fusions.
    request: `sizes` and `steps`.

  Returns:
    A row for each size and fusion: `fusion`, `batch`, `width`, `parameters`,
    and, of a side that is timed, the account and the `ms` of a pass; of one
    whose memory is gauged `mib`: parameters, inputs and what a pass adds to
    them at its peak; None where it cannot be told.
  """
  rows = []
  for size in request["sizes"]:
    for name in names:
      one = prepare_fn(name, Size(**size))
      row = {"fusion": name, **size, "parameters": one.parameters}
      if request["side"].endswith(MEMORY):
        added = side.measure_memory(one.run_fn)
        row["mib"] = None if added is None else one.num_bytes / 2**20 + added
      else:
        row |= {"ms": 1e3 * time_pass(one, request["steps"]), **one.account}
      rows.append(row)
  return rows
