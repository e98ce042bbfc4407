"""Every encoder of the catalogue in a hybrid, with exchanges at every depth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoder_cases import CASES as OTHER_CASES
from fusion_contract import make_variables
from module_checks import assert_gradients_are_there, product_dtypes

from mmjax.encoders.audio import FrameEncoder
from mmjax.encoders.features import FeatureEncoder
from mmjax.encoders.image import GridEncoder, PatchEncoder
from mmjax.encoders.resnet import ResNetEncoder
from mmjax.encoders.spectrogram import SpectrogramEncoder
from mmjax.encoders.text import RecurrentEncoder, TransformerEncoder
from mmjax.encoders.video_conv3d import Conv3dEncoder
from mmjax.encoders.video_frames import FrameSequenceEncoder
from mmjax.encoders.video_tubelet import TubeletEncoder
from mmjax.fusion.concat import Concat
from mmjax.fusion.gated import GatedFusion
from mmjax.heads.classifier import Classifier
from mmjax.models.hybrid import Exchange, HybridModel

pytestmark = pytest.mark.usefixtures("fast_compilation")

_RNG = np.random.default_rng(0)
ROWS = np.array([True, False, True])
STEPS = np.array([[1, 1, 0, 1, 1], [0] * 5, [1, 1, 1, 0, 0]], bool)
IMAGES = _RNG.random((3, 7, 11, 3)).astype(np.float32)
CLIPS = _RNG.random((3, 5, 8, 9, 3)).astype(np.float32)
WORDS = _RNG.integers(1, 11, (3, 5)).astype(np.int32)
SOUND = _RNG.normal(size=(3, 5, 7)).astype(np.float32)

_BLOCKS = {"num_heads": 3, "mlp_dim": 5}
# name: encoder, values and mask, its stages
CASES = {
  "grid": (GridEncoder(7, features=(3, 5), norm="layer"), (IMAGES, ROWS), 2),
  "patch": (PatchEncoder(6, 5, num_layers=1, **_BLOCKS), (IMAGES, ROWS), 1),
  "resnet": (
    ResNetEncoder(7, stem="small", width_multiplier=1 / 16),
    (IMAGES, ROWS),
    4,
  ),
  "lstm": (RecurrentEncoder(11, 3, 7, num_layers=2), (WORDS, STEPS), 2),
  "transformer": (
    TransformerEncoder(11, 6, num_layers=1, max_length=5, **_BLOCKS),
    (WORDS, STEPS),
    1,
  ),
  "frames": (FrameEncoder(7, stack_size=2, cell="gru"), (SOUND, STEPS), 1),
  "spectrogram": (
    SpectrogramEncoder(7, features=(3, 5), norm="layer"),
    (SOUND, STEPS),
    2,
  ),
  "features": (
    FeatureEncoder(6, body="transformer", num_layers=2, **_BLOCKS),
    (SOUND, STEPS),
    2,
  ),
  "conv3d_lstm": (
    Conv3dEncoder(
      7,
      features=(3,),
      time_pools=(2,),
      tokens="frames",
      num_lstm_layers=1,
      norm="layer",
    ),
    (CLIPS, STEPS),
    2,
  ),
  "frame_sequence": (
    FrameSequenceEncoder(7, GridEncoder(5, features=(3,), norm="layer")),
    (CLIPS, STEPS),
    2,
  ),
  "tubelet": (
    TubeletEncoder(
      6,
      2,
      4,
      num_layers=1,
      attention="factorised",
      num_temporal_layers=1,
      **_BLOCKS,
    ),
    (CLIPS, STEPS),
    2,
  ),
} | {
  name: (*OTHER_CASES[name][:2], number)
  for name, number in {
    "conv_transformer": 3,
    "record_transformer": 1,
    "record_mlp": 1,
    "bag_of_words": 0,
  }.items()
}
names = pytest.mark.parametrize("name", CASES)


def make_model(name, dtype="float32"):
  """One encoder beside another, with a gate at every depth."""
  encoder, _, num_stages = CASES[name]
  other = FeatureEncoder(5, body="mlp", mlp_dim=3, dtype=dtype)
  dtypes = {"dtype": dtype}
  exchange = Exchange(GatedFusion(3, gate_from="others", **dtypes), **dtypes)
  return HybridModel(
    encoders={"one": encoder.clone(dtype=dtype), "other": other},
    # Of its own for each depth: the same one twice would share parameters.
    exchanges=tuple(exchange.copy() for _ in range(max(num_stages, 1) + 1)),
    fusion=Concat(5, dtype=dtype),
    head=Classifier(num_classes=5, hidden=7, dtype=dtype),
  )


def make_batch(name):
  values, mask = CASES[name][1]
  return {
    "one": values,
    "one_mask": mask,
    "other": _RNG.normal(size=(3, 2, 3)).astype(np.float32),
    "other_mask": np.array([[1, 1], [1, 0], [1, 1]], bool),
  }


@functools.cache
def _compiled(name):
  """Variables, a batch, and batch -> gradients and logits, one program."""
  model, batch = make_model(name), make_batch(name)
  variables = make_variables(model, batch)

  def loss(variables, batch):
    logits = model.apply(variables, batch, train=False)["logits"]
    weights = np.random.default_rng(1).normal(size=logits.shape)
    return jnp.sum(jnp.tanh(logits) * weights), logits

  return variables, batch, jax.jit(jax.grad(loss, has_aux=True))


@names
def test_every_parameter_learns_through_exchanges_at_every_depth(name):
  variables, batch, run = _compiled(name)
  grads, logits = run(variables, batch)
  depths = max(CASES[name][2], 1) + 1
  names = {f"exchanges_{depth}" for depth in range(depths)}
  assert names <= set(variables["params"])
  assert np.isfinite(logits).all()
  assert_gradients_are_there(grads)


@names
def test_masked_content_has_no_influence(name):
  variables, batch, run = _compiled(name)
  values, mask = batch["one"], batch["one_mask"]
  there = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
  changed = np.where(there, values, 11 - values).astype(values.dtype)
  assert (changed != values).any()
  expected = run(variables, batch)
  found = run(variables, {**batch, "one": changed})
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@names
def test_a_missing_modality_concerns_its_examples_only(name):
  variables, batch, run = _compiled(name)
  _, logits = run(variables, batch)
  for modality in ("one", "other"):
    mask = batch[f"{modality}_mask"].copy()
    mask[2] = False
    grads, found = run(variables, {**batch, f"{modality}_mask": mask})
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((grads, found)))
    np.testing.assert_allclose(found[:2], logits[:2], atol=1e-5)
    assert np.abs(found[2] - logits[2]).max() > 1e-4


@pytest.mark.parametrize("name", ["grid", "lstm", "conv_transformer"])
def test_a_batch_of_one_and_eager(name):
  variables, batch, run = _compiled(name)
  logits = run(variables, batch)[1]
  one = {k: v[2:] for k, v in batch.items()}
  apply = functools.partial(make_model(name).apply, variables, train=False)
  np.testing.assert_allclose(apply(one)["logits"], logits[2:], atol=1e-4)


@pytest.mark.parametrize("name", ["grid", "lstm", "tubelet", "record_mlp"])
def test_bfloat16_reaches_every_product(name):
  variables, batch, run = _compiled(name)
  model = make_model(name, "bfloat16")
  traced = jax.jit(
    lambda v: model.apply(v, batch, train=False)["logits"]
  ).trace(variables)
  found = traced.lower().compile()(variables)
  expected = run(variables, batch)[1]
  np.testing.assert_allclose(found, expected, atol=0.3, rtol=0.3)
  dtypes = list(product_dtypes(traced.jaxpr.jaxpr))
  others = [each for each in dtypes if each != {jnp.dtype("bfloat16")}]
  assert others == [{jnp.dtype("float32")}]  # logits are always
