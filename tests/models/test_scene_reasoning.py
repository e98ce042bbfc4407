"""Reasoning over scene graphs that are given, or found by a detector."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import (
  assert_every_parameter_learns,
  assert_gradients_are_there,
  random_variables,
)

from mmjax.array_types import Tokens
from mmjax.data.synthetic import scenes
from mmjax.data.synthetic.scene_graph_vqa import SceneGraphVqa
from mmjax.encoders.image import GridEncoder
from mmjax.encoders.text import TransformerEncoder
from mmjax.heads.classifier import Classifier
from mmjax.losses.cross_entropy import CrossEntropy
from mmjax.losses.detection import AnswerAndDetection
from mmjax.losses.guidance import Guided
from mmjax.models.scene_reasoning import SceneReasoning, read_triples
from mmjax.nn.detection import CellDetector
from mmjax.nn.graph import make_graph
from mmjax.nn.graph_builders import connect_all
from mmjax.nn.graph_reasoning import GraphReasoning, WordReader

pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.fixture(scope="module")
def batch():
  data = SceneGraphVqa(num_scenes=3)
  return data.train_batches(data.load_assets(), batch_size=24, seed=0).batch(0)


def make_model(kind, dtype="float32"):
  encoders = {"text": TransformerEncoder(25, 6, 0, 1, 7, 30, dtype=dtype)}
  detector = None
  if kind == "detected":
    encoders["image"] = GridEncoder(7, features=(3, 5), dtype=dtype)
    detector = CellDetector((6, 4, 2), hidden=11, dtype=dtype)
  return SceneReasoning(
    encoders,
    GraphReasoning(
      7,
      num_steps=3,
      num_types=4,
      use_edges=kind != "no_edges",
      dtype=dtype,
    ),
    Classifier(10, hidden=11, dtype=dtype),
    detector,
  )


def make_loss(kind):
  if kind == "detected":
    return Guided(AnswerAndDetection())
  return CrossEntropy() if kind == "given" else Guided(CrossEntropy())


every = pytest.mark.parametrize("kind", ["given", "no_edges", "detected"])


@every
def test_outputs_and_gradients(kind, batch):
  model = make_model(kind)
  variables = random_variables(
    functools.partial(model.init, train=False), batch
  )

  def loss_fn(variables):
    outputs = model.apply(variables, batch, train=True)
    return make_loss(kind)(outputs, batch).sum()

  outputs = jax.jit(functools.partial(model.apply, train=False))(
    variables, batch
  )
  assert outputs["logits"].shape == (24, 10)
  assert outputs["logits"].dtype == jnp.float32
  assert outputs["step_scores"].shape == (24, 3, 8)
  assert ("detections" in outputs) == (kind == "detected")
  assert make_loss(kind)(outputs, batch).shape == (24,)
  if kind == "detected":  # no object is sure yet: show it some
    bias = variables["params"]["detector"]["out"]["bias"]
    variables["params"]["detector"]["out"]["bias"] = bias + 3.0
  assert_every_parameter_learns(loss_fn, variables)


def test_the_answer_does_not_train_the_detector(batch):
  model = make_model("detected")
  variables = random_variables(
    functools.partial(model.init, train=False), batch
  )
  params = dict(variables["params"])
  # No object is sure yet: show it some.
  params["detector"]["out"]["bias"] = params["detector"]["out"]["bias"] + 3.0

  @jax.jit
  @jax.grad
  def slope(params):
    outputs = model.apply({"params": params}, batch, train=True)
    return CrossEntropy()(outputs, batch).sum()

  grads = dict(slope(params))
  for name in ("detector", "encoders_image"):
    for gradient in jax.tree.leaves(grads.pop(name)):
      np.testing.assert_array_equal(gradient, 0.0)
  assert_gradients_are_there(grads)


def test_masked_objects_and_triples_have_no_influence(batch):
  model = make_model("given")
  variables = random_variables(
    functools.partial(model.init, train=False), batch
  )
  run = jax.jit(functools.partial(model.apply, train=False))
  before = run(variables, batch)["logits"]
  noise = np.random.default_rng(0)
  changed = dict(batch)
  absent = ~batch["objects_mask"]
  changed["objects"] = np.where(absent[..., None], np.nan, batch["objects"])
  for key in ("graph_senders", "graph_receivers", "graph_relations"):
    wild = noise.integers(0, 4, batch[key].shape)
    changed[key] = np.where(batch["graph_mask"], batch[key], wild)
  after = run(variables, changed)["logits"]
  np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-6)

  @jax.jit
  def slope(variables, batch):
    def loss_fn(variables):
      outputs = model.apply(variables, batch, train=True)
      return Guided(CrossEntropy())(outputs, batch).sum()

    return jax.grad(loss_fn)(variables)

  chex.assert_trees_all_close(
    slope(variables, batch), slope(variables, changed), rtol=1e-4, atol=1e-6
  )
  # The order of the objects plays no part.
  order = np.array([3, 1, 0, 2, 4, 5, 7, 6])
  places = np.argsort(order)
  for key in ("objects", "objects_mask"):
    changed[key] = batch[key][:, order]
  for key in ("graph_senders", "graph_receivers"):
    changed[key] = places[batch[key]]
  changed["graph_relations"] = batch["graph_relations"]
  permuted = run(variables, changed)["logits"]
  np.testing.assert_allclose(before, permuted, rtol=1e-4, atol=1e-5)


def test_words_that_are_masked_are_not_read():
  rng = np.random.default_rng(0)
  mask = jnp.arange(5) < jnp.array([[5], [3]])
  values = jnp.asarray(rng.normal(size=(2, 5, 6)), jnp.float32)
  wanted = jnp.asarray(rng.normal(size=(2, 7)), jnp.float32)
  module = WordReader(7)
  variables = random_variables(module.init, Tokens(values, mask), wanted)

  @jax.jit
  @jax.value_and_grad
  def compute(variables, values):
    return module.apply(variables, Tokens(values, mask), wanted)[0].sum()

  # As a loop over the words that are there.
  params = jax.tree.map(np.asarray, variables["params"])
  read, shares = module.apply(variables, Tokens(values, mask), wanted)
  for row, number in enumerate((5, 3)):
    seen = np.asarray(values)[row, :number] @ params["word"]["kernel"]
    seen = seen + params["word"]["bias"]
    powers = np.exp((seen * wanted[row]) @ params["score"]["kernel"][:, 0])
    expected = powers / powers.sum()
    np.testing.assert_allclose(shares[row, :number], expected, rtol=1e-4)
    np.testing.assert_array_equal(shares[row, number:], 0.0)
    np.testing.assert_allclose(read[row], expected @ seen, rtol=1e-4, atol=1e-5)

  wild = jnp.where(mask[..., None], values, jnp.nan)
  zeros = jnp.where(mask[..., None], values, 0.0)
  result = compute(variables, wild)
  chex.assert_tree_all_finite(result)
  chex.assert_trees_all_equal(result, compute(variables, zeros))


def test_triples_become_the_relations_that_hold(batch):
  adjacency = np.asarray(read_triples(batch, 8))
  for row in range(3):
    mask = batch["objects_mask"][row]
    holds = scenes.relate(batch["objects"][row, :, -2:])
    holds = holds & mask & mask[:, None]
    np.testing.assert_array_equal(adjacency[row], np.swapaxes(holds, 1, 2))


def test_without_edges_relations_have_no_influence(batch):
  for kind, same in (("no_edges", True), ("given", False)):
    model = make_model(kind)
    variables = random_variables(
      functools.partial(model.init, train=False), batch
    )
    run = jax.jit(functools.partial(model.apply, train=False))
    before = run(variables, batch)["logits"]
    other = batch["graph_receivers"][:, ::-1]
    after = run(variables, dict(batch, graph_receivers=other))["logits"]
    assert np.allclose(before, after) == same


def test_a_detector_needs_an_encoder(batch):
  detected, given = make_model("detected"), make_model("given")
  for model, match in (
    (given.clone(detector=detected.detector), "needs encoders of image, text"),
    (
      detected.clone(detector=None),
      "without a detector needs encoders of text",
    ),
  ):
    with pytest.raises(ValueError, match=match):
      model.init(jax.random.key(0), batch, train=False)


def test_words_of_other_queries_are_named():
  graph = make_graph(
    Tokens(jnp.ones((1, 3, 4)), jnp.ones((1, 3), bool)),
    connect_all(jnp.ones((1, 3), bool)),
  )
  words = Tokens(jnp.ones((2, 5, 6)), jnp.ones((2, 5), bool))
  with pytest.raises(ValueError, match=r"words \[1, T, Qw\].*got \[2, 5, 6\]"):
    GraphReasoning(7).init(
      jax.random.key(0), graph, jnp.ones((1, 3)), words=words, train=False
    )
