"""What the command lines say and do when something is wrong, or odd.

Every error is one sentence with advice on standard error, without traceback,
with an exit code that is not 0; and no file of the work directory changes.
"""

import json
import os
import re
import shutil
import signal
import sys

import pytest
import tiny_runs
from command_lines import error_of, nothing_changes, predict_flags

from experiments import cli, evaluate, predict, train
from experiments.configs import EXPERIMENTS

pytestmark = pytest.mark.usefixtures("easy_vqa", "fast_compilation")

NAME = "easy_vqa_co_attention"


def train_error(capsys, workdir, changes=(), name=NAME):
  flags = tiny_runs.train_flags(name, workdir, changes)
  return error_of(capsys, train.main, *flags)


# --- the configuration


def test_list_names_every_experiment(capsys):
  assert tiny_runs.run_main(train.main, "--list") == 0
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in lines] == list(EXPERIMENTS)
  assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_show_prints_every_setting(capsys, name):
  flags = ["--show", name, "--set", "training.num_steps=17"]
  assert tiny_runs.run_main(train.main, *flags) == 0
  lines = capsys.readouterr().out.splitlines()
  settings = dict(line.split(" = ", 1) for line in lines)
  assert settings["training.num_steps"] == "17"
  assert settings["name"] == repr(name)
  assert {"seed", "training.batch_size", "optimizer.learning_rate"} <= set(
    settings
  )


@pytest.mark.parametrize(
  ("override", "parts"),
  [
    ("training.num_step=4", ["'training.num_step'", "'training.num_steps'"]),
    ("model.image.width=4", ["'model.image.width'", "did you mean"]),
    ("training.num_steps=many", ["training.num_steps", "int", "'many'"]),
    ("training.num_steps=4.5", ["training.num_steps", "int", "4.5"]),
    ("training.num_steps=True", ["training.num_steps", "int", "True"]),
    ("model.fusion=none", ["model.fusion", "CoAttention"]),
    ("training.num_steps", ["path=value", "'training.num_steps'"]),
  ],
)
def test_wrong_settings(capsys, tmp_path, override, parts):
  workdir = tmp_path / "run"
  message = error_of(
    capsys, train.main, NAME, "--workdir", workdir, "--set", override
  )
  assert all(part in message for part in parts)
  assert not workdir.exists()


def test_values_that_a_part_refuses(capsys, tmp_path):
  message = train_error(capsys, tmp_path, {"optimizer.learning_rate": -1})
  assert "optimizer.learning_rate is -1" in message
  assert "Fiddle" not in message


def test_an_unknown_experiment(capsys, tmp_path):
  message = error_of(
    capsys, train.main, "easy_vqa_grap", "--workdir", tmp_path / "run"
  )
  assert "did you mean 'easy_vqa_graph'" in message
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("flags", "part"), [([], "--list"), ([NAME], "--workdir")]
)
def test_missing_arguments(capsys, flags, part):
  assert tiny_runs.run_main(train.main, *flags) == 2
  captured = capsys.readouterr()
  assert part in captured.err.splitlines()[-1]
  assert captured.out == ""


@pytest.mark.parametrize(
  ("changes", "parts"),
  [
    ({"training.batch_size": 18}, ["training.batch_size", "multiple of 4"]),
    ({"training.num_devices": 64}, ["training.num_devices is 64", "at most"]),
    ({"training.log_every": 0}, ["training.log_every is 0", "at least 1"]),
    ({"evaluation.split": "tset"}, ["'tset'", "train, validation, test"]),
    ({"evaluation.batch_size": 3}, ["evaluation.batch_size 3", "at least 19"]),
    ({"data.max_words": 3}, ["data.max_words", "at least 9"]),
  ],
)
def test_settings_that_do_not_fit_the_data(capsys, tmp_path, changes, parts):
  message = train_error(capsys, tmp_path / "run", changes)
  assert all(part in message for part in parts)
  assert not (tmp_path / "run").exists()


def test_a_batch_that_two_devices_cannot_share(capsys, tmp_path, compiled):
  flags = tiny_runs.train_flags(NAME, tmp_path, {"training.batch_size": 20})
  process = tiny_runs.start_python(
    *("-m", "experiments.train", *flags),
    JAX_NUM_CPU_DEVICES="2",
    **tiny_runs.fast_environment(compiled),
  )
  stdout, stderr = process.communicate(timeout=300)
  assert process.returncode == 1
  assert stdout == ""
  (message,) = stderr.splitlines()
  assert message.startswith("error: training.batch_size is 20, which 2 device")
  assert "multiple of 8" in message


