"""Progress for the person who waits: never silent for more than seconds.

On a terminal one live line (rich); elsewhere plain lines, flushed, that read
well in a log file. Both have the same methods.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self, TextIO

HEARTBEAT_SECONDS = 5.0
_HIDDEN = ("kind", "step", "time", "seconds", "num_examples", "grad_norm")


def make_progress(stream: TextIO | None = None) -> "Progress":
  """Returns `RichProgress` if the stream is a terminal, else `Progress`.

  Args:
    stream: where to write; None is stderr, which keeps stdout for results.
  """
  stream = sys.stderr if stream is None else stream
  return RichProgress(stream) if stream.isatty() else Progress(stream)


class Progress:
  """Plain lines. Use as a context manager around a whole run.

  Args:
    stream: where to write.
    heartbeat_seconds: longest silence during a phase or between log events.
  """

  def __init__(
    self, stream: TextIO, *, heartbeat_seconds: float = HEARTBEAT_SECONDS
  ):
    self._stream = stream
    self._heartbeat = heartbeat_seconds
    self._first: tuple[int, float] | None = None
    self._step = self._num_steps = 0
    self._last_line = time.monotonic()

  def message(self, text: str) -> None:
    """Says one thing."""
    self._stream.write(text + "\n")
    self._stream.flush()
    self._last_line = time.monotonic()

  @contextlib.contextmanager
  def phase(self, text: str) -> Iterator[None]:
    """Says what is going on while it does, such as compiling."""
    self.message(f"{text} ...")
    begin, done = time.monotonic(), threading.Event()

    def beat() -> None:
      while not done.wait(self._heartbeat):
        self.message(f"{text} ... {time.monotonic() - begin:.0f} s")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
      yield
    finally:
      done.set()
      thread.join()
    if (elapsed := time.monotonic() - begin) >= 1.0:
      self.message(f"{text}: done in {elapsed:.1f} s")

  def start(self, step: int, num_steps: int) -> None:
    """Says where the run begins and ends, in steps."""
    self._step, self._num_steps, self._first = step, num_steps, None
    verb = "resuming after" if step else "training from"
    self.message(f"{verb} step {step} of {num_steps}")

  def advance(self, step: int) -> None:
    """Notes that a step was made; speaks only after a long silence."""
    now = time.monotonic()
    self._step = step
    if self._first is None:  # the first step compiles: no measure of rate
      self._first = (step, now)
    if now - self._last_line > self._heartbeat:
      self.message(f"step {step}/{self._num_steps}{self._time_left()}")

  def report(self, event: Mapping[str, Any]) -> None:
    """Shows a log event."""
    left = self._time_left() if event["kind"] == "train" else ""
    self.message(describe_event(event, self._num_steps) + left)

  def close(self) -> None:
    """Ends the display."""

  def __enter__(self) -> Self:
    """Returns itself."""
    return self

  def __exit__(self, *exc_info: object) -> None:
    """Ends the display."""
    self.close()

  def _time_left(self) -> str:
    """Estimates from all steps so far, evaluations and saves included."""
    if self._first is None or self._step <= self._first[0]:
      return ""
    first_step, begin = self._first
    pace = (time.monotonic() - begin) / (self._step - first_step)
    left = round(pace * (self._num_steps - self._step))
    return f"  {left // 60}:{left % 60:02d} left"


class RichProgress(Progress):
  """One live line with a bar on a terminal; log events scroll above it."""

  def __init__(self, stream: TextIO):
    super().__init__(stream)
    import rich.console
    import rich.progress

    self._bar = rich.progress.Progress(
      rich.progress.SpinnerColumn(),
      rich.progress.TextColumn("{task.description}", markup=False),
      rich.progress.BarColumn(bar_width=24),
      rich.progress.TextColumn("{task.fields[status]}", markup=False),
      rich.progress.TimeElapsedColumn(),
      console=rich.console.Console(file=stream, highlight=False),
      transient=True,
      refresh_per_second=4,
    )
    self._task = self._bar.add_task("starting", total=None, status="")

  def message(self, text: str) -> None:
    """Writes a line above the bar."""
    self._bar.console.print(text, markup=False)

  @contextlib.contextmanager
  def phase(self, text: str) -> Iterator[None]:
    """Shows what is going on beside a turning spinner."""
    before = self._bar.tasks[0].description
    self._bar.update(self._task, description=f"{text} ...")
    begin = time.monotonic()
    try:
      yield
    finally:
      self._bar.update(self._task, description=before)
    if (elapsed := time.monotonic() - begin) >= 1.0:
      self.message(f"{text}: done in {elapsed:.1f} s")

  def start(self, step: int, num_steps: int) -> None:
    """Gives the bar its length."""
    super().start(step, num_steps)
    self._bar.update(
      self._task, description="training", total=num_steps, completed=step
    )

  def advance(self, step: int) -> None:
    """Moves the bar; it redraws itself a few times a second."""
    self._step = step
    if self._first is None:
      self._first = (step, time.monotonic())
    status = f"{step}/{self._num_steps}{self._time_left()}"
    self._bar.update(self._task, completed=step, status=status)

  def close(self) -> None:
    """Removes the bar; the lines above it stay."""
    self._bar.stop()

  def __enter__(self) -> Self:
    """Shows the bar."""
    self._bar.start()
    return self


def describe_event(event: Mapping[str, Any], num_steps: int) -> str:
  """Returns a log event as one line for people."""
  parts = [f"step {event['step']}/{num_steps}"]
  if event["kind"] != "train":
    parts.append(f"{event['kind']}:")
  for name, value in event.items():
    if name in _HIDDEN or isinstance(value, bool):
      continue
    if not isinstance(value, int | float):
      continue
    if name == "examples_per_second":
      parts.append(f"{value:,.0f} examples/s")
    elif name == "data_wait_share":
      parts.append(f"data wait {100 * value:.1f} %")
    elif name == "accuracy":
      parts.append(f"accuracy {100 * value:.2f} %")
    else:
      parts.append(f"{name.replace('_', ' ')} {value:.4g}")
  return "  ".join(parts)
