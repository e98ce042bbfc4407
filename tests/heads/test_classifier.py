import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.array_types import Tokens
from mmjax.heads.classifier import Classifier

POOL = 5 * 5 + 5 + 5  # of width 5
CASES = {
  "mean": (7, 10 * 2 + 10 * 11 + 11 + 11 * 7 + 7),
  "max": (7, 10 * 2 + 10 * 11 + 11 + 11 * 7 + 7),
  "attention": (7, 2 * POOL + 10 * 2 + 10 * 11 + 11 + 11 * 7 + 7),
}
every = pytest.mark.parametrize("pooling", CASES)


@functools.cache
def _setup(pooling):
  rng = np.random.default_rng(0)
  module = Classifier(7, hidden=11, pooling=pooling)
  mask = np.array([[1, 1, 1, 1, 0], [1, 0, 1, 1, 1], [1, 1, 0, 1, 1]], bool)
  values = jnp.asarray(rng.normal(size=(3, 5, 5)), jnp.float32)
  tokens = Tokens(values, jnp.asarray(mask), (3, 2))
  variables = jax.jit(lambda rng: module.init(rng, tokens, train=False))(
    jax.random.key(0)
  )
  apply_fn = jax.jit(lambda v, t: module.apply(v, t, train=False)["logits"])
  return module, variables, tokens, apply_fn


@every
def test_shape_dtype_and_number_of_parameters(pooling):
  module, variables, tokens, apply_fn = _setup(pooling)
  classes, parameters = CASES[pooling]
  logits = apply_fn(variables, tokens)
  assert logits.shape == (3, classes)
  assert sum(x.size for x in jax.tree.leaves(variables)) == parameters
  half = module.clone(dtype="bfloat16").apply(variables, tokens, train=False)
  assert half["logits"].dtype == logits.dtype == jnp.float32
  np.testing.assert_allclose(half["logits"], logits, atol=0.1)


@every
def test_masked_content_changes_nothing(pooling):
  _, variables, tokens, apply_fn = _setup(pooling)
  values = jnp.where(tokens.mask[..., None], tokens.values, jnp.nan)
  np.testing.assert_array_equal(
    apply_fn(variables, tokens.replace(values=values)),
    apply_fn(variables, tokens),
  )


@every
def test_missing_group_is_zeros_and_leaves_the_other(pooling):
  module, variables, tokens, apply_fn = _setup(pooling)
  for first, last in ((0, 3), (3, 5), (0, 5)):
    mask = tokens.mask.at[:, first:last].set(False)
    logits = apply_fn(variables, tokens.replace(mask=mask))
    assert np.isfinite(logits).all()
  mask = tokens.mask.at[:, :3].set(False)
  _, state = module.apply(
    variables,
    tokens.replace(mask=mask),
    train=False,
    capture_intermediates=lambda m, _: m.name == "norm",
  )
  normed = np.asarray(state["intermediates"]["norm"]["__call__"][0])
  assert (np.ptp(normed[:, :5], axis=1) < 1e-6).all()
  assert (np.ptp(normed[:, 5:], axis=1) > 0.1).all()


@every
def test_groups_are_pooled_apart(pooling):
  _, variables, tokens, apply_fn = _setup(pooling)
  logits = apply_fn(variables, tokens)
  order = np.array([2, 0, 1, 4, 3])
  same = Tokens(tokens.values[:, order], tokens.mask[:, order], (3, 2))
  np.testing.assert_allclose(apply_fn(variables, same), logits, atol=2e-6)
  order = np.array([3, 1, 2, 0, 4])
  other = Tokens(tokens.values[:, order], tokens.mask[:, order], (3, 2))
  assert np.abs(apply_fn(variables, other) - logits).max() > 1e-3


@every
def test_every_parameter_gets_a_gradient(pooling):
  module, variables, tokens, _ = _setup(pooling)
  target = np.random.default_rng(1).normal(size=(3, 7))

  @jax.jit
  @jax.grad
  def grad(variables):
    logits = module.apply(variables, tokens, train=False)["logits"]
    return (logits * target).sum()

  sizes = [float(jnp.abs(g).max()) for g in jax.tree.leaves(grad(variables))]
  assert np.isfinite(sizes).all()
  assert min(sizes) > 1e-5 * np.median(sizes)


def test_attention_pools_sow_their_weights():
  module, variables, tokens, _ = _setup("attention")
  _, state = module.apply(
    variables, tokens, train=False, mutable=["intermediates"]
  )
  for number, size in ((0, 3), (1, 2)):
    (weights,) = state["intermediates"][f"pool_{number}"]["pool"]
    assert weights.shape == (3, size)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


def test_dropout_is_on_in_training_only():
  module, variables, tokens, apply_fn = _setup("mean")
  module = module.clone(dropout_rate=0.5)
  kept = module.apply(variables, tokens, train=False)["logits"]
  np.testing.assert_allclose(kept, apply_fn(variables, tokens), atol=2e-6)
  a, b = (
    module.apply(
      variables, tokens, train=True, rngs={"dropout": jax.random.key(seed)}
    )["logits"]
    for seed in (0, 1)
  )
  assert np.abs(a - b).max() > 1e-3


def test_errors():
  tokens = _setup("mean")[2]
  with pytest.raises(ValueError, match="'attention', got 'sum'"):
    Classifier(7, pooling="sum").init(jax.random.key(0), tokens, train=False)
  with pytest.raises(ValueError, match=r"\(3, 3\).*\[3, 5, 5\]"):
    Classifier(7).init(
      jax.random.key(0), tokens.replace(group_sizes=(3, 3)), train=False
    )


def test_without_a_norm_amounts_stay_as_they_are():
  """Twice as much of everything is twice as much behind the pool."""
  _, _, tokens, _ = _setup("mean")
  module = Classifier(7, hidden=11, pooling="mean", norm=False)
  params = module.init(jax.random.key(0), tokens, train=False)["params"]
  assert list(params) == ["hidden", "logits"]

  def run(tokens):
    return module.apply({"params": params}, tokens, train=False)["logits"]

  pooled = np.concatenate(
    [
      np.stack([v[m].mean(axis=0) for v, m in zip(values, mask, strict=True)])
      for values, mask in (
        (np.asarray(group.values), np.asarray(group.mask))
        for group in tokens.split_groups()
      )
    ],
    axis=1,
  )
  for factor in 1, 2:
    hidden = factor * pooled @ params["hidden"]["kernel"]
    expected = np.maximum(hidden, 0) @ params["logits"]["kernel"]
    found = run(tokens.replace(values=factor * tokens.values))
    np.testing.assert_allclose(found, expected, atol=1e-5)
