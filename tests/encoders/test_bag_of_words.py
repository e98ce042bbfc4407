import functools

import jax
import numpy as np
import pytest
from module_checks import random_variables
from sklearn.feature_extraction.text import TfidfTransformer

from mmjax.encoders.bag_of_words import (
  BagOfWords,
  count_words,
  inverse_document_frequency,
)

pytestmark = pytest.mark.usefixtures("fast_compilation")

WORDS = np.random.default_rng(0).integers(0, 5, (7, 11)).astype(np.int32)
MASK = np.arange(11) < np.array([[11], [3], [7], [1], [0], [5], [2]])
COUNTS = np.stack(
  [np.bincount(w[m], minlength=6) for w, m in zip(WORDS, MASK, strict=True)]
)


@functools.cache
def _init(encoder):
  variables = random_variables(encoder.init, WORDS, MASK, train=False)
  return variables["params"], jax.jit(
    lambda *inputs: encoder.apply(variables, *inputs, train=False)
  )


def test_words_are_counted_where_present():
  counts = jax.jit(count_words, static_argnums=2)(WORDS, MASK, 6)
  np.testing.assert_array_equal(counts, COUNTS)
  wrong = np.where(MASK, WORDS, [[-1, 99] + [6] * 9])
  np.testing.assert_array_equal(count_words(wrong, MASK, 6), COUNTS)


def test_document_frequencies_are_those_of_sklearn():
  idf = inverse_document_frequency(WORDS, MASK, 6)
  np.testing.assert_allclose(idf, TfidfTransformer().fit(COUNTS).idf_)


@pytest.mark.parametrize("counting", ["count", "log", "presence"])
@pytest.mark.parametrize("weighed", [False, True])
def test_the_bag_is_that_of_sklearn(counting, weighed):
  idf = inverse_document_frequency(WORDS, MASK, 6) if weighed else ()
  encoder = BagOfWords(6, 7, counting=counting, idf=idf)
  params, apply_fn = _init(encoder)
  peer = TfidfTransformer(use_idf=weighed, sublinear_tf=counting == "log")
  peer.fit(COUNTS)
  counts = np.minimum(COUNTS, 1) if counting == "presence" else COUNTS
  bag = peer.transform(counts).toarray()
  token = bag @ params["out"]["kernel"] + params["out"]["bias"]
  spread = np.sqrt(token.var(-1, keepdims=True) + 1e-6)
  token = (token - token.mean(-1, keepdims=True)) / spread
  token = token * params["out_norm"]["scale"] + params["out_norm"]["bias"]
  tokens = apply_fn(WORDS, MASK)
  present = MASK.any(1)
  assert tokens.values.shape == (7, 1, 7)
  np.testing.assert_array_equal(tokens.mask[:, 0], present)
  np.testing.assert_allclose(
    tokens.values[present, 0], token[present], atol=1e-4
  )
  np.testing.assert_array_equal(tokens.values[~present], 0)


def test_batch_norm_takes_away_what_all_texts_share():
  """A word that all texts have, and nothing else, changes no text."""
  encoder = BagOfWords(9, 7, norm="batch")
  params = encoder.init(jax.random.key(0), WORDS, MASK, train=False)["params"]

  def run(words, mask, **settings):
    return encoder.apply({"params": params}, words, mask, **settings)

  present = MASK.any(1)
  tokens, sown = run(WORDS, MASK, train=True, mutable=["running"])
  values = tokens.values[present, 0]
  np.testing.assert_allclose(values.mean(axis=0), np.zeros(7), atol=1e-5)
  np.testing.assert_allclose(values.std(axis=0), np.ones(7), atol=1e-2)
  np.testing.assert_array_equal(tokens.values[~present], 0)
  assert list(sown["running"]["out_norm"]) == ["mean", "variance"]
  shared = np.full((7, 1), 8, np.int32)
  alike = np.concatenate([WORDS[:, :1], shared], axis=1), np.ones((7, 2), bool)
  alone = WORDS[:, :1], np.ones((7, 1), bool)
  np.testing.assert_allclose(
    run(*alike, train=True).values, run(*alone, train=True).values, atol=1e-3
  )
  # In evaluation a text is by itself.
  one = run(WORDS[1:2], MASK[1:2], train=False)
  np.testing.assert_allclose(
    run(WORDS, MASK, train=False).values[1:2], one.values, atol=1e-6
  )


def test_an_unknown_norm_is_told():
  with pytest.raises(ValueError, match="'none'; it must be 'layer' or 'batch'"):
    _init(BagOfWords(6, 7, norm="none"))


def test_the_order_of_words_means_nothing():
  _, apply_fn = _init(BagOfWords(6, 7))
  turned = apply_fn(WORDS[:, ::-1], MASK[:, ::-1])
  jax.tree.map(np.testing.assert_array_equal, turned, apply_fn(WORDS, MASK))


@pytest.mark.parametrize("counting", ["count", "log", "presence"])
@pytest.mark.parametrize("word", [6, 999, -1])
def test_impossible_words_give_nan(counting, word):
  _, apply_fn = _init(BagOfWords(6, 7, counting=counting))
  words = WORDS.copy()
  words[2, 4] = word
  values = apply_fn(words, MASK).values
  assert np.all(np.isnan(values[2]))
  assert np.all(np.isfinite(np.delete(values, 2, axis=0)))


@pytest.mark.parametrize(
  ("encoder", "words", "mask", "message"),
  [
    (BagOfWords(6, 7), WORDS, MASK[:, :3], r"\[7, 11\] and \[7, 3\]"),
    (BagOfWords(6, 7), WORDS[0], MASK[0], r"ids \[R, T\]"),
    (BagOfWords(6, 7), np.float32(WORDS), MASK, "integer ids, got float32"),
    (BagOfWords(6, 7, counting="sqrt"), WORDS, MASK, "'sqrt'"),
    (BagOfWords(6, 7, idf=(1.0,)), WORDS, MASK, "6 word ids, or none, got 1"),
  ],
)
def test_what_cannot_be_is_named(encoder, words, mask, message):
  with pytest.raises(ValueError, match=message):
    random_variables(encoder.init, words, mask, train=False)


def test_words_beyond_the_vocabulary_have_no_frequency():
  with pytest.raises(ValueError, match=r"\[0, 3\), got 0 to 4"):
    inverse_document_frequency(WORDS, MASK, 3)
