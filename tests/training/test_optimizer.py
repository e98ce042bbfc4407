import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.training.optimizer import AdamW, Sgd, decay_mask


def test_schedule_by_hand():
  optimizer = AdamW(learning_rate=0.4, warmup_fraction=0.2, end_factor=0.1)
  rates = [float(optimizer.schedule(10)(step)) for step in range(12)]
  # Two updates of warm-up: half the peak, then the peak.
  np.testing.assert_allclose(rates[:2], [0.2, 0.4], rtol=1e-6)
  # Update 6 is half of the way down: (1 + 0.1) / 2 of the peak.
  np.testing.assert_allclose(rates[5], 0.4 * 0.55, rtol=1e-6)
  # Update 4 is a quarter of the way: cos(pi/4).
  quarter = 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2
  np.testing.assert_allclose(rates[3], 0.4 * quarter, rtol=1e-6)
  # The last update, and any after it, has the end factor.
  np.testing.assert_allclose(rates[9:], [0.04] * 3, rtol=1e-6)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_shortest_runs_have_finite_positive_rates(num_steps):
  schedule = AdamW(warmup_fraction=0.9).schedule(num_steps)
  rates = [float(schedule(step)) for step in range(num_steps)]
  assert all(0 < rate <= 2e-3 * (1 + 1e-6) for rate in rates)


def test_weight_decay_reaches_kernels_only():
  params = {
    "dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)},
    "conv": {"kernel": jnp.ones((3, 3, 2, 5))},
    "words": {"embedding": jnp.ones((7, 2))},
    "norm": {"scale": jnp.ones(2), "kernel": jnp.ones(2)},
    "positions": jnp.ones((5, 2)),
    "kernel": {"query": jnp.ones((3, 2))},
  }
  expected = {
    "dense": {"kernel": True, "bias": False},
    "conv": {"kernel": True},
    "words": {"embedding": False},
    "norm": {"scale": False, "kernel": False},
    "positions": False,
    "kernel": {"query": False},
  }
  assert decay_mask(params) == expected
  # And so in the update itself: without a gradient only kernels shrink.
  tx = AdamW(learning_rate=0.5, warmup_fraction=0.0, weight_decay=0.1)(1000)
  grads = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(grads, tx.init(params), params)
  shrunk = jax.tree.map(lambda u: bool((u != 0).all()), updates)
  assert shrunk == expected
  np.testing.assert_allclose(updates["dense"]["kernel"], -0.05, rtol=1e-3)


def test_clipping_bounds_what_adam_sees():
  grads = {"bias": jnp.array([3e4, 4e4])}  # norm 5e4
  for clip_norm, scale in ((0.5, 1e-5), (None, 1.0)):
    tx = AdamW(clip_norm=clip_norm)(10)
    _, opt_state = tx.update(grads, tx.init(grads), grads)
    means = [
      leaf
      for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state)
      if "mu" in jax.tree_util.keystr(path)
    ]
    np.testing.assert_allclose(means[0], 0.1 * scale * grads["bias"], rtol=1e-5)


def test_sgd_is_plain():
  tx = Sgd(learning_rate=0.25)(3)
  grads = {"a": jnp.array([2.0, -4.0])}
  updates, _ = tx.update(grads, tx.init(grads), grads)
  np.testing.assert_array_equal(updates["a"], [-0.5, 1.0])
  assert float(Sgd(learning_rate=0.25).schedule(3)(2)) == 0.25


@pytest.mark.parametrize(
  "settings",
  [
    {"learning_rate": 0.0},
    {"learning_rate": math.nan},
    {"warmup_fraction": 1.0},
    {"end_factor": 1.5},
    {"weight_decay": -1.0},
    {"clip_norm": 0.0},
    {"b1": 1.0},
    {"b2": -0.1},
  ],
)
def test_bad_settings_are_named(settings):
  (name,) = settings
  with pytest.raises(ValueError, match=rf"optimizer\.{name} is"):
    AdamW(**settings)


def test_no_steps():
  for optimizer in (AdamW(), Sgd()):
    with pytest.raises(ValueError, match=r"training\.num_steps is 0"):
      optimizer(0)
