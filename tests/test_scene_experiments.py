"""The experiments on scenes: all parts fit together, in shapes."""

import functools

import fiddle as fdl
import jax
import numpy as np
import pytest

from experiments.configs import (
  scene_graph_vqa,
  scene_matching,
  stamp_matching,
)
from mmjax.config import build_config
from mmjax.data import stamp_pairs
from mmjax.data.synthetic.scene_matching import find_true_pairs
from mmjax.evaluation import TrainedModel, collect_predictions, compute_scores
from mmjax.experiment import make_init_fn
from mmjax.trainer import check_settings

CONFIGS = (
  scene_graph_vqa.scene_graph_vqa_guided,
  scene_graph_vqa.scene_graph_vqa_no_edges,
  scene_graph_vqa.scene_graph_vqa_reasoning,
  scene_graph_vqa.scene_graph_vqa_detected,
  scene_graph_vqa.scene_graph_vqa_co_attention,
  scene_graph_vqa.scene_graph_vqa_question_only,
  scene_matching.scene_matching_pooled,
  scene_matching.scene_matching_attention,
  scene_matching.scene_matching_graph,
  scene_matching.scene_matching_phrases,
)
STAMPS = (
  stamp_matching.stamp_matching_pooled,
  stamp_matching.stamp_matching_attention,
  stamp_matching.stamp_matching_graph,
  stamp_matching.stamp_matching_phrases,
)
SMALL = ("width=8", "data.num_scenes=3", "data.num_eval_scenes=2")


@pytest.mark.parametrize("config_fn", CONFIGS, ids=lambda c: c.func.__name__)
def test_model_data_loss_and_metrics_fit(config_fn):
  experiment = fdl.build(build_config(config_fn, SMALL))
  assert experiment.name == config_fn.func.__name__
  assets = experiment.data.load_assets()
  check_settings(experiment, assets)
  params = jax.eval_shape(make_init_fn(experiment), jax.random.key(0))
  (embedding,) = (
    leaf.shape[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    if "embedding" in jax.tree_util.keystr(path)
  )
  assert embedding == len(assets["vocabulary"])


@pytest.mark.parametrize(
  "config_fn", [*CONFIGS[-4:], *STAMPS], ids=lambda c: c.func.__name__
)
def test_pooled_vectors_have_all_captions_of_a_batch(config_fn):
  experiment = fdl.build(build_config(config_fn, ("batch_size=24",)))
  stamps = experiment.name.startswith("stamp")
  few = 8 if stamps else 2
  pooled = experiment.name.endswith("pooled")
  assert experiment.model.num_candidates == (24 if pooled else few)


@pytest.mark.parametrize("config_fn", STAMPS, ids=lambda c: c.func.__name__)
def test_stamps_fit_without_their_package(config_fn):
  experiment = fdl.build(build_config(config_fn, ("width=8",)))
  assert experiment.name == config_fn.func.__name__
  lengths = list(stamp_pairs.LENGTHS)
  names = {"labels": ["negative", "text"], "question_types": lengths}
  check_settings(experiment, {**names, "vocabulary": [""] * 740})


def test_recall_of_an_evaluation_is_that_of_a_loop(fast_compilation):
  """Twelve scenes in blocks of five, the last one with padding."""
  changes = ("width=8", "data.num_scenes=3", "data.num_eval_scenes=12")
  config = build_config(
    scene_matching.scene_matching_pooled,
    (*changes, "evaluation.batch_size=5"),
  )
  experiment = fdl.build(config)
  params = jax.jit(make_init_fn(experiment))(jax.random.key(0))["params"]
  assets = experiment.data.load_assets()
  trained = TrainedModel(experiment, config, params, assets, 0)
  predictions = collect_predictions(trained, "test")
  scores = compute_scores(trained, predictions)

  batch = experiment.data.arrays("test")
  outputs = jax.jit(functools.partial(experiment.model.apply, train=False))(
    {"params": params}, batch
  )
  np.testing.assert_allclose(
    predictions.logits, outputs["logits"], rtol=1e-4, atol=1e-5
  )
  true = find_true_pairs(batch)
  own = np.arange(12)
  pairs = np.zeros((12, 12))
  for shift in range(12):
    pairs[own, (own + shift) % 12] = outputs["pair_scores"][:, shift]
  for what, matrix, wrong in (
    ("caption", pairs, ~true),
    ("picture", pairs.T, ~true.T),
  ):
    ranks, candidates = [], []
    for row in range(12):
      block = range(row // 5 * 5, min(row // 5 * 5 + 5, 12))
      others = [i for i in block if i != row and wrong[row, i]]
      ranks.append(sum(matrix[row, i] >= matrix[row, row] for i in others))
      candidates.append(1 + len(others))
    ranks = np.array(ranks)
    assert scores[f"{what}_candidates"] == pytest.approx(np.mean(candidates))
    for rank in (1, 5):
      assert scores[f"{what}_recall@{rank}"] == np.mean(ranks < rank)
      by_type = scores[f"{what}_recall@{rank}_by_type"]
      for kind in range(4):
        found = by_type[f"{kind + 2} relations"]
        assert found == np.mean(ranks[kind::4] < rank)
  right = outputs["logits"][:, 1] > outputs["logits"][:, 0]
  assert scores["accuracy"] == pytest.approx(np.mean(right))
