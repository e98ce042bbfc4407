import functools

import jax
import numpy as np
import pytest
from module_checks import random_variables

from mmjax.encoders.text import RecurrentEncoder, TransformerEncoder

ENCODERS = {
  "recurrent": RecurrentEncoder(11, 5, 6, max_length=7),
  "transformer": TransformerEncoder(
    11, 6, num_layers=1, num_heads=3, mlp_dim=5, max_length=7
  ),
}
encoders = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)


def _encode(encoder, words, mask=None):
  words = np.asarray(words, np.int32)
  mask = np.ones(words.shape, bool) if mask is None else np.array(mask, bool)
  variables = random_variables(encoder.init, words, mask, train=False)
  return _apply_fn(encoder)(variables, words, mask).values


@functools.cache
def _apply_fn(encoder):
  return jax.jit(functools.partial(encoder.apply, train=False))


@encoders
def test_padding_does_not_change_the_words(encoder):
  short = _encode(encoder, [[3, 1, 4], [1, 5, 9]])
  mask = [[1, 1, 1, 0, 0]] * 2
  padded = _encode(encoder, [[3, 1, 4, 0, 0], [1, 5, 9, 2, 6]], mask)
  np.testing.assert_allclose(padded[:, :3], short, atol=1e-5)
  np.testing.assert_array_equal(padded[:, 3:], 0)


@encoders
def test_the_order_of_words_matters(encoder):
  one, other = _encode(encoder, [[3, 1, 4], [4, 1, 3]])
  assert np.abs(one[1] - other[1]).max() > 1e-3
  assert np.abs(one[0] - other[2]).max() > 1e-3


@encoders
def test_every_word_sees_every_other(encoder):
  one, other = _encode(encoder, [[3, 1, 4, 1, 5], [3, 1, 9, 1, 5]])
  assert np.all(np.abs(one - other).max(-1) > 1e-4)


def test_one_direction_sees_only_what_came_before():
  encoder = RecurrentEncoder(11, 5, 6, bidirectional=False)
  one, other = _encode(encoder, [[3, 1, 4, 1, 5], [3, 1, 9, 1, 5]])
  np.testing.assert_array_equal(one[:2], other[:2])
  assert np.all(np.abs(one - other).max(-1)[2:] > 1e-4)


@encoders
@pytest.mark.parametrize("word", [11, 999, -1])
def test_impossible_words_give_nan_unless_masked(encoder, word):
  values = _encode(encoder, [[3, word, 4], [3, 1, 4]])
  assert np.all(np.isnan(values[0, 1]))
  assert np.all(np.isfinite(values[1]))
  masked = _encode(encoder, [[3, word, 4]] * 2, [[1, 0, 1]] * 2)
  assert np.all(np.isfinite(masked))


@encoders
@pytest.mark.parametrize(
  ("words", "mask", "message"),
  [
    (np.zeros((2, 8), int), np.ones((2, 8), bool), "raise max_length"),
    (np.zeros((2, 5), int), np.ones((2, 4), bool), r"\[2, 5\] and \[2, 4\]"),
    (np.zeros(5, int), np.ones(5, bool), r"ids \[R, T\]"),
    (np.zeros((2, 5)), np.ones((2, 5), bool), "integer ids, got float"),
  ],
)
def test_wrong_words_are_named(encoder, words, mask, message):
  with pytest.raises(ValueError, match=message):
    encoder.init(jax.random.key(0), words, mask, train=False)
