import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import random_variables

from mmjax.models.combination import RULES, Combination, vote

# Three modalities, four examples, three classes; example 1 lacks "b", 2 has
# "c" alone, 3 nothing.
PROBS = {
  "a": [[0.5, 0.3, 0.2], [0.6, 0.1, 0.3], [0.9, 0.05, 0.05], [1 / 3] * 3],
  "b": [[0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]],
  "c": [[0.1, 0.7, 0.2], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4], [0.8, 0.1, 0.1]],
}
PRESENT = {"a": [1, 1, 0, 0], "b": [1, 0, 0, 0], "c": [1, 1, 1, 0]}
PRESENT = {m: jnp.array(v, bool) for m, v in PRESENT.items()}
# Any constant added to the logits of an example changes nothing.
LOGITS = {m: jnp.log(jnp.array(p)) + 3.0 for m, p in PROBS.items()}
PROBS = {m: np.array(p) for m, p in PROBS.items()}
SHARES = {"a": 0.2, "b": 0.5, "c": 0.3}


@functools.cache
def _compiled(rule):
  def run(params, logits, present):
    return Combination(rule).apply(
      {"params": params},
      logits,
      present,
      train=False,
      mutable=["intermediates"],
    )

  return jax.jit(run)


def _run(rule, params=None, logits=LOGITS, present=PRESENT):
  return _compiled(rule)(params or {}, logits, present)[0]


def _norm(scores):
  powers = np.exp(scores)
  return powers / powers.sum(axis=-1, keepdims=True)


def _present(b):
  return [m for m in PROBS if PRESENT[m][b]]


def test_mean_by_hand(fast_compilation):
  out = _run("mean")
  np.testing.assert_allclose(np.exp(out[0]), [0.8 / 3, 1.3 / 3, 0.3], atol=1e-6)
  np.testing.assert_allclose(np.exp(out[1]), [0.4, 0.3, 0.3], atol=1e-6)
  np.testing.assert_allclose(np.exp(out[2]), [0.3, 0.3, 0.4], atol=1e-6)
  np.testing.assert_array_equal(out[3], 0)


def test_product_of_experts_by_hand(fast_compilation):
  out = _run("product")
  # .5 * .2 * .1 to .3 * .3 * .7 to .2 * .5 * .2
  expected = np.array([0.010, 0.063, 0.020])
  np.testing.assert_allclose(_norm(out[0]), expected / 0.093, atol=1e-6)
  expected = np.array([0.12, 0.05, 0.09])
  np.testing.assert_allclose(_norm(out[1]), expected / 0.26, atol=1e-6)
  np.testing.assert_allclose(_norm(out[2]), [0.3, 0.3, 0.4], atol=1e-6)
  np.testing.assert_array_equal(out[3], 0)


def test_weighted_shares_what_a_missing_modality_leaves(fast_compilation):
  params = {f"score_{m}": np.log(share) for m, share in SHARES.items()}
  out = _run("weighted", params)
  for b in range(3):
    total = sum(SHARES[m] for m in _present(b))
    expected = sum(SHARES[m] / total * PROBS[m][b] for m in _present(b))
    np.testing.assert_allclose(np.exp(out[b]), expected, atol=1e-6)
  np.testing.assert_array_equal(out[3], 0)


def test_weights_are_sown(fast_compilation):
  params = {f"score_{m}": jnp.zeros(()) for m in PROBS}
  _, state = _compiled("weighted")(params, LOGITS, PRESENT)
  (weights,) = state["intermediates"]["weights"]
  expected = [[1 / 3] * 3, [0.5, 0, 0.5], [0, 0, 1]]
  np.testing.assert_allclose(weights[:3], expected, atol=1e-6)


def test_stacking_is_linear_in_the_log_probabilities(fast_compilation):
  rng = np.random.default_rng(3)
  kernels = {m: rng.normal(size=(3, 3)).astype(np.float32) for m in PROBS}
  bias = rng.normal(size=3).astype(np.float32)
  params = {f"from_{m}": {"kernel": kernels[m]} for m in PROBS}
  out = _run("stacking", {**params, "bias": bias})
  for b in range(3):
    expected = bias + sum(np.log(PROBS[m][b]) @ kernels[m] for m in _present(b))
    np.testing.assert_allclose(out[b], expected, atol=1e-5)
  np.testing.assert_array_equal(out[3], 0)


