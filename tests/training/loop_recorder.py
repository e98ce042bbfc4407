"""A loop's surroundings that write down every call."""

import time

import numpy as np

from mmjax.training.loop import run_loop
from mmjax.training.state import TrainState


class Recorder:
  """Fakes of all that the loop is given; notes every call in order."""

  def __init__(self, bad_step=None, stop_after=(), wait=0.0):
    self.calls = []
    self.events = []
    self.fetched = []
    self.bad_step = bad_step
    self.stop_after = stop_after
    self.wait = wait

  def note(self, *call):
    self.calls.append(call)

  def batches_from(self, start):
    self.note("batches_from", start)
    try:
      step = start
      while True:
        time.sleep(self.wait)
        self.note("batch", step)
        yield {"number": step}
        step += 1
    finally:
      self.note("close")

  def train_step(self, state, batch):
    self.note("step", batch["number"])
    assert batch["number"] == int(state.step)
    bad = batch["number"] == self.bad_step
    new = state.replace(
      step=state.step + 1, bad_step=batch["number"] if bad else state.bad_step
    )
    recorder = self

    class Scalar(float):
      """Notes after which call it is looked at."""

      def __float__(self):
        recorder.fetched.append(recorder.calls[-1])
        return float.__add__(self, 0.0)

      def __array__(self, dtype=None, copy=None):
        return np.array(float(self), dtype)

    number = batch["number"]
    return new, {
      "loss": Scalar(number),
      "learning_rate": Scalar(1 / (number + 1)),
      "num_examples": Scalar(number + 1),
    }

  def evaluate(self, state):
    self.note("evaluate", int(state.step))
    return {"accuracy": 0.5}

  def save(self, state, scores):
    self.note("save", int(state.step), scores)

  def write(self, event):
    self.note(event["kind"], event["step"])
    self.events.append(event)

  def should_stop(self):
    return self.calls[-1] in self.stop_after

  def run(self, start=0, **kwargs):
    state = TrainState(
      step=start, params={}, opt_state=(), rng=None, bad_step=-1
    )
    settings = {
      "num_steps": 5,
      "log_every": 2,
      "eval_every": 3,
      "checkpoint_every": 4,
      "batches_from": self.batches_from,
    }
    return run_loop(
      state,
      train_step=self.train_step,
      evaluate_fn=self.evaluate,
      save_fn=self.save,
      writer=self,
      should_stop=self.should_stop,
      record_ids=lambda step: [f"image {step}/{i}" for i in range(11)],
      **(settings | kwargs),
    )
