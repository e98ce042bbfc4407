"""Matching: three matchers, the loss and the metrics, against loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import assert_every_parameter_learns, random_variables

from mmjax.array_types import Tokens
from mmjax.data import stamp_pairs
from mmjax.data.synthetic import scene_matching
from mmjax.data.synthetic.scene_matching import SceneMatching
from mmjax.encoders.features import FeatureEncoder
from mmjax.encoders.text import RecurrentEncoder, TransformerEncoder
from mmjax.losses.matching import Matching
from mmjax.metrics.matching import MatchingMetrics
from mmjax.models.matching import (
  FALSE_CAPTION,
  MatchingModel,
  find_true_candidates,
)
from mmjax.nn.graph_matching import (
  GraphMatcher,
  connect_caption,
  connect_pairs,
  connect_picture,
)
from mmjax.nn.matching import CrossAttentionMatcher, Phrases, PooledMatcher

pytestmark = pytest.mark.usefixtures("fast_compilation")

MATCHERS = {
  "pooled": PooledMatcher(5),
  "attention": CrossAttentionMatcher(6, num_heads=2, mlp_dim=7),
  "graph": GraphMatcher(6, num_heads=2, num_rounds=2, mlp_dim=7),
  "phrases": GraphMatcher(
    6, num_heads=2, num_rounds=2, mlp_dim=7, within=False
  ),
}
# Embeddings and positions: nothing to compile for long.
WORDS = TransformerEncoder(20, 6, 0, 1, 7, max_length=37)
every = pytest.mark.parametrize("name", MATCHERS)


def make_model(name, candidates=3):
  encoders = {
    "objects": FeatureEncoder(6),
    "text": WORDS,
  }
  return MatchingModel(encoders, MATCHERS[name], candidates, 3)


@pytest.fixture(scope="module")
def batch():
  data = SceneMatching(num_scenes=7)
  encoded = data.arrays("train")
  assert len(data.load_assets()["vocabulary"]) <= 20
  encoded["example_mask"] = np.arange(7) != 5
  return encoded


@every
def test_every_pair_is_scored_as_by_itself(name, batch):
  model = make_model(name)
  variables = random_variables(
    functools.partial(model.init, train=False), batch
  )
  run = jax.jit(functools.partial(model.apply, train=False))
  outputs = run(variables, batch)
  assert outputs["pair_scores"].shape == (7, 3)
  assert outputs["logits"].shape == (7, 2)
  np.testing.assert_array_equal(
    outputs["logits"][:, 1], outputs["pair_scores"][:, 0]
  )
  fewer = model.clone(num_candidates=2)
  few = jax.jit(functools.partial(fewer.apply, train=True))(variables, batch)
  for key, width in (("pair_scores", 2), ("logits", 2), ("pair_is_true", 2)):
    np.testing.assert_allclose(
      few[key], outputs[key][:, :width], rtol=1e-4, atol=1e-5
    )
  text = ("text", "text_mask", "phrase_spans", "phrase_mask", "phrase_facts")
  for picture, shift in ((0, 1), (6, 2)):
    one = {key: values[picture : picture + 1] for key, values in batch.items()}
    caption = (picture + shift) % 7
    for key in text:
      one[key] = batch[key][caption : caption + 1]
    alone = run(variables, one)
    assert alone["pair_scores"].shape == (1, 1)
    np.testing.assert_allclose(
      alone["pair_scores"][0, 0],
      outputs["pair_scores"][picture, shift],
      rtol=1e-4,
      atol=1e-5,
    )
  one = {key: values[2:3] for key, values in batch.items()}
  one["text"] = one["negative"]
  alone = run(variables, one)
  np.testing.assert_allclose(
    alone["logits"][0], outputs["logits"][2, 0], rtol=1e-4, atol=1e-5
  )


@every
def test_gradients_and_masked_content(name, batch):
  model = make_model(name)
  variables = random_variables(
    functools.partial(model.init, train=False), batch
  )

  def loss_fn(variables):
    outputs = model.apply(variables, batch, train=True)
    return Matching()(outputs, batch)[:5].sum()

  assert_every_parameter_learns(loss_fn, variables)
  changed = dict(batch)
  absent = ~batch["objects_mask"]
  changed["objects"] = batch["objects"] + absent[..., None] * 3.0
  for key in ("text", "negative"):
    changed[key] = np.where(batch["text_mask"], batch[key], 4)
  there = batch["phrase_mask"]
  changed["phrase_spans"] = np.where(there[..., None], batch["phrase_spans"], 2)
  changed["phrase_facts"] = np.where(there, batch["phrase_facts"], 3)
  run = jax.jit(functools.partial(model.apply, train=False))
  before, after = run(variables, batch), run(variables, changed)
  for key in ("logits", "pair_scores"):
    np.testing.assert_allclose(before[key], after[key], rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(before["pair_is_true"], after["pair_is_true"])


def test_model_and_data_agree_on_the_keys_of_false_captions():
  assert FALSE_CAPTION == stamp_pairs.FALSE_CAPTION


def test_true_candidates_are_those_of_the_data():
  data = SceneMatching(num_scenes=60, max_objects=24, picture_size=150)
  batch = data.arrays("train")
  expected = scene_matching.find_true_pairs(batch)
  index = (np.arange(60)[:, None] + np.arange(60)) % 60
  found = np.asarray(find_true_candidates(batch, jnp.asarray(index)))
  np.testing.assert_array_equal(found, expected[np.arange(60)[:, None], index])
  assert expected.sum() > 65


def test_the_model_tells_which_candidates_are_true():
  data = SceneMatching(num_scenes=60, max_objects=24, picture_size=150)
  batch = data.arrays("train")
  model = make_model("pooled").clone(num_eval_candidates=60)
  variables = random_variables(
    functools.partial(model.init, train=False), batch
  )
  found = jax.jit(functools.partial(model.apply, train=False))(variables, batch)
  every, index = np.arange(60)[:, None], np.arange(60)
  expected = scene_matching.find_true_pairs(batch)[every, (every + index) % 60]
  assert expected[:, 1:].any()  # some are true of others' scenes
  np.testing.assert_array_equal(found["pair_is_true"], expected)


@pytest.mark.parametrize("number", [7, 1])
def test_false_captions_have_words_and_phrases_of_their_own(batch, number):
  batch = {key: values[:number] for key, values in batch.items()}
  model = make_model("graph")
  variables = random_variables(
    functools.partial(model.init, train=False), batch
  )
  run = jax.jit(functools.partial(model.apply, train=False))
  changed = dict(batch)
  order = np.arange(number)[::-1]
  for true, false in (
    ("text", "negative"),
    ("text_mask", "negative_mask"),
    ("phrase_spans", "negative_phrase_spans"),
    ("phrase_mask", "negative_phrase_mask"),
  ):
    changed[true], changed[false] = batch[false], batch[true][order]
  before, after = run(variables, batch), run(variables, changed)
  np.testing.assert_allclose(
    after["logits"][:, 1], before["logits"][:, 0], rtol=1e-4, atol=1e-5
  )
  assert np.isfinite(after["logits"]).all()


def test_equal_captions_are_true_of_each_other_s_pictures():
  batch = {"caption_id": np.array([4, 0, 4, 3])}
  index = jnp.array([[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]])
  found = find_true_candidates(batch, index)
  assert found.tolist() == [
    *([True, False, True], [True, False, False]),
    *([True, False, True], [True, False, False]),
  ]


def test_the_graph_joins_phrases_to_their_words(batch):
  rng = np.random.default_rng(0)
  values = rng.normal(size=(7, 37, 3)).astype(np.float32)
  words = Tokens(jnp.asarray(values), jnp.asarray(batch["text_mask"]))
  regions = Tokens(jnp.ones((7, 8, 3)), jnp.asarray(batch["objects_mask"]))
  phrases = Phrases(batch["phrase_spans"], batch["phrase_mask"])
  caption = connect_caption(words, phrases)
  inside = np.asarray(caption.edges["word", "in", "phrase"].adjacency)
  picture = connect_picture(regions)
  near = np.asarray(picture.edges["region", "beside", "region"].adjacency)
  pairs = connect_pairs(regions, caption.nodes["phrase"])
  edges = {t: np.asarray(e.adjacency) for t, e in pairs.edges.items()}
  for row in range(7):
    number = batch["phrase_mask"][row].sum()
    for place in range(11):
      start, stop = batch["phrase_spans"][row, place]
      found = np.flatnonzero(inside[row, place])
      assert found.tolist() == list(range(start, stop))
      value = caption.nodes["phrase"].values[row, place]
      mean = values[row, start:stop].mean(axis=0) if stop else 0.0
      np.testing.assert_allclose(value, mean + np.zeros(3), atol=1e-6)
      for name, other in (("before", place - 1), ("after", place + 1)):
        heard = edges["phrase", name, "phrase"][row, place]
        there = place < number and 0 <= other < number
        assert np.flatnonzero(heard).tolist() == ([other] if there else [])
    objects = batch["objects_mask"][row].sum()
    assert edges["region", "under", "phrase"][row].sum() == number * objects
    assert near[row].sum() == objects**2


def test_every_parameter_learns_behind_an_lstm(batch):
  """At the width of the experiments, where a bias once had no gradient."""
  text = RecurrentEncoder(20, 32, 64, bidirectional=True, max_length=37)
  objects = FeatureEncoder(64, body="mlp", norm=False)
  model = MatchingModel(
    {"objects": objects, "text": text}, CrossAttentionMatcher(64), 2, 2
  )
  variables = jax.jit(functools.partial(model.init, train=False))(
    jax.random.key(0), batch
  )

  def loss_fn(variables):
    return Matching()(model.apply(variables, batch, train=True), batch).sum()

  assert_every_parameter_learns(loss_fn, variables)


def make_outputs(rng, number=7, candidates=4):
  true = rng.random((number, candidates)) < 0.2
  true[:, 0] = True
  return {
    "logits": rng.normal(size=(number, 2)).astype(np.float32),
    "pair_scores": rng.normal(size=(number, candidates)).astype(np.float32),
    "pair_is_true": true,
  }


def list_wrong(outputs, mask, row, *, of_picture):
  """Scores of the wrong candidates of a picture, or of a caption."""
  number, candidates = outputs["pair_scores"].shape
  scores = []
  for shift in range(1, candidates):
    picture = row if of_picture else (row - shift) % number
    other = (row + shift) % number if of_picture else picture
    if (
      mask[other] and mask[row] and not outputs["pair_is_true"][picture, shift]
    ):
      scores.append(outputs["pair_scores"][picture, shift])
  return scores


@pytest.mark.parametrize("false", [True, False])
def test_the_loss_is_that_of_a_loop(false):
  outputs = make_outputs(np.random.default_rng(0))
  mask = np.arange(7) != 2
  loss = Matching(false)(outputs, {"example_mask": mask})
  for row in np.flatnonzero(mask):
    own = outputs["pair_scores"][row, 0]
    expected = 0.0
    for of_picture in (True, False):
      others = list_wrong(outputs, mask, row, of_picture=of_picture)
      if of_picture and false:
        others.append(outputs["logits"][row, 0])
      expected += np.log(np.exp([own, *others]).sum()) - own
    np.testing.assert_allclose(loss[row], expected, rtol=1e-5)


def test_recall_is_that_of_a_loop():
  rng = np.random.default_rng(1)
  metrics = MatchingMetrics(2, 3, "question_type", ranks=(1, 2))
  total, rows = None, []
  candidates = {"caption": [], "picture": []}
  for _ in range(4):
    outputs = make_outputs(rng)
    outputs["pair_scores"] = np.round(outputs["pair_scores"])  # with ties
    batch = {
      "label": np.ones(7, np.int32),
      "example_mask": rng.random(7) < 0.8,
      "question_type": rng.integers(0, 3, 7),
    }
    counts = metrics.update(outputs, batch)
    total = counts if total is None else jax.tree.map(np.add, total, counts)
    for row in np.flatnonzero(batch["example_mask"]):
      own = outputs["pair_scores"][row, 0]
      better = []
      for what in candidates:
        wrong = list_wrong(
          outputs, batch["example_mask"], row, of_picture=what == "caption"
        )
        candidates[what].append(1 + len(wrong))
        better.append(sum(score >= own for score in wrong))
      right = outputs["logits"][row, 1] > outputs["logits"][row, 0]
      rows.append((batch["question_type"][row], *better, right))
  rows = np.array(rows)
  scores = metrics.compute(total)
  for what in ("caption", "picture"):
    expected = np.mean(candidates[what])
    assert scores[f"{what}_candidates"] == pytest.approx(expected)
  logits = {"logits": outputs["logits"]}
  fewer = metrics.compute(metrics.update(logits, batch))
  assert set(fewer) < set(scores)
  assert scores["accuracy"] == pytest.approx(rows[:, 3].mean())
  for rank in (1, 2):
    for side, what in ((1, "caption"), (2, "picture")):
      hits = rows[:, side] < rank
      assert scores[f"{what}_recall@{rank}"] == pytest.approx(hits.mean())
      for kind in range(3):
        assert scores[f"{what}_recall@{rank}_by_type"][str(kind)] == (
          pytest.approx(hits[rows[:, 0] == kind].mean())
        )


def test_mistakes_are_explained(batch):
  init = functools.partial(jax.random.key, 0)
  model = make_model("pooled", 0)
  with pytest.raises(ValueError, match="num_candidates is 0"):
    model.init(init(), batch, train=False)
  without = {k: v for k, v in batch.items() if k != "negative"}
  with pytest.raises(ValueError, match=r"needs batch\['negative'\]"):
    make_model("pooled").init(init(), without, train=False)
  model = MatchingModel({"text": WORDS}, PooledMatcher(5))
  with pytest.raises(ValueError, match="one of regions, got text"):
    model.init(init(), batch, train=False)
