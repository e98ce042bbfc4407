"""Comparisons end to end, on the synthetic suite made small."""

import json
import types

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs
from command_lines import error_of

from experiments import compare
from experiments.comparisons import COMPARISONS
from mmjax.comparison import running
from mmjax.comparison.program import (
  Program,
  compile_program,
  count_flops,
  count_parameters,
  should_map,
  without_modality,
)
from mmjax.comparison.seeds import _Order, _train_group, train_seeds
from mmjax.config import apply_overrides
from mmjax.experiment import Training, make_init_fn

METHODS = "concat,first only"
FLAGS = [
  *("--set", "data.num_rows=200", "--set", "training.num_steps=6"),
  *("--set", "training.eval_every=3", "--set", "training.batch_size=32"),
]


def flags(workdir, *more, methods=METHODS, settings="redundancy", seeds=2):
  return [
    "pid",
    *("--workdir", workdir, "--methods", methods, "--settings", settings),
    *("--seeds", seeds, *FLAGS, *more),
  ]


def small(method="concat", seed=0, **changes):
  config = COMPARISONS["pid"].methods[method](setting="synergy", seed=seed)
  values = {
    "data.num_rows": 200,
    "training.num_steps": 6,
    "training.batch_size": 32,
    **changes,
  }
  overrides = [f"{path}={value}" for path, value in values.items()]
  return fdl.build(apply_overrides(config, overrides))


def read_cell(workdir, setting, method):
  folder = workdir / "cells" / setting / method
  return {
    path.name: json.loads(path.read_text()) for path in folder.glob("seed-*")
  }


def test_the_command_trains_writes_and_keeps(
  tmp_path, capsys, fast_compilation
):
  workdir = tmp_path / "run"
  assert tiny_runs.run_main(compare.main, *flags(workdir)) == 0
  out, err = capsys.readouterr()
  assert "| concat (baseline) |" in out
  assert "| first only |" in out
  assert "cell 1/2" in err
  names = {"table.md", "table.csv", "table.json", "plot.svg"}
  assert names <= {path.name for path in workdir.iterdir()}
  before = read_cell(workdir, "redundancy", "concat")
  assert set(before) == {"seed-0.json", "seed-1.json"}
  result = before["seed-0.json"]
  assert set(result["accuracy_without"]) == {"first", "second"}
  assert result["accuracy"] == result["right"].count("1") / 30
  assert "jax" in result["origin"]
  facts = workdir / "cells" / "redundancy" / "concat" / "facts.json"
  experiment = small()
  data = experiment.data.arrays("train")
  assert json.loads(facts.read_text()) == {
    "parameters": count_parameters(experiment, data),
    "flops": count_flops(experiment, data),
    "changes": [
      "data.num_rows was 12000, now 200",
      "training.num_steps was 600, now 6",
      "training.batch_size was 256, now 32",
      "training.eval_every was 30, now 3",
    ],
  }

  # Again with one more seed: what is done stays as it is.
  assert tiny_runs.run_main(compare.main, *flags(workdir, seeds=3)) == 0
  after = read_cell(workdir, "redundancy", "concat")
  assert set(after) == {*before, "seed-2.json"}
  assert {name: after[name] for name in before} == before


def test_tables_hold_all_that_is_done(tmp_path, capsys, fast_compilation):
  workdir = tmp_path / "run"
  tiny_runs.run_main(compare.main, *flags(workdir))
  whole = (workdir / "table.csv").read_text()
  few = flags(workdir, methods="concat", seeds=1)
  assert tiny_runs.run_main(compare.main, *few) == 0
  assert (workdir / "table.csv").read_text() == whole
  assert "| first only |" in (workdir / "table.md").read_text()
  assert "first only" in (workdir / "plot.svg").read_text()


def test_a_cell_that_fails_does_not_stop_the_others(
  tmp_path, capsys, fast_compilation, monkeypatch
):
  def train(experiments, mapped):
    results = train_seeds(experiments, mapped=mapped)
    for seed, experiment in experiments.items():
      if seed == 1 and len(experiment.model.encoders) == 2:
        raise FloatingPointError("seed 1: not finite")
      yield next(results)

  monkeypatch.setattr(running, "train_seeds", train)
  workdir = tmp_path / "run"
  message = error_of(capsys, compare.main, *flags(workdir, "--no-map"))
  assert "concat on redundancy, seed 1: not finite" in message
  assert set(read_cell(workdir, "redundancy", "concat")) == {"seed-0.json"}
  assert len(read_cell(workdir, "redundancy", "first only")) == 2
  assert "over 1 to 2 seeds" in (workdir / "table.md").read_text()


def test_cells_of_another_version_are_told(tmp_path, capsys, fast_compilation):
  arguments = flags(tmp_path, methods="concat", seeds=1)
  tiny_runs.run_main(compare.main, *arguments)
  path = tmp_path / "cells" / "redundancy" / "concat" / "seed-0.json"
  path.write_text(json.dumps({"seed": 0, "accuracy": 0.5}))
  capsys.readouterr()
  message = error_of(capsys, compare.main, *arguments)
  assert "written by another version of mmjax" in message


def test_rows_that_examples_share_are_refused():
  experiment = small()
  arrays = {**experiment.data.arrays("train"), "first_index": np.zeros(9, int)}
  data = types.SimpleNamespace(arrays=lambda split: arrays)
  shared = types.SimpleNamespace(data=data, model=experiment.model)
  with pytest.raises(ValueError, match="examples share rows of first"):
    next(train_seeds({0: shared}, mapped=False))


