"""A run from configuration to work directory: `mmjax.trainer.train`."""

import shutil
import signal

import numpy as np
import pytest
import tiny_runs

from experiments import train as train_script
from mmjax.checkpoint import Checkpoints
from mmjax.config import ConfigError
from mmjax.data.pipeline import Batches
from mmjax.locks import FileLock, LockedError
from mmjax.trainer import train
from mmjax.training.loop import NonFiniteError

pytestmark = pytest.mark.usefixtures("easy_vqa", "fast_compilation")

NAME = "easy_vqa_image_only"
CONFIG = tiny_runs.tiny_config(NAME)


@pytest.fixture(scope="module")
def finished(easy_vqa, compiled, tmp_path_factory):
  """A complete run of four steps; not to be changed."""
  workdir = tmp_path_factory.mktemp("finished") / "run"
  with tiny_runs.fast_compilation(compiled):
    assert train(CONFIG, workdir) is True
  return workdir


def bits_of(workdir, which="latest"):
  return tiny_runs.to_bits(tiny_runs.restore(workdir, CONFIG, which))


def change_batches(monkeypatch, change_fn):
  """Changes what training gets: `change_fn(step, batch)` returns a batch."""
  iterate = Batches.iterate

  def changed(self, start=0, stop=None):
    for step, batch in enumerate(iterate(self, start, stop), start):
      training = self.num_batches is None
      yield change_fn(step, batch) if training else batch

  monkeypatch.setattr(Batches, "iterate", changed)


def poison(step, batch):
  """Makes every pixel of step 3 (the fourth) not a number."""
  if step != 3:
    return batch
  return {**batch, "image": np.full(batch["image"].shape, np.nan, np.float32)}


def test_what_a_run_leaves(finished):
  names = {path.name for path in finished.iterdir()}
  assert names == {"lock", "checkpoints", "metrics.jsonl", "tensorboard"}
  assert (finished / "lock").read_text() == ""
  history = tiny_runs.read_history(finished)
  for event in history:
    if event["kind"] == "eval":
      saved = tiny_runs.restore(finished, CONFIG, event["step"]).metrics
      assert saved == {k: event[k] for k in event if k not in ("kind", "step")}
      assert set(saved) == {"accuracy", "accuracy_by_type", "ece"}
  rates = [e["learning_rate"] for e in history if e["kind"] == "train"]
  assert rates[-1] < rates[0]  # the schedule ends with the run


def test_the_seed_makes_the_run(finished, tmp_path):
  assert train(CONFIG, tmp_path / "same")
  assert bits_of(tmp_path / "same") == bits_of(finished)
  other = tiny_runs.tiny_config(NAME, {"seed": 1})
  assert train(other, tmp_path / "other")
  assert bits_of(tmp_path / "other") != bits_of(finished)


def test_what_a_resumed_run_may_change(finished, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(finished, workdir)
  shutil.rmtree(workdir / "checkpoints" / "4")
  config = tiny_runs.tiny_config(
    NAME, {"training.checkpoint_every": 1, "training.log_every": 2}
  )
  assert train(config, workdir)
  assert Checkpoints(workdir / "checkpoints").steps()[-2:] == [3, 4]
  assert bits_of(workdir) == bits_of(finished)
  longer = tiny_runs.tiny_config(NAME, {"training.num_steps": 5})
  with pytest.raises(ConfigError, match=r"num_steps was 4, now 5"):
    train(longer, workdir)  # the learning rate would jump


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_in_work(
  finished, tmp_path, monkeypatch, signum
):
  def interrupt(step, batch):
    if step == 2:
      signal.raise_signal(signum)
    return batch

  former = signal.getsignal(signum)
  with monkeypatch.context() as patch:
    change_batches(patch, interrupt)
    assert train(CONFIG, tmp_path) is False
  assert signal.getsignal(signum) == former
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    assert checkpoints.steps() == [2, 3]
    assert checkpoints.best_step() == 2  # a stop saves without scores
  assert tiny_runs.restore(tmp_path, CONFIG, 3).metrics is None
  assert train(CONFIG, tmp_path) is True
  assert bits_of(tmp_path) == bits_of(finished)
  assert tiny_runs.read_history(tmp_path) == tiny_runs.read_history(finished)


def test_a_poisoned_batch_stops_and_harms_nothing(
  finished, tmp_path, monkeypatch
):
  with monkeypatch.context() as patch:
    change_batches(patch, poison)
    with pytest.raises(NonFiniteError) as error:
      train(CONFIG, tmp_path)
  data = tiny_runs.fdl.build(CONFIG).data
  batches = data.train_batches(
    data.load_assets(), batch_size=CONFIG.training.batch_size, seed=0
  )
  assert error.value.step == 3
  assert error.value.record_ids == batches.record_ids(3)
  assert "at step 3 " in str(error.value)
  assert batches.record_ids(3)[0] in str(error.value)

  # The last good one is as it would be, and training goes on from it.
  assert Checkpoints(tmp_path / "checkpoints").steps() == [2]
  assert bits_of(tmp_path) == bits_of(finished, 2)
  assert (tmp_path / "lock").read_text() == ""
  assert train(CONFIG, tmp_path) is True
  assert bits_of(tmp_path) == bits_of(finished)


def test_a_learning_rate_without_measure(tmp_path, capsys):
  flags = tiny_runs.train_flags(
    NAME, tmp_path, {"optimizer.learning_rate": 1e30}
  )
  assert tiny_runs.run_main(train_script.main, *flags) == 1
  message = capsys.readouterr().err.splitlines()[-1]
  assert message.startswith("error: the loss, its gradient or the update")
  assert "at step 0 " in message
  assert "on the records train/" in message
  assert "lower optimizer.learning_rate" in message
  assert Checkpoints(tmp_path / "checkpoints").steps() == []


def test_a_held_lock_refuses_at_once(finished):
  before = tiny_runs.hash_files(finished)
  with (
    FileLock(finished / "lock", wait=False, purpose="testing"),
    pytest.raises(LockedError, match="is testing since"),
  ):
    train(CONFIG, finished)
  assert tiny_runs.hash_files(finished) == before
