import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.array_types import RUNNING
from mmjax.nn.batch_norm import BatchNorm

ROWS, SIZE = 5, 3
rng = np.random.default_rng(0)
VALUES = rng.normal(2, 3, (ROWS, 4, 2, SIZE)).astype(np.float32)
MASK = np.array([True, False, True, True, False])
PARAMS = {
  "scale": np.float32([1, 2, 0.5]),
  "bias": np.float32([0, 1, -1]),
  "mean": np.float32([0.5, -1, 2]),
  "variance": np.float32([1, 4, 0.25]),
}


def run(values, mask=None, **settings):
  """What comes out in training, and what the running statistics become."""
  out, sown = BatchNorm(**settings).apply(
    {"params": PARAMS}, values, mask, train=True, mutable=[RUNNING]
  )
  return out, {
    n: total / weight for n, (total, weight) in sown[RUNNING].items()
  }


@pytest.mark.parametrize("train", [True, False])
def test_equals_that_of_linen(train):
  theirs = nn.BatchNorm(momentum=0.9, use_running_average=not train)
  variables = {
    "params": {name: PARAMS[name] for name in ("scale", "bias")},
    "batch_stats": {"mean": PARAMS["mean"], "var": PARAMS["variance"]},
  }
  expected, state = theirs.apply(variables, VALUES, mutable=["batch_stats"])
  if train:
    out, running = run(VALUES)
    mean = state["batch_stats"]["mean"]
    np.testing.assert_allclose(running["mean"], mean, atol=1e-5)
    # Linen's is the biased one.
    unbiased = VALUES.var(axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(
      running["variance"], 0.9 * PARAMS["variance"] + 0.1 * unbiased, rtol=1e-5
    )
  else:
    out = BatchNorm().apply({"params": PARAMS}, VALUES, train=False)
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_absent_rows_do_not_count_and_nothing_of_them_is_seen():
  values = np.where(MASK[:, None, None, None], VALUES, np.nan)
  out, running = run(values, MASK)
  expected, statistics = run(VALUES[MASK])
  np.testing.assert_allclose(out[MASK], expected, atol=1e-5)
  for name, value in statistics.items():
    np.testing.assert_allclose(running[name], value, rtol=1e-5)
  assert np.isfinite(out).all()


def test_no_row_at_all_is_finite_and_weighs_nothing():
  out, sown = BatchNorm().apply(
    {"params": PARAMS}, VALUES, ~MASK & MASK, train=True, mutable=[RUNNING]
  )
  assert np.isfinite(out).all()
  assert [float(weight) for _, weight in sown[RUNNING].values()] == [0, 0]


def test_one_row_alone_says_nothing_of_the_variance():
  mask = np.arange(ROWS) == 1
  out, sown = BatchNorm().apply(
    {"params": PARAMS}, VALUES[:, 0, 0], mask, train=True, mutable=[RUNNING]
  )
  assert np.isfinite(out).all()
  weights = {name: float(pair[1]) for name, pair in sown[RUNNING].items()}
  assert weights == {"mean": 1, "variance": 0}


def test_a_single_value_is_refused_in_training():
  values = VALUES[:1, 0, 0]
  with pytest.raises(ValueError, match=r"\[1, 3\] has one value of a feature"):
    BatchNorm().apply({"params": PARAMS}, values, train=True)
  out = BatchNorm().apply({"params": PARAMS}, values, train=False)
  expected = (values - PARAMS["mean"]) / np.sqrt(PARAMS["variance"])
  np.testing.assert_allclose(
    out, expected * PARAMS["scale"] + PARAMS["bias"], rtol=1e-3
  )


def test_in_evaluation_a_row_depends_on_itself_only():
  def apply(values):
    return BatchNorm().apply({"params": PARAMS}, values, train=False)

  np.testing.assert_array_equal(apply(VALUES)[1:2], apply(VALUES[1:2]))


@pytest.mark.parametrize("train", [True, False])
def test_gradients_reach_scale_and_bias_only(train):
  def loss(params):
    out, _ = BatchNorm().apply(
      {"params": params}, VALUES, MASK, train=train, mutable=[RUNNING]
    )
    return jnp.sum(out[MASK] ** 3)

  grads = jax.grad(loss)(PARAMS)
  learned = {name for name, grad in grads.items() if np.abs(grad).min() > 1e-3}
  assert learned == {"scale", "bias"}
  np.testing.assert_array_equal(grads["mean"], 0)
  np.testing.assert_array_equal(grads["variance"], 0)


def test_the_gradient_of_the_input_is_that_of_linen():
  theirs = nn.BatchNorm(use_running_average=False)
  learned = {name: PARAMS[name] for name in ("scale", "bias")}
  stats = {"mean": PARAMS["mean"], "var": PARAMS["variance"]}

  def ours_loss(values):
    out = BatchNorm().apply({"params": PARAMS}, values, train=True)
    return jnp.sum(out**3)

  def their_loss(values):
    variables = {"params": learned, "batch_stats": stats}
    out, _ = theirs.apply(variables, values, mutable=["batch_stats"])
    return jnp.sum(out**3)

  np.testing.assert_allclose(
    jax.grad(ours_loss)(VALUES), jax.grad(their_loss)(VALUES), atol=1e-3
  )


def test_the_first_parameters_change_nothing_and_nothing_is_sown_for_them():
  variables = BatchNorm().init(jax.random.key(0), VALUES, train=True)
  assert list(variables) == ["params"]
  out = BatchNorm(epsilon=0.0).apply(variables, VALUES, train=False)
  np.testing.assert_allclose(out, VALUES, rtol=1e-6)


def test_called_twice_it_follows_the_mean_over_both():
  class Twice(nn.Module):
    @nn.compact
    def __call__(self, first, second):
      norm = BatchNorm(name="norm")
      return norm(first, train=True), norm(second, train=True)

  _, sown = Twice().apply(
    {"params": {"norm": PARAMS}}, VALUES[:2], VALUES[2:], mutable=[RUNNING]
  )
  total, weight = sown[RUNNING]["norm"]["mean"]
  assert weight == ROWS * 4 * 2
  np.testing.assert_allclose(total / weight, run(VALUES)[1]["mean"], rtol=1e-5)


def test_half_precision_keeps_statistics_in_full():
  out, running = run(VALUES.astype(jnp.bfloat16), dtype="bfloat16")
  full, statistics = run(VALUES)
  assert out.dtype == jnp.bfloat16
  assert running["variance"].dtype == jnp.float32
  np.testing.assert_allclose(np.float32(out), full, atol=0.06)
  np.testing.assert_allclose(running["mean"], statistics["mean"], atol=1e-3)


def test_statistics_are_in_full_whatever_the_parameters_are():
  variables = BatchNorm(param_dtype="bfloat16").init(
    jax.random.key(0), VALUES, train=False
  )
  assert {n: str(leaf.dtype) for n, leaf in variables["params"].items()} == {
    "scale": "bfloat16",
    "bias": "bfloat16",
    "mean": "float32",
    "variance": "float32",
  }


@pytest.mark.parametrize("mask", [MASK[:3], MASK.astype(np.float32)])
def test_masks_that_do_not_fit_are_told(mask):
  with pytest.raises(ValueError, match=r"needs a bool mask \[5\]"):
    BatchNorm().apply({"params": PARAMS}, VALUES, mask, train=True)