def test_stacking_starts_as_the_product(fast_compilation):
  inputs = LOGITS, PRESENT
  variables = Combination("stacking").init(
    jax.random.key(0), *inputs, train=False
  )
  out = _run("stacking", variables["params"])
  np.testing.assert_allclose(out, _run("product"), atol=1e-6)


def test_vote_by_hand(fast_compilation):
  out = _run("vote")
  # One vote for each class: the mean of the distributions decides.
  np.testing.assert_allclose(
    np.exp(out[0]), [(1 + 0.8 / 3) / 4, (1 + 1.3 / 3) / 4, 1.3 / 4], atol=1e-6
  )
  # "a" votes for 0 and "c" for 1: 0 has the larger mean.
  np.testing.assert_allclose(
    np.exp(out[1]), [1.4 / 3, 1.3 / 3, 0.3 / 3], atol=1e-6
  )
  np.testing.assert_allclose(np.exp(out[2]), [0.15, 0.15, 0.7], atol=1e-6)
  np.testing.assert_array_equal(out[3], 0)


def test_a_majority_is_never_overruled(fast_compilation):
  """Counted with integers, for random voters from vague to certain."""
  rng = np.random.default_rng(5)
  scale = 10.0 ** rng.integers(-2, 4, (4001, 5, 1))
  logits = (rng.normal(size=(4001, 5, 7)) * scale).astype(np.float32)
  log_probs = np.asarray(jax.nn.log_softmax(logits))
  mask = rng.random((4001, 5)) < 0.7
  mask[:, 0] = True
  scores = np.asarray(jax.jit(vote)(log_probs, mask))
  assert np.isfinite(scores).all()
  np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-5)
  ties = 0
  for b in range(4001):
    counts = np.bincount(log_probs[b].argmax(axis=-1)[mask[b]], minlength=7)
    best = np.flatnonzero(counts == counts.max())
    mean = np.exp(log_probs[b][mask[b]].astype(np.float64)).mean(axis=0)[best]
    ties += len(best) > 1
    winner = best[mean.argmax()]
    clear = np.sort(mean)[-1] - np.sort(mean)[-2:][0] > 1e-5
    if len(best) == 1 or clear:
      assert scores[b].argmax() == winner
    else:
      assert scores[b].argmax() in best
  assert 500 < ties < 3500


@pytest.mark.parametrize("rule", RULES)
def test_content_of_what_is_missing_reaches_nothing(rule, fast_compilation):
  params = random_variables(
    Combination(rule).init, LOGITS, PRESENT, train=False
  )
  dirty = {
    m: jnp.where(PRESENT[m][:, None], LOGITS[m], jnp.nan) for m in LOGITS
  }

  @jax.jit
  @jax.value_and_grad
  def total(params, logits):
    out = Combination(rule).apply(params, logits, PRESENT, train=False)
    return (out * jnp.arange(3.0)).sum()

  value, grads = total(params, LOGITS)
  assert np.isfinite(value)
  new_value, new_grads = total(params, dirty)
  assert new_value == value
  jax.tree.map(np.testing.assert_array_equal, grads, new_grads)
  for leaf in jax.tree.leaves(grads):
    assert np.abs(leaf).max() > 1e-4


@pytest.mark.parametrize("rule", RULES[:4])
def test_one_modality_decides_alone(rule, fast_compilation):
  logits, present = {"a": LOGITS["a"]}, {"a": PRESENT["a"]}
  variables = random_variables(
    Combination(rule).init, logits, present, train=False
  )
  assert not jax.tree.leaves(variables)
  out = _run(rule, None, logits, present)
  for b in range(2):
    assert out[b].argmax() == PROBS["a"][b].argmax()
    if rule != "vote":
      np.testing.assert_allclose(np.exp(out[b]), PROBS["a"][b], atol=1e-6)


def test_errors():
  with pytest.raises(ValueError, match=r"mean, .*, stacking, got 'median'"):
    _run("median")
  wrong = {**LOGITS, "b": jnp.zeros((4, 2))}
  with pytest.raises(ValueError, match=r"got a \[4, 3\], b \[4, 2\]"):
    _run("mean", logits=wrong)
