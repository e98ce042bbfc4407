import functools

import fiddle as fdl
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fiddle.experimental.auto_config import auto_config
from module_checks import random_variables

from mmjax.array_types import Tokens
from mmjax.config import dump, load
from mmjax.encoders.text import RecurrentEncoder
from mmjax.heads.classifier import Classifier
from mmjax.losses.cross_entropy import CrossEntropy
from mmjax.losses.per_modality import PerModality
from mmjax.models.combination import RULES, Combination
from mmjax.models.late_fusion import LateFusion

HEAD = 5 * 2 + 5 * 7 + 7 + 7 * 3 + 3  # norm, hidden 7, three classes
PARAMETERS = {
  "mean": 0,
  "weighted": 2,
  "vote": 0,
  "product": 0,
  "stacking": 2 * 9 + 3,
}
rules = pytest.mark.parametrize("rule", RULES)


class Linear(nn.Module):
  """An encoder of one layer."""

  @nn.compact
  def __call__(self, values, mask, *, train):
    del train
    values = jnp.where(mask[..., None], values, 0)
    return Tokens(nn.Dense(5, name="out")(values), mask)


def _make_model(combine):
  return LateFusion(
    encoders={"sound": Linear(), "text": Linear()},
    heads={"text": Classifier(3, hidden=7), "sound": Classifier(3, hidden=7)},
    combine=combine,
  )


def _make_batch():
  """Rows of sound are shared; 1 and 3 lack sound, 3 and 4 lack text."""
  rng = np.random.default_rng(0)
  return {
    "sound": jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32),
    "sound_mask": jnp.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], bool),
    "sound_index": jnp.array([0, 1, 2, 1, 0]),
    "text": jnp.asarray(rng.normal(size=(5, 3, 11)), jnp.float32),
    "text_mask": jnp.arange(3) < jnp.array([[3], [1], [2], [0], [0]]),
    "label": jnp.array([0, 1, 2, 1, 2]),
    "example_mask": jnp.ones(5, bool),
  }


@functools.cache
def _setup(rule):
  model, batch = _make_model(rule), _make_batch()
  variables = random_variables(model.init, batch, train=False)
  apply_fn = jax.jit(lambda v, b: model.apply(v, b, train=False))
  return model, variables, batch, apply_fn


@rules
def test_outputs_and_parameters(rule, fast_compilation):
  model, variables, batch, apply_fn = _setup(rule)
  outputs = apply_fn(variables, batch)
  assert set(outputs) == {"logits", "modality_logits", "modality_present"}
  assert outputs["logits"].shape == (5, 3)
  assert outputs["logits"].dtype == jnp.float32
  present = {m: v.tolist() for m, v in outputs["modality_present"].items()}
  assert present == {"sound": [1, 0, 1, 0, 1], "text": [1, 1, 1, 0, 0]}
  sizes = {
    name: sum(leaf.size for leaf in jax.tree.leaves(tree))
    for name, tree in variables["params"].items()
  }
  assert sizes.pop("combine", 0) == PARAMETERS[rule]
  assert sizes == {
    "encoders_sound": 3 * 5,
    "encoders_text": 12 * 5,
    "heads_sound": HEAD,
    "heads_text": HEAD,
  }
  assert hash(model) == hash(_make_model(rule))
  assert model == _make_model(Combination(rule))


@rules
def test_logits_combine_those_of_the_present(rule, fast_compilation):
  _, variables, batch, apply_fn = _setup(rule)
  outputs = apply_fn(variables, batch)
  expected = Combination(rule).apply(
    {"params": variables["params"].get("combine", {})},
    outputs["modality_logits"],
    outputs["modality_present"],
    train=False,
  )
  np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)
  np.testing.assert_array_equal(outputs["logits"][3], 0)
  if rule in ("mean", "weighted", "product"):
    for b, m in ((1, "text"), (4, "sound")):
      np.testing.assert_allclose(
        jax.nn.softmax(outputs["logits"][b]),
        jax.nn.softmax(outputs["modality_logits"][m][b]),
        atol=1e-6,
      )


