"""Training that is killed or interrupted ends as if it had never been.

The processes run the training script itself; around it, each batch that is
handed to the loop is noted with its step, its record ids and its content.
One run is left alone. The others are killed or interrupted at random moments
from a seed, and started again with the same command until they are complete.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import random
import signal
import time
import types

import pytest
import tiny_runs

from mmjax.training.interruption import EXIT_INTERRUPTED

NUM_STEPS = 72  # the kills come at 3 to 8 steps after one another

TRAIN = """
import contextlib, hashlib, json, os, sys
sys.modules["torch"] = None  # where it is installed, TensorBoard imports it
from experiments import cli, train
from mmjax.data.pipeline import Batches

log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
iterate = Batches.iterate

def iterate_and_note(self, start=0, stop=None):
  with contextlib.closing(iterate(self, start, stop)) as batches:
    for step, batch in enumerate(batches, start):
      if self.num_batches is None:  # not an evaluation
        content = hashlib.sha256()
        for name in sorted(batch):
          content.update(name.encode() + batch[name].tobytes())
        note = [step, content.hexdigest(), self.record_ids(step)]
        os.write(log, json.dumps(note).encode() + b"\\n")
      yield batch

Batches.iterate = iterate_and_note
cli.run_main(train.main)
"""


@dataclasses.dataclass
class Run:
  """A run in a directory, in as many processes as it takes."""

  name: str
  changes: dict
  folder: pathlib.Path
  environment: dict

  @property
  def workdir(self):
    return self.folder / "run"

  @property
  def config(self):
    return tiny_runs.build_config(
      tiny_runs.EXPERIMENTS[self.name], self.overrides
    )

  @property
  def overrides(self):
    return [f"{path}={value}" for path, value in self.changes.items()]

  def start(self, **environment):
    self.folder.mkdir(exist_ok=True)
    flags = [self.name, "--workdir", self.workdir, "--no-report"]
    for override in self.overrides:
      flags += ["--set", override]
    environment = {**self.environment, **environment}
    log = self.folder / "consumed"
    return tiny_runs.start_python("-c", TRAIN, log, *flags, **environment)

  def notes(self):
    """What was handed to the loop, in all attempts, in order."""
    log = self.folder / "consumed"
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text.splitlines()]

  def count_notes(self):
    log = self.folder / "consumed"
    return log.read_bytes().count(b"\n") if log.exists() else 0

  def unfinished_saves(self):
    """Folders of saves at work, or left behind by a kill."""
    folder = self.workdir / "checkpoints"
    entries = os.scandir(folder) if folder.exists() else []
    return {
      (entry.name, entry.inode())
      for entry in entries
      if entry.name.startswith("saving-")
    }

  def finish(self):
    """Runs to the end; returns what the last attempt said."""
    process = self.start()
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return stderr


def wait_until(condition, process, seconds=120):
  """Waits for a moment in the life of a process."""
  deadline = time.monotonic() + seconds
  while not condition():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.002)


def wait_for_line(process, text):
  for line in process.stderr:
    if text in line:
      return
  raise AssertionError(f"it ended without {text!r}")


def stop(process, signum):
  """Sends a signal; returns the exit code and standard error."""
  assert process.poll() is None, process.communicate()
  process.send_signal(signum)
  _, stderr = process.communicate(timeout=300)
  return process.returncode, stderr


def kill(run, generator, kind):
  """Starts an attempt and kills it.

  Returns whether a save was left unfinished, and what was said until then.
  """
  before, left_behind = run.count_notes(), run.unfinished_saves()
  process = run.start()
  if kind == "start-up":
    time.sleep(generator.uniform(0, 2))
  else:
    size = before + generator.randint(3, 8)
    wait_until(lambda: run.count_notes() >= size, process)
    if kind == "save":
      wait_until(lambda: run.unfinished_saves() - left_behind, process)
      time.sleep(generator.uniform(0, 0.01))
    else:
      time.sleep(generator.uniform(0, 0.1))
  code, stderr = stop(process, signal.SIGKILL)
  assert code == -signal.SIGKILL
  return bool(run.unfinished_saves() - left_behind), stderr


def run_killed(run):
  """Kills a run at ten moments and completes it."""
  generator = random.Random(0)
  kinds = ["start-up"] * 2 + ["step"] * 4 + ["save"] * 4
  generator.shuffle(kinds)
  assert len(kinds) == 10
  ends = [kill(run, generator, kind) for kind in kinds]
  return types.SimpleNamespace(
    unfinished=sum(unfinished for unfinished, _ in ends),
    said=[*(said for _, said in ends), run.finish()],
  )


def run_interrupted(run, signum):
  """Stops a run while it compiles, then at some step, and completes it."""
  process = run.start()
  wait_for_line(process, "compiling the training step")
  ends = [stop(process, signum)]
  process = run.start()
  size = run.count_notes() + 3
  wait_until(lambda: run.count_notes() >= size, process)
  ends.append(stop(process, signum))
  run.finish()
  return ends


def run_in_parallel(*calls):
  """Calls functions in threads, as they mostly wait for processes."""
  with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
    futures = [pool.submit(*call) for call in calls]
    return [future.result() for future in futures]


def assert_same_run(run, reference):
  """Final parameters, state, history and data are those of the reference."""
  config = run.config
  ours = tiny_runs.restore(run.workdir, config)
  expected = tiny_runs.restore(reference.workdir, config)
  assert tiny_runs.to_bits(ours) == tiny_runs.to_bits(expected)
  assert ours.metrics == expected.metrics
  assert ours.step == config.training.num_steps

  # The last attempt at a step is the one that counts, and they all agree.
  steps = list(range(ours.step))
  once = reference.notes()
  assert [step for step, *_ in once] == steps
  assert len({content for _, content, _ in once}) == len(steps)
  last = {step: [step, *rest] for step, *rest in run.notes()}
  assert [last[step] for step in sorted(last)] == once
  assert all(note == once[note[0]] for note in run.notes())

  losses, again = (
    {e["step"]: e["loss"] for e in history if e["kind"] == "train"}
    for history in map(tiny_runs.read_history, (run.workdir, reference.workdir))
  )
  assert losses == again


@pytest.fixture(scope="module")
def runs(easy_vqa, cache, compiled, tmp_path_factory):
  """The reference, and what became of the others, two at a time."""
  folder = tmp_path_factory.mktemp("runs")
  name = "easy_vqa_question_only"
  tiny = dict(
    override.split("=", 1)
    for override in tiny_runs.shrink(
      name,
      {
        "evaluation.batch_size": 997,
        "training.checkpoint_every": 3,
        "training.num_steps": NUM_STEPS,
      },
    )
  )
  environment = tiny_runs.fast_environment(compiled)
  made = {
    key: Run(name, tiny, folder / key, environment)
    for key in ("reference", "SIGKILL", "SIGTERM", "SIGINT")
  }
  made["reference"].finish()
  killed, *interrupted = run_in_parallel(
    (run_killed, made["SIGKILL"]),
    (run_interrupted, made["SIGTERM"], signal.SIGTERM),
    (run_interrupted, made["SIGINT"], signal.SIGINT),
  )
  results = {"SIGKILL": killed, "SIGTERM": interrupted[0]}
  results["SIGINT"] = interrupted[1]
  return types.SimpleNamespace(made=made, results=results)


def test_ten_kills_change_nothing(runs):
  assert_same_run(runs.made["SIGKILL"], runs.made["reference"])
  result = runs.results["SIGKILL"]
  assert result.unfinished >= 1  # some died in the middle of a save
  assert "resuming after step" in result.said[-1]
  assert not any("damaged" in said for said in result.said)
  # Steps were lost and made again, or the kills came at harmless moments.
  assert len(runs.made["SIGKILL"].notes()) > NUM_STEPS


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_interruption_changes_nothing(runs, name):
  assert_same_run(runs.made[name], runs.made["reference"])
  for code, stderr in runs.results[name]:
    assert code == EXIT_INTERRUPTED == 75
    assert f"{name}: saving after the current step" in stderr
    assert "stopped; run the same command again to go on" in stderr
    assert "Traceback" not in stderr
  # The step in work was saved: none was made twice.
  steps = [step for step, *_ in runs.made[name].notes()]
  assert steps == list(range(NUM_STEPS))


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_exits_at_once(runs, tmp_path, second):
  reference = runs.made["reference"]
  run = dataclasses.replace(reference, folder=tmp_path)
  # Nothing compiled before may be used: the compilation takes seconds.
  process = run.start(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "compiled"))
  wait_for_line(process, "initialising the parameters")
  process.send_signal(signal.SIGTERM)
  wait_for_line(process, "SIGTERM: saving after the current step")
  code, stderr = stop(process, second)
  assert code == 128 + second
  assert "exiting at once" in stderr
  assert not any(run.workdir.glob("checkpoints/*"))


@pytest.mark.slow
def test_ten_kills_of_the_main_experiment(easy_vqa, tmp_path):
  """As above with `easy_vqa_co_attention` as it is, but for its length."""
  changes = {
    "training.num_steps": NUM_STEPS,
    "training.checkpoint_every": 3,
    "training.log_every": 1,
  }
  environment = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
  }
  reference, killed = (
    Run("easy_vqa_co_attention", changes, tmp_path / name, environment)
    for name in ("reference", "killed")
  )
  reference.finish()
  result = run_killed(killed)
  assert_same_run(killed, reference)
  assert result.unfinished >= 1
