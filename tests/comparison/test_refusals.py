"""What a comparison refuses, and what it does not hold against anybody."""

import json

import pytest
import tiny_runs
from command_lines import error_of

from experiments import compare

FLAGS = [
  *("--set", "data.num_rows=200", "--set", "training.num_steps=6"),
  *("--set", "training.eval_every=3", "--set", "training.batch_size=32"),
]


def flags(workdir, *more, methods="concat", settings="redundancy"):
  return [
    "pid",
    *("--workdir", workdir, "--methods", methods, "--settings", settings),
    *("--seeds", 1, *FLAGS, *more),
  ]


@pytest.mark.parametrize("path", ["seed", "data.seed"])
def test_seeds_are_not_set_by_hand(tmp_path, capsys, path):
  arguments = flags(tmp_path / "run", "--set", f"{path}=3")
  message = error_of(capsys, compare.main, *arguments)
  assert f"{path}=3 would make every seed the same run" in message


@pytest.mark.parametrize(
  ("changes", "part"),
  [
    ({"methods": "conct"}, "did you mean 'concat'"),
    ({"settings": "redundant"}, "did you mean 'redundancy'"),
    ({"methods": " concat , tensr,"}, "did you mean 'tensor'"),
    ({"methods": ","}, "--methods is empty; name one or more of first only"),
  ],
)
def test_wrong_names(tmp_path, capsys, changes, part):
  message = error_of(capsys, compare.main, *flags(tmp_path, **changes))
  assert part in message


def test_settings_are_not_filed_under_other_names(tmp_path, capsys):
  arguments = flags(tmp_path, "--set", "data.setting=synergy")
  message = error_of(capsys, compare.main, *arguments)
  assert "data.setting=synergy would file data under the name" in message
  assert not (tmp_path / "cells").exists()


def test_a_change_that_a_method_lacks_names_the_method(tmp_path, capsys):
  arguments = flags(tmp_path, "--set", "model.fusion.rank=2")
  message = error_of(capsys, compare.main, *arguments)
  assert "method 'concat': " in message
  assert "model.fusion.rank" in message


def test_a_work_directory_of_another_comparison(tmp_path, capsys):
  (tmp_path / "cells" / "digits" / "concat").mkdir(parents=True)
  message = error_of(capsys, compare.main, *flags(tmp_path))
  assert "digits/concat is no cell of the comparison 'pid'" in message


def test_what_failed_binds_nobody_and_changes_are_told(
  tmp_path, capsys, fast_compilation
):
  """A change of one method only, after one that could not be trained."""
  large = ("--set", "training.batch_size=100000")
  message = error_of(capsys, compare.main, *flags(tmp_path, *large))
  assert "only 140 training rows" in message
  assert tiny_runs.run_main(compare.main, *flags(tmp_path)) == 0
  more = ("--set", "model.fusion.rank=2")
  arguments = flags(tmp_path, *more, methods="low-rank")
  assert tiny_runs.run_main(compare.main, *arguments) == 0
  out = capsys.readouterr().out
  assert "Changed by hand: model.fusion.rank was 8, now 2 (low-rank on" in out
  assert "training.num_steps was 600, now 6 (all cells)" in out
  assert "of one seed, so without an interval" in out
  assert "* differs" not in out
  cells = json.loads((tmp_path / "table.json").read_text())["cells"]
  ranks = [[c for c in cell["changes"] if "rank" in c] for cell in cells]
  assert [len(changes) for changes in ranks] == [0, 1]
