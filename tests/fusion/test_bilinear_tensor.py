"""Tensor fusion against its formula, the paper's size, and PyTorch."""

import itertools

import jax
import numpy as np
import pytest
from vector_tokens import as_tokens, count_parameters, make_vectors, run, setup

from mmjax.fusion.tensor import TensorFusion, outer_product

WIDTHS = {"text": 3, "audio": 2, "image": 5}

pytestmark = pytest.mark.usefixtures("fast_compilation")


def test_two_numbers_by_hand():
  """(2, 1) x (3, 1) = 6, 2, 3, 1, weighed by 1, 10, 100, 1000."""
  kernel = np.array([[1.0], [10.0], [100.0], [1000.0]], np.float32)
  params = {"out": {"kernel": kernel, "bias": np.array([0.5], np.float32)}}
  vectors = {
    "a": np.array([[2.0]], np.float32),
    "b": np.array([[3.0]], np.float32),
  }
  module, variables = TensorFusion(1), {"params": params}
  assert run(module, variables, as_tokens(vectors)) == [[1326.5]]
  # Without b: (2, 1) x (0, 1) = 0, 2, 0, 1.
  assert run(module, variables, as_tokens(vectors, ["b"])) == [[1020.5]]


def test_it_is_the_sum_over_all_subsets_of_features():
  vectors, params, out = setup(TensorFusion(7), WIDTHS)
  kernel = params["out"]["kernel"].reshape(3, 6, 4, 7)  # audio, image, text
  ends = [np.append(vectors[m], np.ones((3, 1)), 1) for m in sorted(vectors)]
  expected = np.zeros((3, 7)) + params["out"]["bias"]
  for b, i, j, k in itertools.product(*map(range, (3, 3, 6, 4))):
    factor = ends[0][b, i] * ends[1][b, j] * ends[2][b, k]
    expected[b] += factor * kernel[i, j, k]
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_projections_stand_before_the_product():
  module = TensorFusion(7, widths={"audio": 2, "image": 3, "text": 4})
  vectors, params, out = setup(module, WIDTHS)
  projected = {
    m: v @ params[m]["kernel"] + params[m]["bias"] for m, v in vectors.items()
  }
  variables = {"params": {"out": params["out"]}}
  expected = run(TensorFusion(7), variables, as_tokens(projected))
  np.testing.assert_allclose(out, expected, atol=1e-5)
  missing = run(module, {"params": params}, as_tokens(vectors, ["text"]))
  expected = run(TensorFusion(7), variables, as_tokens(projected, ["text"]))
  np.testing.assert_allclose(missing, expected, atol=1e-5)


def test_nothing_larger_than_the_tensor_is_built():
  vectors = list(make_vectors({"a": 5, "b": 7, "c": 11}).values())
  jaxpr = jax.make_jaxpr(outer_product)(vectors)
  largest = max(v.aval.size for eqn in jaxpr.eqns for v in eqn.outvars)
  assert largest == 3 * 5 * 7 * 11
  expected = np.einsum("bi,bj,bk->bijk", *vectors).reshape(3, -1)
  np.testing.assert_allclose(outer_product(vectors), expected, rtol=1e-5)


def test_a_tensor_too_large_is_refused():
  module = TensorFusion(7, max_elements=71)
  assert count_parameters(module.clone(max_elements=72), WIDTHS) == 73 * 7
  with pytest.raises(ValueError, match="audio 2, image 5, text 3 makes 72 ele"):
    count_parameters(module, WIDTHS)
  module = module.clone(widths=dict.fromkeys(WIDTHS, 4))
  with pytest.raises(ValueError, match="audio 4, image 4, text 4 makes 125"):
    count_parameters(module, WIDTHS)


def test_widths_of_other_modalities_are_refused():
  module = TensorFusion(7, widths={"audio": 4, "video": 4})
  with pytest.raises(ValueError, match="audio, video and tokens of audio, im"):
    count_parameters(module, WIDTHS)


def test_it_equals_pytorch():
  """Outputs and gradients, over einsum of the vectors with a one each."""
  torch = pytest.importorskip("torch")
  module = TensorFusion(7)
  vectors, params, out = setup(module, WIDTHS)
  weights = np.random.default_rng(1).normal(size=(3, 7)).astype(np.float32)

  def total(params, vectors):
    fused = module.apply({"params": params}, as_tokens(vectors), train=False)
    return (fused.values[:, 0] * weights).sum()

  grads = jax.jit(jax.grad(total, argnums=(0, 1)))(params, vectors)
  inputs = {m: torch.tensor(v, requires_grad=True) for m, v in vectors.items()}
  kernel, bias = (
    torch.tensor(params["out"][name], requires_grad=True)
    for name in ("kernel", "bias")
  )
  one = torch.ones(3, 1)
  ends = [torch.cat([inputs[m], one], 1) for m in sorted(inputs)]
  tensor = torch.einsum("bi,bj,bk->bijk", *ends).flatten(1)
  expected = tensor @ kernel + bias
  (expected * torch.tensor(weights)).sum().backward()

  np.testing.assert_allclose(out, expected.detach().numpy(), atol=1e-5)
  for name, value in {"kernel": kernel, "bias": bias}.items():
    np.testing.assert_allclose(
      grads[0]["out"][name], value.grad.numpy(), atol=1e-5
    )
  for m, value in inputs.items():
    np.testing.assert_allclose(grads[1][m], value.grad.numpy(), atol=1e-5)
