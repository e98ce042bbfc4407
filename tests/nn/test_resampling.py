"""Resampling beside a brute-force average of repeated tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.array_types import Tokens
from mmjax.nn.resampling import resample_tokens


def make_tokens(mask):
  rng = np.random.default_rng(0)
  mask = np.array(mask, bool)
  return Tokens(
    jnp.asarray(rng.normal(size=(*mask.shape, 3)), jnp.float32),
    jnp.asarray(mask),
  )


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7, 11])
def test_equals_repeating_each_token_and_cutting(length):
  tokens = make_tokens([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 1, 0, 0]])
  out = resample_tokens(tokens, length)
  assert out.mask.all()
  for row in range(3):
    present = np.asarray(tokens.values[row])[np.asarray(tokens.mask[row])]
    fine = np.repeat(present, length, axis=0)  # n L pieces, n of them a span
    expected = fine.reshape(length, len(present), 3).mean(axis=1)
    np.testing.assert_allclose(out.values[row], expected, atol=1e-6)


def test_as_many_stay_as_they_are():
  tokens = make_tokens([[1, 1, 1, 1, 1, 1, 1]])
  np.testing.assert_allclose(
    resample_tokens(tokens, 7).values, tokens.values, rtol=1e-6
  )


def test_masked_content_and_rows_without_tokens():
  tokens = make_tokens([[1, 1, 0], [0, 0, 0]])
  spoiled = tokens.replace(
    values=jnp.where(tokens.mask[..., None], tokens.values, jnp.nan)
  )

  def total(values, tokens):
    return resample_tokens(tokens.replace(values=values), 5).values.sum()

  out, other = (resample_tokens(t, 5) for t in (tokens, spoiled))
  np.testing.assert_array_equal(out.values, other.values)
  assert out.mask[0].all()
  assert not out.mask[1].any()
  assert (np.asarray(out.values[1]) == 0).all()
  grad = jax.grad(total)(spoiled.values, spoiled)
  np.testing.assert_allclose(grad[0, :2], 2.5, rtol=1e-5)
  np.testing.assert_array_equal(grad[0, 2], 0)


def test_half_precision_keeps_its_dtype():
  tokens = make_tokens([[1, 1, 1]])
  half = tokens.replace(values=tokens.values.astype(jnp.bfloat16))
  assert resample_tokens(half, 2).values.dtype == jnp.bfloat16
