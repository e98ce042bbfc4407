"""Saves that fail: told in a sentence, in time, and without loss."""

import shutil

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from checkpoint_trees import save

from mmjax.checkpoint import CheckpointError, Checkpoints


@pytest.fixture
def checkpoints(tmp_path):
  with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
    yield checkpoints


@pytest.mark.parametrize("leaf", ["text", object(), np.array([object()])])
def test_what_cannot_be_saved_is_refused_by_name(checkpoints, leaf):
  with pytest.raises(ValueError, match="leaf 'a/b' is a"):
    checkpoints.save(
      1, params={"a": {"b": leaf}}, state={}, config="", assets={}
    )
  with pytest.raises(ValueError, match="assets cannot be written as JSON"):
    checkpoints.save(
      1, params={"x": jnp.ones(3)}, state={}, config="", assets={"a": object()}
    )
  assert checkpoints.steps() == []


def test_failures_in_the_background_are_told(tmp_path):
  checkpoints = Checkpoints(tmp_path / "checkpoints")
  save(checkpoints, 1)
  checkpoints.wait()
  shutil.rmtree(checkpoints.directory)
  checkpoints.directory.write_text("a file where the folder was")
  save(checkpoints, 2)
  with pytest.raises(CheckpointError, match="step 2 could not be saved in"):
    save(checkpoints, 3)
  save(checkpoints, 3)
  with pytest.raises(CheckpointError, match="step 3 could not be saved in"):
    checkpoints.wait()
  checkpoints.wait()  # told once
  save(checkpoints, 4)
  with pytest.raises(CheckpointError, match="step 4 could not be saved in"):
    checkpoints.close()
  checkpoints.close()


def test_a_directory_that_vanishes_while_writing(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path / "checkpoints")
  original = ocp.Checkpointer.save

  def save_and_lose(self, path, args):
    original(self, path, args=args)
    shutil.rmtree(checkpoints.directory)

  monkeypatch.setattr(ocp.Checkpointer, "save", save_and_lose)
  save(checkpoints, 1)
  with pytest.raises(CheckpointError, match="step 1 could not be saved"):
    checkpoints.close()


def test_a_failing_close_does_not_hide_the_first_error(tmp_path):
  messages = []
  path = tmp_path / "file"
  path.write_text("")

  def fail():
    with Checkpoints(path, message_fn=messages.append) as checkpoints:
      save(checkpoints, 1)
      raise KeyError("first")

  with pytest.raises(KeyError, match="first"):
    fail()
  assert len(messages) == 1
  assert "step 1 could not be saved" in messages[0]
