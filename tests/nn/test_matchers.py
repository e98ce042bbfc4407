"""Matchers of regions and words: nothing that is absent is read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import random_variables

from mmjax.array_types import Tokens
from mmjax.nn.graph_matching import GraphMatcher
from mmjax.nn.matching import (
  CrossAttentionMatcher,
  Pairs,
  Phrases,
  PooledMatcher,
)

pytestmark = pytest.mark.usefixtures("fast_compilation")

CONTROL = GraphMatcher(6, num_heads=2, num_rounds=2, mlp_dim=7, within=False)
MATCHERS = {
  "pooled": PooledMatcher(5),
  "attention": CrossAttentionMatcher(6, num_heads=2, mlp_dim=7),
  "graph": GraphMatcher(6, num_heads=2, num_rounds=2, mlp_dim=7),
  "control": CONTROL,
}


@pytest.mark.parametrize("name", MATCHERS)
def test_nothing_that_is_masked_is_read(name):
  """Not even where it is no number: in scores, or in any gradient."""
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  regions = Tokens(draw(3, 5, 6), jnp.arange(5) < jnp.array([[5], [3], [1]]))
  words = Tokens(draw(3, 7, 6), jnp.arange(7) < jnp.array([[6], [7], [2]]))
  spans = jnp.array([[[0, 3], [3, 6]], [[0, 4], [4, 7]], [[0, 2], [0, 0]]])
  phrases = Phrases(spans, jnp.array([[1, 1], [1, 1], [1, 0]], bool))
  pairs = Pairs(jnp.array([0, 1, 2, 0]), jnp.array([0, 1, 2, 1]))
  matcher = MATCHERS[name]
  variables = random_variables(
    functools.partial(matcher.init, train=False), regions, words, phrases, pairs
  )

  def fill(tokens, value):
    return jnp.where(tokens.mask[..., None], tokens.values, value)

  def apply(value):
    @jax.jit
    def total(variables, region_values, word_values):
      scores = matcher.apply(
        variables,
        Tokens(region_values, regions.mask),
        Tokens(word_values, words.mask),
        phrases,
        pairs,
        train=False,
      )
      return scores.sum(), scores

    grad_fn = jax.value_and_grad(total, (0, 1, 2), has_aux=True)
    return grad_fn(variables, fill(regions, value), fill(words, value))

  zeros, wild = apply(0.0), apply(jnp.nan)
  for expected, found in zip(
    jax.tree.leaves(zeros), jax.tree.leaves(wild), strict=True
  ):
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("name", MATCHERS)
def test_padding_changes_no_score(name):
  """More places for regions, words and phrases, whatever stands in them."""
  rng = np.random.default_rng(3)

  def draw(*shape):
    return rng.normal(size=shape).astype(np.float32)

  regions = Tokens(draw(2, 4, 6), np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool))
  words = Tokens(draw(2, 5, 6), np.array([[1] * 5, [1, 1, 1, 0, 0]], bool))
  phrases = Phrases(
    np.array([[[0, 2], [2, 5]], [[0, 3], [0, 0]]]),
    np.array([[1, 1], [1, 0]], bool),
  )
  pairs = Pairs(jnp.array([0, 1, 0, 1]), jnp.array([0, 1, 1, 0]))

  def pad(values, filling):
    return np.concatenate([values, filling], axis=1)

  absent = np.zeros((2, 2), bool)
  padded = (
    Tokens(pad(regions.values, draw(2, 2, 6)), pad(regions.mask, absent)),
    Tokens(pad(words.values, draw(2, 2, 6)), pad(words.mask, absent)),
    Phrases(
      pad(phrases.spans, [[[0, 5], [1, 3]]] * 2), pad(phrases.mask, absent)
    ),
  )
  matcher = MATCHERS[name]
  variables = random_variables(
    functools.partial(matcher.init, train=False), regions, words, phrases, pairs
  )
  run = jax.jit(functools.partial(matcher.apply, train=False))
  expected = run(variables, regions, words, phrases, pairs)
  found = run(variables, *padded, pairs)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MATCHERS)
def test_nothing_to_look_at_and_nothing_said(name):
  """A picture without regions, a caption without words: a score, a gradient."""
  rng = np.random.default_rng(2)
  values = jnp.asarray(rng.normal(size=(2, 2, 4, 6)), jnp.float32)
  some = jnp.array([[True] * 4, [False] * 4])
  phrases = Phrases(
    jnp.array([[[0, 2], [2, 4]], [[0, 0], [0, 0]]]),
    jnp.array([[True, True], [False, False]]),
  )
  arguments = (
    Tokens(values[0], some),
    Tokens(values[1], some),
    phrases,
    Pairs(jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])),
  )
  matcher = MATCHERS[name]
  variables = random_variables(
    functools.partial(matcher.init, train=False), *arguments
  )

  @jax.jit
  def total(variables):
    scores = matcher.apply(variables, *arguments, train=False)
    return scores.sum(), scores

  (_, scores), gradients = jax.value_and_grad(total, has_aux=True)(variables)
  for found in (scores, *jax.tree.leaves(gradients)):
    assert np.isfinite(found).all()
  assert scores[0] != scores[2]  # the caption is not said of an empty picture
  if name != "pooled":  # Nothing is claimed, so nothing can be false.
    np.testing.assert_array_equal(scores[1::2], 0.0)


@pytest.mark.parametrize("within", [True, False])
def test_edges_within_a_caption_can_be_left_out(within):
  """Without them a score is a sum over phrases, each by itself."""
  rng = np.random.default_rng(1)
  parts = jnp.asarray(rng.normal(size=(2, 2, 3, 6)), jnp.float32)
  # All four captions of two first and two second phrases of three words.
  words = jnp.stack(
    [jnp.concatenate([parts[0, i], parts[1, j]]) for i, j in np.ndindex(2, 2)]
  )
  regions = Tokens(
    jnp.asarray(rng.normal(size=(1, 5, 6)), jnp.float32), jnp.ones((1, 5), bool)
  )
  phrases = Phrases(jnp.array([[[0, 3], [3, 6]]] * 4), jnp.ones((4, 2), bool))
  arguments = (
    regions,
    Tokens(words, jnp.ones((4, 6), bool)),
    phrases,
    Pairs(jnp.zeros(4, int), jnp.arange(4)),
  )
  matcher = CONTROL.clone(within=within)
  variables = random_variables(
    functools.partial(matcher.init, train=False), *arguments
  )
  scores = jax.jit(functools.partial(matcher.apply, train=False))(
    variables, *arguments
  )
  left, right = scores[0] + scores[3], scores[1] + scores[2]
  assert (abs(left - right) > 1e-3) == within
  # Nodes are added outside of the layers, so that these have no part for them.
  assert "own_" not in str(jax.tree_util.tree_structure(variables))


@pytest.mark.parametrize("within", [True, False])
def test_edges_within_a_picture_can_be_left_out(within):
  """Without them no region changes how phrases weigh the others."""
  rng = np.random.default_rng(4)
  regions = rng.normal(size=(2, 5, 6)).astype(np.float32)
  regions[1, :4] = regions[0, :4]  # the pictures differ in the last region
  words = jnp.asarray(rng.normal(size=(1, 6, 6)), jnp.float32)
  arguments = (
    Tokens(regions, jnp.ones((2, 5), bool)),
    Tokens(words, jnp.ones((1, 6), bool)),
    Phrases(jnp.array([[[0, 3], [3, 6]]]), jnp.ones((1, 2), bool)),
    Pairs(jnp.arange(2), jnp.zeros(2, int)),
  )
  matcher = CONTROL.clone(within=within)
  variables = random_variables(
    functools.partial(matcher.init, train=False), *arguments
  )
  run = functools.partial(matcher.apply, train=False, mutable="intermediates")
  _, shown = jax.jit(run)(variables, *arguments)
  sown = shown["intermediates"]["round_0"]["layers_region_under_phrase"]
  (shares,) = sown["attention"]
  assert shares.shape == (2, 2, 2, 5)  # picture, head, phrase, region
  # In the ratio of two shares nothing of a third region is left.
  ratios = np.log(shares[..., :3] / shares[..., 3:4])
  assert (np.abs(ratios[0] - ratios[1]).max() > 1e-3) == within
  # The last region is seen all the same.
  assert np.abs(shares[0, ..., 4] - shares[1, ..., 4]).max() > 1e-2
