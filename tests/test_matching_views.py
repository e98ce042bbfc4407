"""Cards of matching: both captions, and the graph of the true one."""

import fiddle as fdl
import jax
import numpy as np
import pytest

from experiments.configs import scene_matching
from mmjax.config import build_config
from mmjax.evaluation import TrainedModel
from mmjax.experiment import make_init_fn
from mmjax.explanation import explain_records
from mmjax.report.examples import star_differences
from mmjax.report.overlays import word_weights

SMALL = ("width=8", "data.num_scenes=3", "data.num_eval_scenes=4")

pytestmark = pytest.mark.usefixtures("fast_compilation")


def _explain(matcher):
  config_fn = getattr(scene_matching, f"scene_matching_{matcher}")
  config = build_config(config_fn, SMALL)
  experiment = fdl.build(config)
  params = jax.jit(make_init_fn(experiment))(jax.random.key(0))["params"]
  assets = experiment.data.load_assets()
  trained = TrainedModel(experiment, config, params, assets, 0)
  examples = experiment.data.list_examples("test")
  views = explain_records(trained, examples)
  return experiment, params, examples, views


def test_a_card_has_the_picture_both_captions_and_phrases_over_objects():
  experiment, params, examples, views = _explain("graph")
  data, batch = experiment.data, experiment.data.arrays("test")
  # Rows of a batch of one are the true pair and the false one.
  logits = jax.jit(lambda p, b: experiment.model.apply(p, b, train=False))(
    {"params": params}, batch
  )["logits"]
  shares = np.asarray(jax.nn.softmax(logits))
  for row, (view, example) in enumerate(
    zip(views, examples.values(), strict=True)
  ):
    true, false = example["text"], example["negative"]
    assert (view.choices, view.answer) == ("captions", true)
    assert dict(view.top) == {
      false: pytest.approx(shares[row, 0], abs=1e-5),
      true: pytest.approx(shares[row, 1], abs=1e-5),
    }
    assert view.correct == (shares[row, 1] > shares[row, 0])
    starred = star_differences([true, false])
    assert [s.replace("*", "") for s in starred] == [true, false]
    assert [s.count("*") for s in starred] == [2, 2]  # around one word
    np.testing.assert_array_equal(view.image, batch["image"][row])
    (graph,) = view.graphs
    phrases = [n for n in graph.nodes if n.end[0] == "phrase"]
    told = " ".join(node.label for node in phrases)
    assert told == true.replace(",", "")
    assert len(phrases) == batch["phrase_mask"][row].sum()
    objects = [n for n in graph.nodes if n.end[0] == "region"]
    assert len(objects) == batch["objects_mask"][row].sum()
    names, boxes = data.place_tokens(
      {key: values[row : row + 1] for key, values in batch.items()}
    )["objects"]
    for node in objects:
      assert node.label == names[node.end[1]]
      assert node.box == pytest.approx(boxes[node.end[1]].tolist())
    across = {
      (edge.sender[0], edge.receiver[0])
      for edge in graph.steps[0].edges
      if edge.sender[0] != edge.receiver[0]
    }
    assert across == {("region", "phrase")}


def test_words_that_look_are_drawn():
  *_, views = _explain("attention")
  (graph,) = views[0].graphs
  kinds = {(e.sender[0], e.receiver[0]) for e in graph.steps[0].edges}
  assert kinds == {("region", "word")}


def test_vectors_that_are_compared_show_what_was_pooled():
  *_, examples, views = _explain("pooled")
  for view, example in zip(views, examples.values(), strict=True):
    (graph,) = view.graphs
    assert graph.title == "Where it looked: region"
    assert sum(graph.steps[0].shares.values()) == pytest.approx(1, abs=1e-5)
    ((title, shares),) = word_weights(view)
    assert title == "pooling over words"
    assert view.words == example["text"].replace(",", "").split()
    assert shares.sum() == pytest.approx(1, abs=1e-5)
