import io
import time

import pytest

from mmjax.training.progress import (
  Progress,
  RichProgress,
  describe_event,
  make_progress,
)

EVENT = {
  "kind": "train",
  "step": 50,
  "loss": 1.23456,
  "accuracy": 0.5625,
  "learning_rate": 2e-3,
  "examples_per_second": 1185.4,
  "data_wait_share": 0.003,
  "seconds": 12.5,
  "time": 1e9,
}


class Terminal(io.StringIO):
  def isatty(self):
    return True


class Flushed(io.StringIO):
  """Shows only what was flushed."""

  seen = ""

  def flush(self):
    self.seen = self.getvalue()


def test_a_line_for_people():
  assert describe_event(EVENT, 200) == (
    "step 50/200  loss 1.235  accuracy 56.25 %  learning rate 0.002  "
    "1,185 examples/s  data wait 0.3 %"
  )
  scores = {"kind": "eval", "step": 50, "accuracy": 0.5, "seconds": 3.0}
  assert describe_event(scores, 200) == "step 50/200  eval:  accuracy 50.00 %"
  first = EVENT | {"examples_per_second": None, "data_wait_share": None}
  assert "None" not in describe_event(first, 200)


def test_streams_choose_the_display():
  assert type(make_progress(io.StringIO())) is Progress
  assert type(make_progress(Terminal())) is RichProgress


def test_plain_lines_are_flushed_and_tell_the_time_left():
  stream = Flushed()
  with Progress(stream) as progress:
    progress.start(0, 200)
    assert stream.seen == "training from step 0 of 200\n"
    progress.advance(1)
    time.sleep(0.2)
    progress.advance(50)
    progress.report(EVENT)
  assert stream.seen.endswith("data wait 0.3 %  0:01 left\n")
  progress = Progress(stream)
  progress.start(100, 200)
  assert "resuming after step 100 of 200" in stream.seen


def test_long_phases_and_long_steps_are_never_silent():
  stream = Flushed()
  progress = Progress(stream, heartbeat_seconds=0.05)
  with progress.phase("compiling the training step"):
    assert stream.seen == "compiling the training step ...\n"
    time.sleep(0.3)
  assert stream.seen.count("compiling the training step ... 0 s\n") >= 3
  progress.start(0, 9)
  before = stream.seen
  progress.advance(1)
  assert stream.seen == before
  time.sleep(0.06)
  progress.advance(2)
  assert stream.seen.startswith(before + "step 2/9")


def test_phase_ends_with_its_error():
  progress = Progress(io.StringIO())
  with pytest.raises(KeyError), progress.phase("evaluating"):
    raise KeyError


def test_terminal_shows_all(monkeypatch):
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "150")
  stream = Terminal()
  with make_progress(stream) as progress:
    with progress.phase("compiling [x] the step"):
      time.sleep(0.4)
    progress.start(0, 200)
    progress.advance(1)
    time.sleep(0.1)
    progress.advance(50)
    progress.report(EVENT)
    progress.message("saved [bold]")
    time.sleep(0.4)
  text = stream.getvalue()
  for expected in (
    "compiling [x] the step ...",
    "loss 1.235  accuracy 56.25 %",
    "50/200",
    "saved [bold]",
  ):
    assert expected in text
  assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor
