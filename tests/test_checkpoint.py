"""Saving, retention and restoring of intact checkpoints."""

import json
import logging
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from checkpoint_trees import (
  ASSETS,
  CONFIG,
  abstract,
  assert_same,
  make_params,
  make_state,
  save,
)

from mmjax.checkpoint import CheckpointError, Checkpoints


@pytest.fixture
def checkpoints(tmp_path):
  with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
    yield checkpoints


@pytest.mark.parametrize("to_target", [abstract, lambda tree: tree])
def test_round_trip_is_bit_exact(checkpoints, to_target):
  params, state, started = save(checkpoints, 7, accuracy=0.1)
  assert started
  checkpoints.wait()
  restored = checkpoints.restore(
    params_target=to_target(params), state_target=to_target(state)
  )
  assert_same(restored.params, params)
  assert_same(restored.state, state)
  assert restored.step == 7
  assert restored.config == CONFIG
  assert restored.assets == ASSETS
  assert restored.metrics == {"accuracy": 0.1, "ece": 0.125}


def test_parts_can_be_read_alone(checkpoints):
  params, _, _ = save(checkpoints, 7)
  checkpoints.wait()
  for item in ("params", "state"):  # neither is touched
    shutil.rmtree(checkpoints.directory / "7" / item / "d")
  assert checkpoints.load_config() == CONFIG
  assert checkpoints.load_assets(7) == ASSETS
  save(checkpoints, 8)
  checkpoints.wait()
  shutil.rmtree(checkpoints.directory / "8" / "state")
  restored = checkpoints.restore(8, params_target=params)
  assert restored.state is None
  assert_same(restored.params, make_params(8))


def test_the_buffers_may_be_donated_at_once(checkpoints):
  step = jax.jit(
    lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0
  )
  params = {"kernel": jnp.zeros((211, 307))}
  for i in range(5):
    checkpoints.save(i, params=params, state={}, config="", assets={})
    params = step(params)
  checkpoints.wait()
  target = {"kernel": params["kernel"]}
  for i in checkpoints.steps():
    restored = checkpoints.restore(i, params_target=target, state_target={})
    assert (np.asarray(restored.params["kernel"]) == i).all()
    step(restored.params)


def test_numpy_leaves_may_be_changed_at_once(checkpoints):
  params = {"kernel": np.zeros((211, 307))}
  checkpoints.save(1, params=params, state={}, config="", assets={})
  params["kernel"] += 1
  checkpoints.wait()
  restored = checkpoints.restore(params_target=params)
  assert (restored.params["kernel"] == 0).all()


def test_restored_buffers_may_be_donated(checkpoints):
  params, _, _ = save(checkpoints, 1)
  checkpoints.wait()
  restored = checkpoints.restore(params_target=params)
  again = jax.jit(
    lambda tree: jax.tree.map(lambda x: x * 2, tree), donate_argnums=0
  )(restored.params)
  assert_same(again, jax.tree.map(lambda x: x * 2, make_params(1)))


def test_the_best_and_the_two_latest_are_kept(checkpoints):
  for step, accuracy in enumerate([0.9, 0.8, 0.1, 0.2], start=1):
    save(checkpoints, step, accuracy)
  checkpoints.wait()
  assert checkpoints.steps() == [1, 3, 4]
  assert checkpoints.best_step() == 1
  restored = checkpoints.restore("best", params_target=make_params())
  assert (restored.step, restored.metrics["accuracy"]) == (1, 0.9)
  save(checkpoints, 5, 0.95)
  save(checkpoints, 6, 0.95)
  save(checkpoints, 7, 0.1)
  checkpoints.wait()
  assert checkpoints.steps() == [6, 7]  # of equals the later one is the best


def test_a_smaller_score_may_be_the_best(tmp_path):
  with Checkpoints(
    tmp_path, keep_latest=1, best_metric="ece", best_mode="min"
  ) as checkpoints:
    for step, ece in enumerate([0.3, 0.1, 0.2], start=1):
      save(checkpoints, step, metrics={"ece": ece})
    checkpoints.wait()
    assert checkpoints.steps() == [2, 3]
    assert checkpoints.best_step() == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, "high"])
def test_steps_without_a_finite_score_are_never_the_best(checkpoints, bad):
  save(checkpoints, 1, 0.5)
  for step in (2, 3, 4, 5):
    save(checkpoints, step, metrics={"accuracy": bad})
  checkpoints.wait()
  assert checkpoints.steps() == [1, 4, 5]
  assert checkpoints.best_step() == 1
  metrics = checkpoints.restore(params_target=make_params()).metrics
  assert repr(metrics["accuracy"]) == repr(bad)


def test_no_best_step_without_scores(checkpoints):
  assert checkpoints.best_step() is None
  for step in (1, 2, 3):
    save(checkpoints, step)
  checkpoints.wait()
  assert checkpoints.steps() == [2, 3]
  assert checkpoints.best_step() is None
  with pytest.raises(CheckpointError, match="none is the best; choose 'late"):
    checkpoints.load_config("best")


def test_scores_may_be_numpy_and_jax_numbers(checkpoints):
  scores = {"accuracy": np.float32(0.5), "ece": jnp.float32(0.25), "n": [1, 2]}
  save(checkpoints, 1, metrics=scores)
  checkpoints.wait()
  restored = checkpoints.restore(params_target=make_params())
  assert restored.metrics == {"accuracy": 0.5, "ece": 0.25, "n": [1, 2]}


def test_saving_the_same_step_again(checkpoints):
  save(checkpoints, 1, 0.5)
  assert save(checkpoints, 1, 0.5)[2] is False
  assert save(checkpoints, 1, None)[2] is False  # the score stays
  assert checkpoints.best_step() == 1
  save(checkpoints, 2)
  assert save(checkpoints, 2, 0.75)[2] is True  # a score is added
  checkpoints.wait()
  assert checkpoints.best_step() == 2
  params, state, started = save(checkpoints, 2, 0.25, seed=9)
  assert started is True
  checkpoints.wait()
  restored = checkpoints.restore(2, params_target=params, state_target=state)
  assert_same(restored.params, params)
  assert restored.metrics["accuracy"] == 0.25
  assert sorted(p.name for p in checkpoints.directory.iterdir()) == ["1", "2"]


def test_an_older_step_is_refused(checkpoints):
  save(checkpoints, 5)
  with pytest.raises(CheckpointError, match="beside the newer step 5"):
    save(checkpoints, 4)
  assert checkpoints.steps() == [5]


def replace_leaf(value):
  def change(params):
    return params | {"head": params["head"] | {"bias": value}}

  return change


@pytest.mark.parametrize(
  ("change", "phrase"),
  [
    (
      replace_leaf(jnp.zeros((13,), jnp.bfloat16)),
      "leaf 'head/bias' was saved as bfloat16 [11] but is wanted as "
      "bfloat16 [13]",
    ),
    (
      replace_leaf(jnp.zeros((11,), jnp.float32)),
      "leaf 'head/bias' was saved as bfloat16 [11] but is wanted as "
      "float32 [11]",
    ),
    (replace_leaf(3.0), "wanted as python float []"),
    (replace_leaf(jax.random.key(0)), "wanted as key<fry> []"),
    (
      replace_leaf({"deeper": jnp.zeros(11)}),
      "leaf 'head/bias/deeper' is wanted but was not saved",
    ),
    (
      lambda params: {"encoders_image": params["encoders_image"]},
      "was saved but is not wanted",
    ),
    (
      lambda params: params | {"other": jnp.zeros(3)},
      "leaf 'other' is wanted but was not saved",
    ),
  ],
)
def test_another_tree_is_refused_by_leaf(checkpoints, change, phrase):
  save(checkpoints, 1)
  save(checkpoints, 2)
  checkpoints.wait()
  with pytest.raises(CheckpointError) as error:
    checkpoints.restore(params_target=change(make_params()))
  message = str(error.value)
  assert "step 2 in" in message  # no walking back: nothing is damaged
  assert "params leaf" in message
  assert phrase in message
  assert "\n" not in message


def test_another_key_generator_is_refused(checkpoints):
  params, state, _ = save(checkpoints, 1)
  checkpoints.wait()
  state["rng"] = jax.random.key(0, impl="rbg")
  with pytest.raises(CheckpointError, match="leaf 'rng' was saved as key<fry>"):
    checkpoints.restore(params_target=params, state_target=state)


def test_wide_dtypes_are_not_cast(checkpoints):
  wide = {"x": np.array([0.1], np.float64)}
  checkpoints.save(1, params=wide, state={}, config="", assets={})
  checkpoints.wait()
  assert_same(checkpoints.restore(params_target=wide).params, wide)
  target = {"x": jax.ShapeDtypeStruct((1,), np.float64)}
  with pytest.raises(CheckpointError, match="as float64, which JAX would turn"):
    checkpoints.restore(params_target=target)


@pytest.mark.parametrize("which", ["latest", "best", 3])
def test_an_empty_or_missing_directory(checkpoints, which):
  with pytest.raises(CheckpointError, match="there are no checkpoints in"):
    checkpoints.restore(which, params_target={})
  assert not checkpoints.directory.exists()
  assert checkpoints.steps() == []


@pytest.mark.parametrize("which", ["newest", True, 1.0, None, 3])
def test_a_step_that_is_not_there(checkpoints, which):
  save(checkpoints, 1)
  checkpoints.wait()
  pattern = "no step 3 in" if which == 3 else "'latest', 'best' or a number"
  with pytest.raises(CheckpointError, match=pattern):
    checkpoints.load_config(which)


def test_other_entries_are_no_steps(checkpoints):
  save(checkpoints, 1)
  checkpoints.wait()
  for name in ("notes", "007", "-3", "2.tmp", "²", "damaged-5"):
    (checkpoints.directory / name).mkdir()
  assert checkpoints.steps() == [1]
  save(checkpoints, 2)
  checkpoints.wait()
  assert (checkpoints.directory / "damaged-5").exists()


def test_it_is_an_ordinary_orbax_checkpoint(checkpoints):
  save(checkpoints, 1, 0.5)
  checkpoints.wait()
  with ocp.StandardCheckpointer() as reader:
    params = reader.restore(checkpoints.directory / "1" / "params")
  np.testing.assert_array_equal(
    params["encoders_image"]["kernel"],
    make_params(1)["encoders_image"]["kernel"],
  )
  path = checkpoints.directory / "1" / "metrics" / "metrics.json"
  assert json.loads(path.read_text())["value"]["accuracy"] == 0.5


def test_orbax_is_quiet(tmp_path, caplog, capfd):
  with (
    caplog.at_level(logging.DEBUG),
    Checkpoints(tmp_path / "c") as checkpoints,
  ):
    params, state, _ = save(checkpoints, 1)
    checkpoints.wait()
    checkpoints.restore(params_target=params, state_target=state)
  assert not [r for r in caplog.records if "orbax" in r.pathname]
  assert capfd.readouterr() == ("", "")


def test_nonsense_settings_are_refused(tmp_path):
  with pytest.raises(ValueError, match="keep_latest must be at least 1"):
    Checkpoints(tmp_path, keep_latest=0)
  with pytest.raises(ValueError, match="best_mode must be 'max'"):
    Checkpoints(tmp_path, best_mode="maximum")


def test_a_state_of_the_same_step_restores_like_it(checkpoints):
  params = make_params(1)
  save(checkpoints, 1)
  checkpoints.wait()
  restored = checkpoints.restore(
    params_target=params, state_target=abstract(make_state(params))
  )
  assert_same(restored.state, make_state(params, 1))