# --- the work directory of a training run


def test_a_work_directory_of_another_experiment(capsys, workdir):
  with nothing_changes(workdir):
    message = train_error(capsys, workdir, name="easy_vqa_graph")
  assert f"{workdir} holds a run of '{NAME}', not of 'easy_vqa_g" in message
  assert "choose another --workdir" in message


def test_changed_settings(capsys, workdir):
  changes = {"optimizer.learning_rate": 0.5, "seed": 3}
  with nothing_changes(workdir):
    message = train_error(capsys, workdir, changes)
  assert "optimizer.learning_rate was 0.002, now 0.5" in message
  assert "seed was 0, now 3" in message
  assert "choose another --workdir" in message


def test_slices_that_do_not_divide_the_batch(capsys, tmp_path):
  changes = {"training.accumulation_steps": 3}
  message = train_error(capsys, tmp_path / "run", changes)
  assert "training.accumulation_steps is 3" in message
  assert "set it to a divisor of 4" in message


def test_an_empty_work_directory(capsys):
  assert tiny_runs.run_main(train.main, NAME, "--workdir", "") == 2
  assert "--workdir is needed" in capsys.readouterr().err


@pytest.mark.parametrize("script", [evaluate, predict])
def test_evaluate_and_predict_list_and_show(capsys, workdir, script):
  assert tiny_runs.run_main(script.main, "--list") == 0
  assert "easy_vqa_graph" in capsys.readouterr().out
  flags = ["--workdir", workdir, "--show", "--set", "evaluation.batch_size=31"]
  assert tiny_runs.run_main(script.main, *flags) == 0
  shown = capsys.readouterr().out.splitlines()
  assert "evaluation.batch_size = 31" in shown
  assert "model.fusion.num_rounds = 1" in shown
  assert tiny_runs.run_main(script.main) == 2
  assert "--workdir is needed" in capsys.readouterr().err


def test_a_complete_run_is_left_alone(capsys, workdir):
  flags = tiny_runs.train_flags(NAME, workdir, {"training.log_every": 3})
  events = (workdir / "metrics.jsonl").read_text()
  with nothing_changes(workdir / "checkpoints"):
    assert tiny_runs.run_main(train.main, *flags) == 0
  assert "this run is complete: step 4 of 4" in capsys.readouterr().err
  assert (workdir / "metrics.jsonl").read_text() == events


def test_a_file_in_the_place_of_the_work_directory(capsys, tmp_path):
  path = tmp_path / "run"
  path.write_text("mine")
  for workdir in (path, path / "below"):
    message = train_error(capsys, workdir)
    assert str(path) in message
  assert path.read_text() == "mine"
  assert "is a file; name a directory" in train_error(capsys, path)


def test_all_checkpoints_damaged(capsys, workdir):
  for step in (2, 4):
    shutil.rmtree(workdir / "checkpoints" / str(step) / "params")
  with nothing_changes(workdir / "checkpoints"):
    message = train_error(capsys, workdir)
  assert "no checkpoint in" in message
  assert "step 2: params" in message
  assert "bring back a copy" in message


