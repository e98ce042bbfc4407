import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.losses.cross_entropy import CrossEntropy


def _make(batch=5, classes=7):
  rng = np.random.default_rng(0)
  logits = 3 * rng.normal(size=(batch, classes))
  label = rng.integers(0, classes, batch)
  return logits, label


def test_hand_value():
  logits = jnp.log(jnp.array([[1.0, 3.0, 4.0], [2.0, 2.0, 4.0]]))
  loss = CrossEntropy()({"logits": logits}, {"label": jnp.array([1, 2])})
  np.testing.assert_allclose(loss, [np.log(8 / 3), np.log(2)], atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_equals_explicit_soft_labels(smoothing):
  logits, label = _make()
  powers = np.exp(logits)
  probabilities = powers / powers.sum(axis=1, keepdims=True)
  target = (1 - smoothing) * np.eye(7)[label] + smoothing / 7
  expected = -(target * np.log(probabilities)).sum(axis=1)
  loss = jax.jit(CrossEntropy(smoothing))(
    {"logits": jnp.asarray(logits, jnp.float32)}, {"label": jnp.asarray(label)}
  )
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, expected, atol=1e-5)


def test_half_precision_logits_are_summed_in_float32():
  logits, label = _make()
  outputs = {"logits": jnp.asarray(logits, jnp.bfloat16)}
  loss = CrossEntropy(0.1)(outputs, {"label": jnp.asarray(label)})
  assert loss.dtype == jnp.float32


def test_unknown_labels_are_nan_and_large_logits_are_not():
  logits = jnp.array([[1e4, -1e4, 0.0]] * 4)
  label = jnp.array([0, 1, 3, -1])
  loss = CrossEntropy()({"logits": logits}, {"label": label})
  np.testing.assert_allclose(loss, [0, 2e4, np.nan, np.nan])


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_impossible_smoothing(smoothing):
  with pytest.raises(ValueError, match="label_smoothing from 0 to below 1"):
    CrossEntropy(smoothing)


def test_wrong_shapes():
  with pytest.raises(ValueError, match=r"got \[5, 7\] and \[4\]"):
    CrossEntropy()(
      {"logits": jnp.zeros((5, 7))}, {"label": jnp.zeros(4, jnp.int32)}
    )