def test_a_cell_of_other_settings_is_refused(
  tmp_path, capsys, fast_compilation
):
  workdir = tmp_path / "run"
  arguments = flags(workdir, methods="concat", seeds=1)
  assert tiny_runs.run_main(compare.main, *arguments) == 0
  capsys.readouterr()
  message = error_of(
    capsys, compare.main, *arguments, "--set", "optimizer.learning_rate=0.5"
  )
  assert "optimizer.learning_rate was" in message
  assert "choose another --workdir" in message


def test_list(capsys):
  assert tiny_runs.run_main(compare.main, "--list") == 0
  assert "pid  " in capsys.readouterr().out


def test_seeds_at_once_are_the_seeds_in_a_row(fast_compilation):
  experiments = {seed: small(seed=seed) for seed in (0, 1, 2)}
  together = list(train_seeds(experiments, mapped=True))
  alone = list(train_seeds(experiments, mapped=False))
  assert [r.seed for r in together] == [0, 1, 2]
  for a, b in zip(together, alone, strict=True):
    # Of 30 test rows rounding may turn one.
    assert sum(x != y for x, y in zip(a.right, b.right, strict=True)) <= 1
    assert (a.mapped, b.mapped) == (True, False)
  assert len({r.right for r in alone}) > 1


def test_all_seeds_and_settings_share_one_program(fast_compilation):
  a, b = small(seed=0), small(seed=4)
  assert a.data != b.data
  assert compile_program(a, mapped=False) is compile_program(b, mapped=False)
  other = small("first only")
  assert compile_program(other, mapped=False) is not compile_program(
    a, mapped=False
  )
  list(train_seeds({0: a, 4: b}, mapped=False))
  program = compile_program(a, mapped=False)
  assert program.step._cache_size() == 1


def test_the_best_step_on_validation_is_scored_on_test():
  """A program of chosen scores: the parameter is the number of the step."""
  right = {"validation": {2: 5, 4: 8, 6: 8, 8: 7}, "test": {4: 6}}
  splits = {"train": 0, "validation": 1, "test": 2}

  def arrays(split):
    masks = {f"{m}_mask": np.ones((10, 3), bool) for m in ("seen", "heard")}
    return {
      "label": np.zeros(10, int),
      "split": np.full(10, splits[split]),
    } | masks

  def score(params, data):
    (split,) = (k for k, v in splits.items() if v == int(data["split"][0]))
    lost = 2 * (not data["seen_mask"].any()) + 3 * (
      not data["heard_mask"].any()
    )
    return np.arange(10) < right[split][int(params)] - lost

  def step(state, data, index):
    return types.SimpleNamespace(params=state.params + 1, bad_step=-1)

  program = Program(
    create=lambda key, data: types.SimpleNamespace(params=jnp.zeros((), int)),
    step=step,
    score=score,
  )
  experiment = types.SimpleNamespace(
    data=types.SimpleNamespace(arrays=arrays),
    model=types.SimpleNamespace(encoders={"heard": None, "seen": None}),
    training=Training(num_steps=8, batch_size=5, eval_every=2),
    seed=0,
  )
  (result,) = _train_group(program, {0: experiment}, False)
  assert result.best_step == 4  # the first of the best
  assert result.validation_accuracy == 0.8
  assert result.accuracy == 0.6
  assert result.right == "1111110000"
  assert result.accuracy_without == {"heard": 0.3, "seen": 0.4}


def test_a_modality_is_taken_away_from_every_row():
  data = {
    "seen": jnp.ones((3, 2, 5)),
    "seen_mask": jnp.array([[True, True], [True, False], [False, False]]),
    "heard_mask": jnp.ones((3, 4), bool),
  }
  left = without_modality(data, "seen")
  assert not left["seen_mask"].any()
  assert left["seen_mask"].dtype == bool
  assert left["heard_mask"] is data["heard_mask"]
  assert left["seen"] is data["seen"]
  assert data["seen_mask"].any()


def test_parameters_and_operations_are_those_of_the_model():
  """One modality, so almost all operations are products with a matrix."""
  experiment = small("first only")
  data = experiment.data.arrays("train")
  params = jax.jit(make_init_fn(experiment))(jax.random.key(0))["params"]
  total = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert count_parameters(experiment, data) == total
  kernels = [leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
  # Each weight of a matrix is multiplied and added once; the rest is little.
  assert 1 < count_flops(experiment, data) / (2 * sum(kernels)) < 1.1


def test_not_finite_is_told(fast_compilation):
  broken = small(**{"optimizer.learning_rate": 1e30})
  with pytest.raises(FloatingPointError, match="seed 0: the loss or gradient"):
    list(train_seeds({0: broken}, mapped=False))


def test_batches_larger_than_the_data(fast_compilation):
  broken = small(**{"training.batch_size": 1000})
  with pytest.raises(ValueError, match="only 140 training rows"):
    list(train_seeds({0: broken}, mapped=False))


@pytest.mark.parametrize(
  ("name", "method", "mapped"),
  [
    ("pid", "concat", True),
    ("pid", "tensor", True),
    ("pid", "MulT", False),  # attention
    ("moving_digits", "audio only", False),  # a loop
    ("moving_digits", "video only", False),  # convolutions
  ],
)
def test_what_is_mapped_over_seeds(name, method, mapped):
  comparison = COMPARISONS[name]
  config = comparison.methods[method](setting=comparison.settings[0], seed=0)
  experiment = fdl.build(config)
  assert should_map(experiment, experiment.data.blank_batch()) == mapped


def test_epochs_show_every_row_once():
  order = _Order(seed=3, num_rows=10, batch_size=5)
  first = np.concatenate([order.batch(0), order.batch(1)])
  second = np.concatenate([order.batch(2), order.batch(3)])
  assert sorted(first) == sorted(second) == list(range(10))
  assert list(first) != list(second)
  again = _Order(seed=3, num_rows=10, batch_size=5)
  np.testing.assert_array_equal(again.batch(3), second[5:])
