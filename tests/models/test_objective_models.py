"""Models that give more than logits, with the losses that use it."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from module_checks import random_variables

from mmjax.array_types import Tokens
from mmjax.fusion.concat import Concat
from mmjax.heads.classifier import Classifier
from mmjax.heads.decoder import Decoder
from mmjax.losses.agreement import Agreement
from mmjax.losses.alignment import Alignment
from mmjax.losses.reconstruction import Reconstruction
from mmjax.models.alignment import AlignmentModel
from mmjax.models.late_fusion import LateFusion
from mmjax.models.reconstruction import ReconstructionModel
from mmjax.nn.dense import Dense
from mmjax.nn.pooling import ModalityPooling

pytestmark = pytest.mark.usefixtures("fast_compilation")

SHAPES = {"audio": (7,), "image": (3, 2), "text": (5,)}


class Rows(nn.Module):
  """An encoder of rows [R, ...]: one token each."""

  width: int = 6
  dtype: str = "float32"

  @nn.compact
  def __call__(self, values, mask, *, train):
    del train
    rows = jnp.where(mask[:, None], values.reshape(len(values), -1), 0)
    out = Dense(self.width, dtype=self.dtype, name="out")(rows)
    return Tokens(out[:, None], mask[:, None])


def _make_model(name, dtype="float32"):
  encoders = {m: Rows(dtype=dtype) for m in SHAPES}
  fusion = Concat(6, dtype=dtype)
  head = Classifier(3, hidden=11, dtype=dtype)
  if name == "agreement":
    heads = {m: Classifier(3, hidden=11, dtype=dtype) for m in SHAPES}
    return LateFusion(encoders, heads, "product"), Agreement()
  if name == "alignment":
    projection = ModalityPooling(5, dtype=dtype)
    return AlignmentModel(encoders, fusion, head, projection), Alignment()
  decoders = {m: Decoder(shape, 11, dtype=dtype) for m, shape in SHAPES.items()}
  model = ReconstructionModel(encoders, fusion, head, decoders)
  return model, Reconstruction()


NAMES = ("agreement", "alignment", "reconstruction")
every = pytest.mark.parametrize("name", NAMES)


def _make_batch(size=7):
  rng = np.random.default_rng(0)
  batch = {
    "label": rng.integers(0, 3, size),
    "example_mask": np.arange(size) < size - 1,
  }
  for number, (m, shape) in enumerate(SHAPES.items()):
    batch[m] = rng.normal(size=(size, *shape)).astype(np.float32)
    batch[f"{m}_mask"] = np.arange(size) != number  # one lacks each
  return batch


@functools.cache
def _setup(name):
  model, loss = _make_model(name)
  batch = _make_batch()
  variables = random_variables(model.init, batch, train=False)
  apply_fn = jax.jit(lambda v, b: model.apply(v, b, train=False))
  return model, loss, variables, batch, apply_fn


@every
def test_outputs_have_what_the_loss_needs(name):
  model, loss, variables, batch, apply_fn = _setup(name)
  outputs = apply_fn(variables, batch)
  assert outputs["logits"].shape == (7, 3)
  assert outputs["logits"].dtype == jnp.float32
  shapes = {
    "agreement": ("modality_logits", dict.fromkeys(SHAPES, (7, 3))),
    "alignment": ("modality_vectors", dict.fromkeys(SHAPES, (7, 5))),
    "reconstruction": (
      "reconstructions",
      {m: (7, *shape) for m, shape in SHAPES.items()},
    ),
  }
  key, expected = shapes[name]
  assert {m: v.shape for m, v in outputs[key].items()} == expected
  if name != "reconstruction":
    for m in SHAPES:
      np.testing.assert_array_equal(
        outputs["modality_present"][m], batch[f"{m}_mask"]
      )
  if name == "alignment":
    for m in SHAPES:
      gone = np.asarray(outputs[key][m])[~batch[f"{m}_mask"]]
      np.testing.assert_array_equal(gone, 0)
  losses = loss(outputs, batch)
  assert losses.shape == (7,)
  assert np.isfinite(losses).all()
  assert hash(model) == hash(_make_model(name)[0])


def test_a_product_of_experts_is_the_sum_of_their_logits():
  """Up to a constant, which softmax does not see; the missing add nothing."""
  _, _, variables, batch, apply_fn = _setup("agreement")
  outputs = apply_fn(variables, batch)
  total = sum(
    np.where(batch[f"{m}_mask"][:, None], logits, 0)
    for m, logits in outputs["modality_logits"].items()
  )
  np.testing.assert_allclose(
    jax.nn.log_softmax(outputs["logits"]), jax.nn.log_softmax(total), atol=1e-5
  )


@pytest.mark.parametrize("name", ["alignment", "reconstruction"])
def test_fused_logits_are_those_of_the_plain_model(name):
  model, _, variables, batch, apply_fn = _setup(name)

  def plain(module, batch):
    tokens = {
      m: module.encoders[m](batch[m], batch[f"{m}_mask"], train=False)
      for m in SHAPES
    }
    return module.head(module.fusion(tokens, train=False), train=False)

  expected = jax.jit(lambda v, b: nn.apply(plain, model)(v, b))(
    variables, batch
  )
  np.testing.assert_allclose(
    apply_fn(variables, batch)["logits"], expected["logits"], atol=1e-5
  )


@every
def test_training_lowers_the_term(name):
  model, loss, _, batch, _ = _setup(name)
  variables = jax.jit(lambda rng: model.init(rng, batch, train=False))(
    jax.random.key(0)
  )
  tx = optax.adam(0.02)

  def term(variables):
    outputs = model.apply(variables, batch, train=False)
    plain = type(loss)(weight=0.0)
    losses = loss(outputs, batch) - plain(outputs, batch)
    return jnp.where(batch["example_mask"], losses, 0).sum()

  @jax.jit
  def step(variables, state):
    value, grads = jax.value_and_grad(term)(variables)
    updates, state = tx.update(grads, state)
    return optax.apply_updates(variables, updates), state, value

  state, values = tx.init(variables), []
  for _ in range(30):
    variables, state, value = step(variables, state)
    values.append(float(value))
  assert values[-1] < 0.6 * values[0]


def test_half_precision_in_half_precision_out():
  model, _ = _make_model("alignment", "bfloat16")
  batch = _make_batch()
  outputs = jax.eval_shape(
    lambda rng: model.init_with_output(rng, batch, train=False)[0],
    jax.random.key(0),
  )
  dtypes = {v.dtype for v in outputs["modality_vectors"].values()}
  assert dtypes == {jnp.dtype(jnp.bfloat16)}


def _init(model):
  jax.eval_shape(
    lambda rng: model.init(rng, _make_batch(), train=False), jax.random.key(0)
  )


def test_parts_that_do_not_belong_together():
  encoders, head = {"text": Rows()}, Classifier(3)
  with pytest.raises(
    ValueError, match="decoders of image, but encoders of text"
  ):
    _init(
      ReconstructionModel(encoders, Concat(6), head, {"image": Decoder((2,))})
    )
  with pytest.raises(ValueError, match=r"set model\.projection\.width"):
    _init(AlignmentModel(encoders, Concat(6), head, ModalityPooling()))