def test_a_damaged_latest_checkpoint_is_passed_over(capsys, workdir):
  """Training goes on from the one before, and ends up in the same place."""
  config = tiny_runs.tiny_config(NAME)
  before = tiny_runs.to_bits(tiny_runs.restore(workdir, config, 4))
  state = workdir / "checkpoints" / "4" / "state"
  damaged = max(state.rglob("*"), key=lambda path: path.stat().st_size)
  content = bytearray(damaged.read_bytes())
  content[len(content) // 2] ^= 4
  damaged.write_bytes(content)
  flags = tiny_runs.train_flags(NAME, workdir)
  assert tiny_runs.run_main(train.main, *flags) == 0
  stderr = capsys.readouterr().err
  assert re.search(r"step 4 in .* is damaged \(.+\); using step 2", stderr)
  after = tiny_runs.to_bits(tiny_runs.restore(workdir, config, 4))
  assert after == before
  kept = workdir / "checkpoints" / "damaged-4"
  assert tiny_runs.hash_files(kept)  # nothing is lost


def test_a_second_trainer_is_refused_and_the_first_unharmed(tmp_path):
  """The first is stopped where it is, so that it cannot end before."""
  environment = tiny_runs.fast_environment(tmp_path / "compiled")
  flags = tiny_runs.train_flags("easy_vqa_image_only", tmp_path / "run")
  command = ("-m", "experiments.train", *flags)
  first = tiny_runs.start_python(*command, **environment)
  for line in first.stderr:
    if "initialising" in line:
      break
  first.send_signal(signal.SIGSTOP)
  try:
    second = tiny_runs.start_python(*command, **environment)
    stdout, stderr = second.communicate(timeout=120)
  finally:
    first.send_signal(signal.SIGCONT)
  assert second.returncode == 1
  assert stdout == ""
  (message,) = stderr.splitlines()
  assert message.startswith(f"error: process {first.pid} on ")
  assert str(tmp_path / "run" / "lock") in message
  assert "run this command again" in message
  _, stderr = first.communicate(timeout=240)
  assert first.returncode == 0, stderr
  history = tiny_runs.read_history(tmp_path / "run")
  assert [e["step"] for e in history if e["kind"] == "train"] == [1, 2, 3, 4]


# --- evaluate


def test_the_last_line_of_evaluate_is_json(capsys, workdir):
  flags = ["--workdir", workdir, "--split", "validation"]
  assert tiny_runs.run_main(evaluate.main, *flags) == 0
  captured = capsys.readouterr()
  result = json.loads(captured.out.splitlines()[-1])
  assert result["experiment"] == NAME
  assert result["split"] == "validation"
  assert result["step"] in (2, 4)
  assert set(result) >= {
    *("experiment", "step", "split", "num_examples", "accuracy"),
    *("accuracy_by_type", "ece", "accuracy_interval", "baselines"),
  }
  low, high = result["accuracy_interval"]
  assert 0 <= low <= result["accuracy"] <= high <= 1


@pytest.mark.parametrize(
  ("flags", "parts"),
  [
    (["--split", "tset"], ["'tset'", "train, validation, test"]),
    (["--step", "3"], ["no step 3", "[2, 4]"]),
    (["--step", "soon"], ["'soon'", "best, latest or the number"]),
  ],
)
def test_what_evaluate_refuses(capsys, workdir, flags, parts):
  with nothing_changes(workdir):
    message = error_of(capsys, evaluate.main, "--workdir", workdir, *flags)
  assert all(part in message for part in parts)


@pytest.mark.parametrize("main", [evaluate.main, predict.main])
def test_a_missing_work_directory(capsys, tmp_path, main):
  flags = predict_flags(tmp_path / "nowhere")
  flags = flags[:2] if main is evaluate.main else flags
  message = error_of(capsys, main, *flags)
  assert f"'{tmp_path}/nowhere' is no work directory" in message
  assert "python -m experiments.train" in message
  assert not (tmp_path / "nowhere").exists()


def test_a_work_directory_without_checkpoints(capsys, tmp_path):
  (tmp_path / "checkpoints").mkdir()
  message = error_of(capsys, evaluate.main, "--workdir", tmp_path)
  assert "there are no checkpoints" in message
  assert "train first" in message


def test_a_damaged_step_that_was_asked_for(capsys, workdir):
  (workdir / "checkpoints" / "4" / "assets" / "assets.json").write_text("{}")
  flags = predict_flags(workdir)
  with nothing_changes(workdir):
    message = error_of(capsys, predict.main, *flags, "--step", "4")
    assert "step 4 in" in message
    assert "is damaged (assets" in message
    assert "[2]" in message
    # The newest intact one is used, with a message, where that is asked for.
    assert tiny_runs.run_main(predict.main, *flags, "--step", "latest") == 0
  assert "using step 2" in capsys.readouterr().err


def test_only_what_is_explained_loses_its_traceback(capsys, monkeypatch):
  def raise_defect():
    return json.loads("{")

  def raise_on_purpose():
    raise ValueError("the sky is green; look again\n\nFiddle context: x")

  def open_nothing():
    os.listdir("/nowhere/at/all")

  def press_control_c():
    raise KeyboardInterrupt

  with pytest.raises(ValueError, match="Expecting property name"):
    cli.run_main(raise_defect)
  raise_on_purpose.__globals__["__name__"]  # this module is not ours
  with pytest.raises(ValueError, match="sky"):
    cli.run_main(raise_on_purpose)
  assert capsys.readouterr().err == ""
  assert error_of(capsys, open_nothing).startswith(
    "error: No such file or directory: /nowhere/at/all; check this path"
  )
  monkeypatch.setattr(os, "_exit", sys.exit)
  assert tiny_runs.run_main(press_control_c) == 130
  assert "the same command goes on" in capsys.readouterr().err
