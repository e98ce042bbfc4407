"""FiLM, the adaptation gate and convolution against loops over the tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases_early import CASES
from fusion_contract import ALIGNED_SIZE, Case, Fixture, make_tokens

from mmjax.array_types import Tokens
from mmjax.fusion.adaptation_gate import AdaptationGate, compute_scale
from mmjax.fusion.convolutional import ConvolutionalFusion
from mmjax.fusion.film import FiLM, modulate


def _dense(params, x):
  return x @ params["kernel"] + params.get("bias", 0)


def _norm(params, x):
  x = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
  return x * params["scale"] + params["bias"]


def _gaps(tokens):
  """Row 0 lacks the target text, row 1 all others, row 3 all."""
  out = {}
  for m in tokens:
    mask = np.array(tokens[m].mask)
    mask[3] = mask[0 if m == "text" else 1] = False
    out[m] = tokens[m].replace(mask=jnp.asarray(mask))
  return out


def _mean(tokens, b):
  """The pooled vector of one modality in example b, None if missing."""
  mask = np.asarray(tokens.mask[b])
  return np.asarray(tokens.values[b])[mask].mean(axis=0) if mask.any() else None


def _split(tokens, b):
  """The target's values and mask, and the present others' names."""
  target = tokens["text"]
  others = [m for m in tokens if m != "text" and tokens[m].mask[b].any()]
  return np.asarray(target.values[b]), np.array(target.mask[b]), others


@pytest.mark.parametrize("number", [2, 3, 5])
def test_film_equals_a_loop(number, fast_compilation):
  fixture = Fixture(CASES["film"], number)
  params = jax.tree.map(np.asarray, fixture.variables["params"]["condition"])
  for tokens in fixture.tokens, _gaps(fixture.tokens):
    out = fixture.apply(fixture.variables, tokens)
    for b in range(4):
      values, mask, others = _split(tokens, b)
      total = np.zeros(2 * values.shape[1])
      for m in others:
        total += _dense(params[m], _mean(tokens[m], b))
      scale, shift = total[:7], total[7:]
      for n in np.flatnonzero(mask):
        expected = values[n] * (1 + scale) + shift if others else values[n]
        np.testing.assert_allclose(out.values[b, n], expected, atol=1e-5)
      if others and not mask.any():  # the first token stands for the others
        np.testing.assert_allclose(out.values[b, 0], shift, atol=1e-5)
        mask[0] = True
      np.testing.assert_array_equal(out.mask[b], mask)


def test_modulation_by_hand():
  out = modulate(
    jnp.array([[[1.0, 2.0], [3.0, 4.0]]]),
    jnp.array([[1.0, -1.0]]),
    jnp.array([[0.0, 5.0]]),
  )
  np.testing.assert_array_equal(out, [[[2, 5], [6, 5]]])


def test_film_alone_is_the_identity_and_keeps_groups():
  tokens = make_tokens(CASES["film"], 1)["image"].replace(group_sizes=(2, 3))
  out = FiLM("image").apply({}, {"image": tokens}, train=False)
  mask = np.asarray(tokens.mask)
  np.testing.assert_array_equal(out.mask, mask)
  np.testing.assert_array_equal(out.values[mask], tokens.values[mask])
  assert out.group_sizes == (2, 3)


def _said(module, tokens, m, b, n):
  """What modality m says of token n of example b, None if nothing."""
  if not module.aligned:
    return _mean(tokens[m], b)
  there = bool(tokens[m].mask[b, n])
  return np.asarray(tokens[m].values[b, n]) if there else None


def _adapt(module, params, tokens, b, n):
  """The displaced and normed token, and its scale; None without either."""
  target = tokens["text"]
  x = np.zeros(target.values.shape[-1])
  if target.mask[b, n]:
    x = np.asarray(target.values[b, n])
  said = {
    m: s
    for m in tokens
    if m != "text" and (s := _said(module, tokens, m, b, n)) is not None
  }
  if not said:
    return _norm(params["norm"], x), None
  h = params["shift_bias"]
  for m, s in said.items():
    gate = np.maximum(_dense(params[f"gate_{m}"], np.append(x, s)), 0)
    h = h + gate * (s @ params[f"shift_{m}"]["kernel"])
  scale = 1.0
  if target.mask[b].any():
    ratio = module.beta * np.linalg.norm(x) / np.linalg.norm(h)
    scale = min(ratio, 1.0)
  return _norm(params["norm"], x + scale * h), scale


@pytest.mark.parametrize(
  ("aligned", "number"), [(False, 2), (False, 5), (True, 3)]
)
def test_adaptation_gate_equals_a_loop(aligned, number, fast_compilation):
  module = AdaptationGate("text", beta=0.3, aligned=aligned)
  fixture = Fixture(Case(lambda m: module, {}, aligned=aligned), number)
  params = jax.tree.map(np.asarray, fixture.variables["params"])
  scales = []
  for tokens in fixture.tokens, _gaps(fixture.tokens):
    out = fixture.apply(fixture.variables, tokens)
    for b in range(4):
      _, mask, others = _split(tokens, b)
      if not mask.any() and others:
        mask[0] = True
        if module.aligned:
          masks = [np.asarray(tokens[m].mask[b]) for m in others]
          mask = np.any(masks, axis=0)
      np.testing.assert_array_equal(out.mask[b], mask)
      for n in np.flatnonzero(mask):
        expected, scale = _adapt(module, params, tokens, b, n)
        np.testing.assert_allclose(out.values[b, n], expected, atol=5e-5)
        scales.append(scale)
  found = [scale for scale in scales if scale is not None]
  assert len(found) < len(scales)
  assert 0 < min(found) < max(found) == 1


def test_the_scale_by_hand():
  x, h = jnp.array([3.0, 4.0]), jnp.array([0.0, 10.0])
  assert compute_scale(x, h, 1.0).tolist() == [0.5]
  assert compute_scale(x, h, 1.5).tolist() == [0.75]
  assert compute_scale(x, h, 4.0).tolist() == [1.0]
  assert compute_scale(x, 0 * h, 1.0).tolist() == [1.0]
  assert compute_scale(0 * x, h, 1.0).tolist() == [0.0]


@pytest.mark.parametrize("factors", [(0, 1), (1, 0), (0, 0)])
def test_the_scale_has_a_gradient_at_zero(factors):
  x, h = (f * jnp.array([3.0, 4.0]) for f in factors)
  grads = jax.grad(
    lambda x, h: (compute_scale(x, h, 1.0) * h).sum(), argnums=(0, 1)
  )(x, h)
  assert np.isfinite(grads).all()


@pytest.mark.parametrize("module", [FiLM("speech"), AdaptationGate("speech")])
def test_an_unknown_target_is_named(module):
  tokens = make_tokens(CASES["film"], 2)
  with pytest.raises(ValueError, match=r"'speech' among.*got image, text; set"):
    module.init(jax.random.key(0), tokens, train=False)


def test_targets_that_are_not_aligned_are_named():
  tokens = make_tokens(CASES["film"], 3)
  with pytest.raises(ValueError, match="target, 7, got audio 3, image 5; set"):
    AdaptationGate("text", aligned=True).init(
      jax.random.key(0), tokens, train=False
    )


def _stacked(tokens, b, n):
  """The features of place n of all modalities, zeros where masked."""
  parts = [
    np.asarray(tokens[m].values[b, n]) if tokens[m].mask[b, n] else None
    for m in sorted(tokens)
  ]
  sizes = [tokens[m].values.shape[-1] for m in sorted(tokens)]
  return np.concatenate(
    [np.zeros(k) if p is None else p for p, k in zip(parts, sizes, strict=True)]
  )


@pytest.mark.parametrize("number", [1, 3])
def test_convolution_of_sequences_equals_a_loop(number, fast_compilation):
  fixture = Fixture(CASES["convolutional"], number)
  params = jax.tree.map(np.asarray, fixture.variables["params"]["conv"])
  tokens = fixture.tokens
  out = fixture.apply(fixture.variables, tokens)
  masks = [np.asarray(tokens[m].mask) for m in tokens]
  np.testing.assert_array_equal(out.mask, np.any(masks, axis=0))
  for b in range(4):
    for n in range(ALIGNED_SIZE):
      expected = params["bias"]
      for tap in (-1, 0, 1):
        if 0 <= n + tap < ALIGNED_SIZE:
          x = _stacked(tokens, b, n + tap)
          expected = expected + x @ params["kernel"][tap + 1]
      np.testing.assert_allclose(out.values[b, n], expected, atol=1e-5)


def test_convolution_of_grids_equals_a_loop(fast_compilation):
  rng = np.random.default_rng(5)
  tokens = {
    m: Tokens(
      jnp.asarray(rng.normal(size=(2, 6, width)), jnp.float32),
      jnp.asarray(rng.random((2, 6)) < 0.7),
    )
    for m, width in (("flow", 2), ("image", 5))
  }
  kernel = rng.normal(size=(3, 3, 7, 4)).astype(np.float32)
  bias = rng.normal(size=4).astype(np.float32)
  out = jax.jit(
    lambda t: ConvolutionalFusion(4, grid=(2, 3)).apply(
      {"params": {"conv": {"kernel": kernel, "bias": bias}}}, t, train=False
    )
  )(tokens)
  for b in range(2):
    for row in range(2):
      for column in range(3):
        expected = bias
        for i in range(max(row - 1, 0), min(row + 2, 2)):
          for j in range(max(column - 1, 0), min(column + 2, 3)):
            x = _stacked(tokens, b, 3 * i + j)
            expected = expected + x @ kernel[i - row + 1, j - column + 1]
        np.testing.assert_allclose(
          out.values[b, 3 * row + column], expected, atol=1e-5
        )


def test_tokens_that_are_not_aligned_or_fill_no_grid_are_named():
  tokens = make_tokens(CASES["film"], 2)
  with pytest.raises(ValueError, match=r"aligned.*got image 5, text 7"):
    ConvolutionalFusion(3).init(jax.random.key(0), tokens, train=False)
  with pytest.raises(ValueError, match=r"\(2, 3\) needs 6.*got image 5"):
    ConvolutionalFusion(3, grid=(2, 3)).init(
      jax.random.key(0), {"image": tokens["image"]}, train=False
    )
