"""Averages and rates of the steps since the last train event."""

import time
from collections.abc import Mapping
from typing import Any

import jax

from mmjax.array_types import Array


class Meter:
  """Keeps metrics on the device until an event needs them.

  Args:
    start_seconds: training time before this resume.
  """

  def __init__(self, start_seconds: float):
    self._origin = time.perf_counter() - start_seconds
    self._metrics: list[Mapping[str, Array]] = []
    self.restart()

  def restart(self) -> None:
    """Starts to measure rates from now on; metrics so far still count."""
    self._begin = time.perf_counter()
    self._num_untimed = len(self._metrics)
    self._waited = 0.0

  def pause(self, seconds: float) -> None:
    """Leaves out a time that was not spent on training steps."""
    self._begin += seconds

  def wait(self, seconds: float) -> None:
    """Counts a time that was spent waiting for data."""
    self._waited += seconds

  def add(self, metrics: Mapping[str, Array]) -> None:
    """Keeps the metrics of a step, on the device."""
    self._metrics.append(metrics)

  def stamp(self) -> dict[str, float]:
    """Returns the two times that every event carries."""
    seconds = time.perf_counter() - self._origin
    return {"seconds": round(seconds, 3), "time": round(time.time(), 3)}

  def make_event(self, step: int) -> dict[str, Any]:
    """Fetches the metrics, averages them, and starts the next interval."""
    steps = jax.device_get(self._metrics)
    elapsed = time.perf_counter() - self._begin
    counts = [float(m["num_examples"]) for m in steps]
    event = {"kind": "train", "step": step}
    for name in steps[0]:
      total = sum(
        n * float(m[name]) for n, m in zip(counts, steps, strict=True)
      )
      event[name] = total / max(sum(counts), 1.0)
    event["num_examples"] = int(sum(counts))
    if "learning_rate" in event:
      event["learning_rate"] = float(steps[-1]["learning_rate"])
    timed = counts[self._num_untimed :]
    event["examples_per_second"] = sum(timed) / elapsed if timed else None
    event["data_wait_share"] = self._waited / elapsed if timed else None
    self._metrics = []
    self.restart()
    return {**event, **self.stamp()}
