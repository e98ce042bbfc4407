"""MLB, MFB, MUTAN and BLOCK against loops over their papers' formulas."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vector_tokens import as_tokens, count_parameters, make_vectors, run, setup

from mmjax.fusion.block import BlockFusion
from mmjax.fusion.mcb import McbFusion
from mmjax.fusion.mfb import MfbFusion
from mmjax.fusion.mlb import MlbFusion
from mmjax.fusion.mutan import MutanFusion

WIDTHS = {"text": 3, "audio": 2, "image": 5}
MLB = MlbFusion(7, joint_dim=11)
MFB = MfbFusion(7, factor=3)
MUTAN = MutanFusion(7, joint_dim=4, rank=3)
BLOCK = BlockFusion(7, joint_dim=6, num_chunks=2, rank=5)
MCB = McbFusion(7, sketch_dim=11)

pytestmark = pytest.mark.usefixtures("fast_compilation")


def project(vectors, params):
  """The projection of each modality, as its own layer gives it."""
  layers = params["pooling"]
  return {
    m: v @ layers[m]["kernel"] + layers[m]["bias"] for m, v in vectors.items()
  }


def finish(product, params):
  return product @ params["out"]["kernel"] + params["out"]["bias"]


def normalize(values):
  root = np.sign(values) * np.sqrt(np.abs(values))
  return root / np.linalg.norm(root, axis=-1, keepdims=True)


def test_mlb_is_its_formula():
  vectors, params, out = setup(MLB, WIDTHS)
  product = np.ones((3, 11))
  for vector in project(vectors, params).values():
    product *= np.tanh(vector)
  np.testing.assert_allclose(out, finish(product, params), atol=1e-5)


def test_mfb_is_its_formula():
  vectors, params, out = setup(MFB, WIDTHS)
  projected = project(vectors, params)
  expected = np.zeros((3, 7))
  for o, i in itertools.product(range(7), range(3)):
    expected[:, o] += np.prod([v[:, 3 * o + i] for v in projected.values()], 0)
  np.testing.assert_allclose(out, normalize(expected), atol=1e-4)
  np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, rtol=1e-5)


def test_mfb_of_zeros_has_a_finite_gradient():
  """The root of a product of zeros, and the norm of a vector of zeros."""
  vectors, params, _ = setup(MFB, WIDTHS)
  zeros = as_tokens({m: np.zeros_like(v) for m, v in vectors.items()})
  params = jax.tree.map(np.zeros_like, params)
  for m in list(WIDTHS)[1:]:
    params["pooling"][m]["bias"] += 0.5

  def total(params):
    out = MFB.apply({"params": params}, zeros, train=False)
    return (out.values * jnp.arange(7.0)).sum()

  value, grads = jax.jit(jax.value_and_grad(total))(params)
  assert value == 0
  assert all(np.isfinite(grad).all() for grad in jax.tree.leaves(grads))
  assert np.abs(grads["pooling"]["text"]["bias"]).max() > 0


def test_mutan_is_a_tucker_decomposition():
  """Written out: a core 4 x 4 x 4 x 4 with slices of rank 3, times matrices."""
  vectors, params, out = setup(MUTAN, WIDTHS)
  projected = {m: np.tanh(v) for m, v in project(vectors, params).items()}
  cores = [np.float64(params[f"{m}_core"]) for m in sorted(WIDTHS)]
  core = np.zeros((4, 4, 4, 4))
  for r, o in itertools.product(range(3), range(4)):
    columns = [c[r, :, o] for c in cores]
    core[..., o] += np.einsum("i,j,k->ijk", *columns)
  for o in range(4):
    unfolded = core[..., o].reshape(4, -1)
    assert np.linalg.matrix_rank(unfolded) <= 3
  product = np.einsum(
    "ijko,bi,bj,bk->bo", core, *(projected[m] for m in sorted(WIDTHS))
  )
  np.testing.assert_allclose(out, finish(product, params), atol=1e-5)


def test_block_is_bilinear_forms_side_by_side():
  vectors, params, out = setup(BLOCK, WIDTHS)
  projected = project(vectors, params)
  chunks = []
  for c in range(2):
    chunk = np.zeros((3, 3))
    for r, o in itertools.product(range(5), range(3)):
      product = np.ones(3)
      for m, vector in projected.items():
        piece = vector[:, 3 * c : 3 * c + 3]
        product *= piece @ params[f"{m}_core"][c, r, :, o]
      chunk[:, o] += product
    chunks.append(normalize(chunk))
  expected = finish(np.concatenate(chunks, axis=1), params)
  np.testing.assert_allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize("module", [MLB, MFB, MUTAN, BLOCK, MCB])
def test_a_missing_modality_is_as_if_it_had_never_been(module):
  vectors, params, whole = setup(module, WIDTHS)
  out = run(module, {"params": params}, as_tokens(vectors, ["image"]))
  del vectors["image"]
  params = {k: v for k, v in params.items() if k != "image_core"}
  if "pooling" in params:
    params["pooling"] = {
      k: v for k, v in params["pooling"].items() if k != "image"
    }
  expected = run(module, {"params": params}, as_tokens(vectors))
  np.testing.assert_allclose(out, expected, atol=1e-5)
  assert np.abs(out - whole).max() > 1e-3


def test_the_sum_over_the_rank_starts_as_one_product():
  """MUTAN's cores keep the variance, whatever rank and modalities."""
  tokens = as_tokens(make_vectors({"a": 7, "b": 7, "c": 7}, batch=2))
  module = MutanFusion(7, joint_dim=61, rank=5)
  start = jax.jit(lambda rng: module.init(rng, tokens, train=False))
  params = start(jax.random.key(0))["params"]
  for m in "abc":
    variance = params[f"{m}_core"].var() * 61
    assert variance == pytest.approx(5 ** (-1 / 3), rel=0.05)


@pytest.mark.parametrize(
  ("module", "match"),
  [
    (MLB.clone(joint_dim=0), "'mlb' needs joint_dim of at least 1, got 0"),
    (MFB.clone(factor=0), "'mfb' needs factor"),
    (MFB.clone(width=1), "'mfb' needs width of at least 2, got 1: .*sign"),
    (MCB.clone(sketch_dim=1), "'mcb' needs sketch_dim of at least 2, got 1"),
    (MCB.clone(sketch_dim=0), "'mcb' needs sketch_dim"),
    (MUTAN.clone(rank=0), "'mutan' needs rank"),
    (BLOCK.clone(num_chunks=0), "'block' needs num_chunks"),
    (BLOCK.clone(num_chunks=4), "joint_dim 6 and 4 chunks"),
    (
      BLOCK.clone(num_chunks=6),
      "'block' needs joint_dim / num_chunks of at least 2, got 1: .*larger",
    ),
    (MLB.clone(pooling="sum"), "pooling is 'sum'"),
  ],
)
def test_wrong_attributes_are_named(module, match):
  with pytest.raises(ValueError, match=match):
    count_parameters(module, WIDTHS)
