"""The table over runs, from what training and evaluation leave."""

import json
import shutil

import pytest
import tiny_runs
from command_lines import error_of

from experiments import summarize
from experiments.configs import EXPERIMENTS
from mmjax.checkpoint import Checkpoints
from mmjax.config import build_config


def write_scores(workdir, accuracy):
  """Leaves what `evaluate` leaves of the best step, and when training ended."""
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    best = checkpoints.best_step()
  folder = workdir / "evaluations"
  folder.mkdir()
  scores = {"experiment": "easy_vqa_co_attention", "accuracy": accuracy}
  (folder / f"test-{best}.json").write_text(json.dumps(scores))


def seconds_of(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return json.loads(lines[-1])["seconds"]


def test_the_same_seed_twice_is_refused(workdir, tmp_path, capsys):
  other = tmp_path / "other"
  shutil.copytree(workdir, other)
  write_scores(workdir, 0.98)
  write_scores(other, 0.96)
  message = error_of(capsys, summarize.main, workdir, other)
  assert "runs of the same seed, 0; leave one of them out" in message


def make_run(seed, accuracy, minutes, *overrides):
  config = build_config(
    EXPERIMENTS["easy_vqa_graph"], [f"seed={seed}", *overrides]
  )
  scores = {
    "accuracy": accuracy,
    "accuracy_by_type": {"near": accuracy / 2, "far": None},
    "error": 3 * accuracy,
    "ids": ["x"],
  }
  return summarize._Run(f"run-{seed}", config, scores, minutes)


def test_rows_and_groups():
  runs = [
    make_run(0, 0.98, 1.0),
    make_run(0, 0.5, 9.0, "model.fusion.num_heads=8"),
    make_run(4, 0.96, 2.0, "training.log_every=7"),
  ]
  groups = summarize._group(runs)
  changed = "easy_vqa_graph; model.fusion.num_heads was 2, now 8"
  assert groups == {"easy_vqa_graph": [runs[0], runs[2]], changed: [runs[1]]}
  # Mean 97, deviation sqrt(2), t of one degree of freedom 12.7062.
  assert summarize._make_row("name", groups["easy_vqa_graph"]) == (
    "| name | 2 | 97.00 ± 12.71 % | 98.00, 96.00 | 1.5"
  )


def test_a_count_that_is_alike_has_no_interval():
  assert summarize._tell_mean([148_417, 148_417]) == "148,417"
  assert summarize._tell_mean([3]) == "3"
  assert summarize._tell_mean([1, 1]) == "100.0 ± 0.0"  # a share
  assert "±" in summarize._tell_mean([3, 5])


def test_a_distance_is_no_share_however_short():
  path = "detection: distance"
  assert summarize._tell_mean([0.114], path=path) == "0.11"
  assert summarize._tell_mean([0.114], path="detection: found") == "11.4"


def test_other_scores_are_columns(workdir, capsys):
  runs = [make_run(0, 0.98, 1.0), make_run(4, 0.96, 2.0)]
  names = summarize._list_scores(runs, ["error", "accuracy_by_type"])
  assert names == ["error", "accuracy_by_type: near", "accuracy_by_type: far"]
  cells = [
    summarize._tell_mean([run.find(name) for run in runs]) for name in names
  ]
  assert cells == ["2.91 ± 0.38", "48.5 ± 6.4", ""]
  with pytest.raises(ValueError, match="no run has a score 'x'; there are acc"):
    summarize._list_scores(runs, ["x"])
  with pytest.raises(ValueError, match="'ids' is no number"):
    summarize._list_scores(runs, ["ids"])

  write_scores(workdir, 0.98)
  flags = (workdir, "--also", "accuracy")
  assert tiny_runs.run_main(summarize.main, *flags) == 0
  head, _, row = capsys.readouterr().out.splitlines()
  assert head.endswith("| minutes | accuracy |")
  assert row.endswith("| 98.0 |")


def test_one_run_has_no_interval(workdir, capsys):
  write_scores(workdir, 0.98)
  assert tiny_runs.run_main(summarize.main, workdir) == 0
  row = capsys.readouterr().out.splitlines()[-1]
  minutes = seconds_of(workdir) / 60
  assert row == (
    f"| easy_vqa_co_attention | 1 | 98.00 % | 98.00 | {minutes:.1f} |"
  )


@pytest.mark.parametrize("what", ["unscored", "empty"])
def test_runs_without_scores_are_named(workdir, tmp_path, capsys, what):
  path = workdir
  if what == "empty":
    path = tmp_path / "nothing"
  assert tiny_runs.run_main(summarize.main, path) == 1
  (message,) = capsys.readouterr().err.splitlines()
  assert message.startswith("left out: ")
  assert str(path) in message
  assert "experiments.evaluate" in message or "train first" in message
  assert what == "unscored" or not path.exists()
