"""Low-rank fusion: its formula, the whole tensor, its start, and PyTorch."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vector_tokens import as_tokens, count_parameters, make_vectors, run, setup

from mmjax.fusion.low_rank import LowRankFusion, factor_initializer
from mmjax.fusion.tensor import TensorFusion

WIDTHS = {"text": 3, "audio": 2, "image": 5}
NAMES = "abcde"

pytestmark = pytest.mark.usefixtures("fast_compilation")


def test_rank_is_checked():
  with pytest.raises(ValueError, match="'low_rank' needs rank of at least 1"):
    count_parameters(LowRankFusion(1, rank=0), WIDTHS)


def test_it_is_its_formula():
  vectors, params, out = setup(LowRankFusion(7, rank=2), WIDTHS)
  expected = np.zeros((3, 7))
  for b, w in itertools.product(range(3), range(7)):
    expected[b, w] = params["bias"][w]
    for r in range(2):
      product = params["rank_weights"][r]
      for m, vector in vectors.items():
        factor = params[f"{m}_factor"][r, :, w]
        product *= vector[b] @ factor[:-1] + factor[-1]
      expected[b, w] += product
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_a_missing_modality_leaves_the_product_of_the_others():
  module = LowRankFusion(7, rank=2)
  vectors, params, _ = setup(module, WIDTHS)
  out = run(module, {"params": params}, as_tokens(vectors, ["image"]))
  zeros = {**vectors, "image": np.zeros_like(vectors["image"])}
  expected = run(module, {"params": params}, as_tokens(zeros))
  np.testing.assert_allclose(out, expected, atol=1e-6)


def test_the_whole_tensor_is_a_low_rank_fusion_of_enough_rank():
  """A term for each element of all modes but the last: picked, then weighed.

  Rank (2 + 1) (5 + 1) = 18 makes any weights of 3 x 6 x 4 features: the first
  factors pick one element each, the last one holds the weights.
  """
  vectors, params, out = setup(TensorFusion(7), WIDTHS)
  kernel = params["out"]["kernel"].reshape(3, 6, 4, 7)  # audio, image, text
  pairs = list(itertools.product(range(3), range(6)))
  rank = len(pairs)
  factors = {
    "audio_factor": np.stack([np.eye(3)[i] for i, _ in pairs]),
    "image_factor": np.stack([np.eye(6)[j] for _, j in pairs]),
  }
  factors = {
    name: np.broadcast_to(picked[..., None], (*picked.shape, 7))
    for name, picked in factors.items()
  }
  factors["text_factor"] = kernel.reshape(rank, 4, 7)
  low_rank = {
    **{name: np.float32(factor) for name, factor in factors.items()},
    "rank_weights": np.ones(rank, np.float32),
    "bias": params["out"]["bias"],
  }
  module = LowRankFusion(7, rank=rank)
  assert np.abs(out).max() > 0.1
  for missing in ((), ("image",)):
    tokens = as_tokens(vectors, missing)
    expected = run(TensorFusion(7), {"params": params}, tokens)
    np.testing.assert_allclose(
      run(module, {"params": low_rank}, tokens), expected, atol=1e-5
    )


@functools.cache
def outputs_at_the_start(number):
  """[256, 64] of inputs of mean square one, at the initial parameters."""
  module = LowRankFusion(64, rank=5)
  widths = {m: 7 * (i + 2) for i, m in enumerate(NAMES[:number])}
  tokens = as_tokens(make_vectors(widths, batch=256))

  def total(variables):
    values = module.apply(variables, tokens, train=False).values[:, 0]
    return (values * jnp.sin(jnp.arange(values.size)).reshape(256, 64)).sum()

  def start(rng):
    out, variables = module.init_with_output(rng, tokens, train=False)
    return out.values[:, 0], jax.grad(total)(variables)["params"]

  return jax.tree.map(np.asarray, jax.jit(start)(jax.random.key(0)))


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_the_product_starts_at_a_fair_size(number):
  """Neither spread nor the typical size depends on the number of factors."""
  out, _ = outputs_at_the_start(number)
  expected = 1 - (1 + 1 / number) ** -number
  assert out.var(axis=0).mean() == pytest.approx(expected, rel=0.25)
  assert np.square(out).mean() == pytest.approx(1, rel=0.25)
  assert 0.3 < np.median(np.abs(out)) < 0.8


@pytest.mark.parametrize("number", [2, 5])
def test_every_factor_trains_from_the_start(number):
  """Gradients of all factors, features and ones, are of like size."""
  _, grads = outputs_at_the_start(number)
  sizes = []
  for m in NAMES[:number]:
    grad = grads[f"{m}_factor"]
    sizes += [np.abs(grad[:, :-1]).mean(), np.abs(grad[:, -1]).mean()]
    assert (np.abs(grad).max(axis=(1, 2)) > 0).all()  # every rank
  assert min(sizes) > 0.3 * max(sizes)


def test_the_initializer_gives_signs_and_small_rows():
  factor = factor_initializer(3)(jax.random.key(0), (5, 12, 64), "float32")
  np.testing.assert_allclose(np.abs(factor[:, -1]), 0.75**0.5, rtol=1e-6)
  assert abs(np.sign(factor[:, -1]).mean()) < 0.2
  assert factor[:, :-1].var() == pytest.approx(1 / (4 * 11), rel=0.1)


def test_it_equals_pytorch():
  """Outputs and gradients, with the sum as the authors' program has it."""
  torch = pytest.importorskip("torch")
  module = LowRankFusion(7, rank=2)
  vectors, params, out = setup(module, WIDTHS)
  weights = np.random.default_rng(1).normal(size=(3, 7)).astype(np.float32)

  def total(params):
    fused = module.apply({"params": params}, as_tokens(vectors), train=False)
    return (fused.values[:, 0] * weights).sum()

  grads = jax.jit(jax.grad(total))(params)
  learned = {
    name: torch.tensor(value, requires_grad=True)
    for name, value in params.items()
  }
  product = torch.ones(2, 3, 7)
  for m, vector in vectors.items():
    end = torch.cat([torch.tensor(vector), torch.ones(3, 1)], 1)
    product = product * torch.matmul(end, learned[f"{m}_factor"])
  ranks = learned["rank_weights"][None]
  expected = torch.matmul(ranks, product.permute(1, 0, 2))[:, 0]
  expected = expected + learned["bias"]
  (expected * torch.tensor(weights)).sum().backward()

  np.testing.assert_allclose(out, expected.detach().numpy(), atol=1e-5)
  for name, value in learned.items():
    np.testing.assert_allclose(grads[name], value.grad.numpy(), atol=1e-5)
