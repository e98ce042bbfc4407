"""The training loop, in its one order: batch, step, log, evaluate, save.

It knows neither models, data nor checkpoints: all are given as functions. JAX
runs steps asynchronously; the loop asks for another batch only when at most
`max_in_flight` steps are unfinished, so that it stays ahead of the device and
yet stops within a step or two, and it fetches metrics only when it logs.
"""

import collections
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax

from mmjax.array_types import Batch
from mmjax.training.meter import Meter
from mmjax.training.progress import Progress
from mmjax.training.state import TrainState

NUM_SHOWN_IDS = 8


class Writer(Protocol):
  """Where log events go."""

  def write(self, event: Mapping[str, Any]) -> None:
    """Writes one event."""


class NonFiniteError(ValueError):
  """The loss, gradient or update of a step was not finite.

  Attributes:
    step: the step, counted from 0: batch `step` made it so.
    record_ids: what was in that batch.
  """

  def __init__(self, step: int, record_ids: list[str]):
    self.step = step
    self.record_ids = record_ids
    shown = ", ".join(record_ids[:NUM_SHOWN_IDS])
    if len(record_ids) > NUM_SHOWN_IDS:
      shown += f" and {len(record_ids) - NUM_SHOWN_IDS} more"
    super().__init__(
      f"the loss, its gradient or the update was not finite at step {step} "
      f"(counted from 0) on the records {shown}; training stopped there and "
      "saved nothing after it: look at these records, or lower "
      "optimizer.learning_rate or optimizer.clip_norm and start anew"
    )


def run_loop(
  state: TrainState,
  *,
  train_step: Callable[[TrainState, Batch], tuple[TrainState, Any]],
  batches_from: Callable[[int], Iterator[Batch]],
  num_steps: int,
  log_every: int,
  eval_every: int,
  checkpoint_every: int,
  evaluate_fn: Callable[[TrainState], Mapping[str, Any]],
  save_fn: Callable[[TrainState, Mapping[str, Any] | None], None],
  writer: Writer,
  should_stop: Callable[[], bool],
  record_ids: Callable[[int], list[str]],
  progress: Progress | None = None,
  start_seconds: float = 0.0,
  max_in_flight: int = 2,
) -> tuple[TrainState, bool]:
  """Trains from `state.step` to `num_steps`.

  The last step always logs, evaluates and saves. A step that saves evaluates
  first, whatever `eval_every` says. When `should_stop` says so, the step that
  was just made is logged and saved; it is evaluated only if it was due.

  Train events average the metrics over all examples since the last event;
  `learning_rate` is the last step's. `examples_per_second` and
  `data_wait_share` leave out the first step, which compiles, evaluations and
  saves; they are None if nothing else was done. The share is the time in
  `next(batches)`, over all; some of it may overlap with computation, so it is
  an upper bound of what data cost. `seconds` is everything since the start:
  compilation, evaluations and saves too.

  Args:
    state: where to go on from. A donating step deletes it.
    train_step: the compiled step, `(state, batch) -> (state, metrics)`; its
      metrics include `num_examples`.
    batches_from: gives the batches from one step on; closed at the end if it
      can be.
    num_steps: updates in the whole run.
    log_every: steps between train events.
    eval_every: steps between evaluations.
    checkpoint_every: steps between saves.
    evaluate_fn: returns the scores of a state.
    save_fn: saves a state with its scores, or with None if it stops early.
    writer: gets every event.
    should_stop: asked after each step.
    record_ids: the ids in the batch of a step, for the error message.
    progress: shows a person what goes on; None shows nothing.
    start_seconds: training time before this resume.
    max_in_flight: steps that may be unfinished before the loop waits.

  Returns:
    The last state, and whether the run was stopped before its end.

  Raises:
    NonFiniteError: a step was not finite; raised at the next event,
      evaluation or save, before any of them.
    ValueError: an interval below 1, or batches that end too early.
  """
  _check_intervals(
    log_every=log_every,
    eval_every=eval_every,
    checkpoint_every=checkpoint_every,
  )
  progress = Progress(_Silence()) if progress is None else progress
  first = int(state.step)
  if first >= num_steps:
    return state, False
  meter = Meter(start_seconds)
  in_flight: collections.deque[Any] = collections.deque()
  batches = batches_from(first)
  progress.start(first, num_steps)
  try:
    for step in range(first + 1, num_steps + 1):
      # batch
      if step == first + 1:
        with progress.phase("waiting for the first batch"):
          batch = _next(batches, step, meter)
      else:
        batch = _next(batches, step, meter)

      # step
      if step == first + 1:
        with progress.phase("compiling the training step"):
          state, metrics = train_step(state, batch)
          jax.block_until_ready(metrics)
      else:
        state, metrics = train_step(state, batch)
      meter.add(metrics)
      in_flight.append(metrics["num_examples"])
      if len(in_flight) > max_in_flight:
        jax.block_until_ready(in_flight.popleft())
      if step == first + 1:
        meter.restart()
      progress.advance(step)

      last = step == num_steps
      stopping = should_stop() and not last
      due = last or step % checkpoint_every == 0
      # Also when stopping: a resumed run never comes back to this step, and a
      # step without scores could never be the best.
      evaluating = due or step % eval_every == 0
      saving = due or stopping
      logging = last or stopping or step % log_every == 0
      if logging or evaluating or saving:
        _check_finite(state, record_ids)

      # log
      if logging:
        event = meter.make_event(step)
        writer.write(event)
        progress.report(event)

      # evaluate
      scores = None
      pause = time.perf_counter()
      if evaluating:
        with progress.phase(f"evaluating step {step}"):
          scores = evaluate_fn(state)
        event = {"kind": "eval", "step": step, **scores, **meter.stamp()}
        writer.write(event)
        progress.report(event)
        # The signal may have come meanwhile.
        stopping = stopping or (should_stop() and not last)

      # save
      if saving or stopping:
        save_fn(state, scores)
      if stopping:
        return state, True
      meter.pause(time.perf_counter() - pause)
  finally:
    close = getattr(batches, "close", None)
    if close is not None:
      close()
  return state, False


class _Silence:
  """A stream that nobody reads."""

  def write(self, text: str) -> None:
    """Drops the text."""

  def flush(self) -> None:
    """Does nothing."""


def _next(batches: Iterator[Batch], step: int, meter: Meter) -> Batch:
  begin = time.perf_counter()
  batch = next(batches, None)
  meter.wait(time.perf_counter() - begin)
  if batch is None:
    raise ValueError(
      f"the batches ended before step {step}; training needs one for each step"
    )
  return batch


def _check_finite(
  state: TrainState, record_ids: Callable[[int], list[str]]
) -> None:
  bad_step = int(state.bad_step)
  if bad_step >= 0:
    raise NonFiniteError(bad_step, record_ids(bad_step))


def _check_intervals(**intervals: int) -> None:
  for name, value in intervals.items():
    if value < 1:
      raise ValueError(f"training.{name} is {value}; it must be at least 1")