def test_a_modality_decides_by_its_own_head(fast_compilation):
  _, variables, batch, apply_fn = _setup("mean")
  outputs = apply_fn(variables, batch)["modality_logits"]["text"]
  params = variables["params"]
  values, mask = batch["text"], batch["text_mask"]
  tokens = Linear().apply(
    {"params": params["encoders_text"]}, values, mask, train=False
  )
  expected = Classifier(3, hidden=7).apply(
    {"params": params["heads_text"]}, tokens, train=False
  )
  np.testing.assert_allclose(outputs, expected["logits"], atol=1e-5)


def test_index_equals_repeated_rows(fast_compilation):
  _, variables, batch, apply_fn = _setup("product")
  index = batch["sound_index"]
  repeated = {k: v for k, v in batch.items() if k != "sound_index"}
  for name in ("sound", "sound_mask"):
    repeated[name] = batch[name][index]
  np.testing.assert_allclose(
    apply_fn(variables, repeated)["logits"],
    apply_fn(variables, batch)["logits"],
    atol=1e-5,
  )


def test_votes_alone_are_trained_by_the_heads_own_losses(fast_compilation):
  """Twenty steps on one batch; the labels are not those voted for before."""
  model, variables, batch, apply_fn = _setup("vote")
  kept = np.array([0, 1, 2, 4])  # somebody is present
  label = (apply_fn(variables, batch)["logits"].argmax(axis=-1) + 1) % 3
  batch = {**batch, "label": label}
  loss = PerModality(CrossEntropy(), fused_weight=0.0)
  step = jax.jit(
    jax.grad(
      lambda v: loss(model.apply(v, batch, train=True), batch)[kept].sum()
    )
  )
  for _ in range(20):
    variables = jax.tree.map(
      lambda v, g: v - 0.2 * g, variables, step(variables)
    )
  votes = apply_fn(variables, batch)["logits"].argmax(axis=-1)
  np.testing.assert_array_equal(votes[kept], label[kept])


class First(nn.Module):
  """A rule of one's own: the first modality decides."""

  @nn.compact
  def __call__(self, logits, present, *, train):
    del train
    first = sorted(logits)[0]
    scale = self.param("scale", nn.initializers.ones, ())
    return scale * jnp.where(present[first][:, None], logits[first], 0)


def test_a_rule_of_ones_own(fast_compilation):
  _, variables, batch, apply_fn = _setup(First())
  scale = variables["params"]["combine"]["scale"]
  outputs = apply_fn(variables, batch)
  sound = np.asarray(outputs["modality_logits"]["sound"])
  expected = np.where([[True], [False], [True], [False], [True]], sound, 0)
  np.testing.assert_allclose(outputs["logits"], scale * expected, atol=1e-6)


@auto_config
def small_model():
  return LateFusion(
    encoders={"text": RecurrentEncoder(5, 2, 3)},
    heads={"text": Classifier(num_classes=3)},
    combine="vote",
  )


def test_survives_a_configuration():
  config = small_model.as_buildable()
  again = load(dump(config))
  assert again.combine == "vote"
  assert fdl.build(again) == fdl.build(config)
  assert fdl.build(again).combine.rule == "vote"


def test_errors():
  batch = _make_batch()
  one = {"text": Linear()}
  for encoders, heads, match in (
    (one, {}, "encoders for text and heads for none"),
    (one, {"sound": Classifier(3)}, "for text and heads for sound"),
    ({}, {}, "at least one encoder"),
  ):
    with pytest.raises(ValueError, match=match):
      LateFusion(encoders, heads).init(jax.random.key(0), batch, train=False)
  with pytest.raises(ValueError, match="got 'median'"):
    jax.eval_shape(
      lambda rng: _make_model("median").init(rng, batch, train=False),
      jax.random.key(0),
    )
