"""Fusions of a question with objects, against loops and sums in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fusion_contract import make_variables

from mmjax.array_types import Tokens
from mmjax.fusion.flat_mlp import FlatMlp
from mmjax.fusion.graph_reasoning import GraphReasoningFusion
from mmjax.fusion.relation_network import RelationFusion
from mmjax.fusion.soft_attention import SoftAttention

pytestmark = pytest.mark.usefixtures("fast_compilation")

RNG = np.random.default_rng(0)
MASKS = {
  "objects": np.array([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0] * 5], bool),
  "text": np.array([[1], [1], [1]], bool),
}
TOKENS = {
  name: Tokens(
    jnp.asarray(RNG.normal(size=(*mask.shape, size)), jnp.float32),
    jnp.asarray(mask),
  )
  for (name, mask), size in zip(MASKS.items(), (7, 3), strict=True)
}
OBJECTS = np.where(MASKS["objects"][..., None], TOKENS["objects"].values, 0)
TEXT = np.asarray(TOKENS["text"].values)[:, 0]


def run(module, tokens=TOKENS, mutable=False):
  """The parameters, as numpy arrays, and what comes out."""
  variables = make_variables(module, tokens)
  out = jax.jit(lambda v, t: module.apply(v, t, train=False, mutable=mutable))(
    variables, tokens
  )
  return jax.tree.map(np.asarray, variables["params"]), out


def dense(params, inputs):
  return inputs @ params["kernel"] + params.get("bias", 0)


def relu(inputs):
  return np.maximum(inputs, 0)


@pytest.mark.parametrize("self_pairs", [True, False])
@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_relations_are_a_loop_over_pairs(self_pairs, combine):
  module = RelationFusion(
    "objects",
    5,
    pair_widths=[11, 3],
    widths=[13],
    self_pairs=self_pairs,
    combine=combine,
  )
  params, out = run(module)
  assert out.values.shape == (3, 1, 5)
  asked = dense(params["ask"]["text"], TEXT)
  params = params["relations"]
  for example, mask in enumerate(MASKS["objects"]):
    if not mask.any():  # the question stands in
      np.testing.assert_allclose(out.values[example, 0], asked[example], 1e-5)
      continue
    total, count = np.zeros(3), 0
    for i in np.flatnonzero(mask):
      for j in np.flatnonzero(mask):
        if i == j and not self_pairs:
          continue
        hidden = relu(
          dense(params["first_object"], OBJECTS[example, i])
          + dense(params["second_object"], OBJECTS[example, j])
          + dense(params["query"], asked[example])
        )
        total = total + relu(dense(params["pair_1"], hidden))
        count += 1
    if combine == "mean":
      total = total / count
    expected = relu(dense(params["sum_1"], relu(dense(params["sum_0"], total))))
    np.testing.assert_allclose(
      out.values[example, 0], expected, rtol=1e-4, atol=1e-5
    )


def test_soft_attention_is_an_average():
  module = SoftAttention("objects", 5, hidden=11)
  params, (out, sown) = run(module, mutable=["intermediates"])
  (weights,) = sown["intermediates"]["pool_objects"]["pool"]
  asked = dense(params["ask"]["text"], TEXT)
  look = params["pool_objects"]["look"]
  hidden = np.tanh(
    dense(look["query"], asked)[:, None] + dense(look["key"], OBJECTS)
  )
  scores = (hidden @ look["score"])[..., 0]
  shares = np.where(MASKS["objects"], np.exp(scores), 0)
  shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
  np.testing.assert_allclose(weights, shares, atol=1e-5)
  seen = dense(params["seen"], np.einsum("bn,bnd->bd", shares, OBJECTS))
  present = MASKS["objects"].any(axis=1)
  np.testing.assert_allclose(
    out.values[present], np.stack([seen, asked], axis=1)[present], atol=1e-5
  )
  assert out.group_sizes == (1, 1)
  assert out.mask.tolist() == [[True, True], [True, True], [False, True]]


def test_a_flat_perceptron_reads_everything_in_its_place():
  params, out = run(FlatMlp(5, hidden=[11, 3]))
  flat = np.concatenate([OBJECTS.reshape(3, -1), TEXT], axis=1)
  kernel = np.concatenate(
    [params["objects"]["kernel"], params["text"]["kernel"]]
  )
  hidden = relu(flat @ kernel + params["bias"])
  hidden = relu(dense(params["hidden_1"], hidden))
  np.testing.assert_allclose(
    out.values[:, 0], dense(params["out"], hidden), rtol=1e-4, atol=1e-5
  )


def test_reasoning_sows_its_steps_and_follows_the_question():
  module = GraphReasoningFusion("objects", 6, num_steps=3)
  _, (out, sown) = run(module, mutable=["intermediates"])
  steps = sown["intermediates"]["reasoning"]
  assert len(steps["nodes"]) == 3
  assert len(steps["gates"]) == 2
  mask = MASKS["objects"]
  for shares in steps["nodes"]:
    np.testing.assert_allclose(shares.sum(axis=1), mask.any(axis=1), atol=1e-5)
    assert (np.asarray(shares)[~mask] == 0).all()
  pairs = mask[:, :, None] & mask[:, None]
  for gates in steps["gates"]:
    assert (np.asarray(gates)[~pairs] == 0).all()
    assert (np.asarray(gates)[pairs] > 0).all()
  # Without objects the memory is that of the question, and differs with it.
  gone = TOKENS["objects"].replace(mask=jnp.zeros((3, 5), bool))
  _, alone = run(module, {**TOKENS, "objects": gone})
  assert np.asarray(alone.mask).all()
  np.testing.assert_allclose(alone.values[2], out.values[2], atol=1e-5)
  assert np.abs(alone.values[0] - alone.values[1]).max() > 1e-3


@pytest.mark.parametrize(
  ("module", "message"),
  [
    (RelationFusion("image", 5), "target 'image'"),
    (RelationFusion("objects", 5, pair_widths=()), "at least one layer"),
    (RelationFusion("objects", 5, combine="max"), "combine is 'max'"),
    (GraphReasoningFusion("image", 5), "target 'image'"),
    (GraphReasoningFusion("objects", 5, num_steps=0), "at least one step"),
    (SoftAttention("image", 5), "target 'image'"),
    (SoftAttention("objects", 5, pooling="sum"), "pooling is 'sum'"),
    (FlatMlp(5, hidden=()), "needs a hidden layer"),
  ],
)
def test_what_cannot_be_is_named(module, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda rng: module.init(rng, TOKENS, train=False), jax.random.key(0)
    )
