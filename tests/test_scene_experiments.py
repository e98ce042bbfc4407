"""The experiments on scenes: all parts fit together, in shapes."""

import fiddle as fdl
import jax
import pytest

from experiments.configs import (
  scene_graph_vqa,
  scene_matching,
  stamp_matching,
)
from mmjax.config import build_config
from mmjax.experiment import make_init_fn
from mmjax.trainer import check_settings

CONFIGS = (
  scene_graph_vqa.scene_graph_vqa_reasoning,
  scene_graph_vqa.scene_graph_vqa_detected,
  scene_graph_vqa.scene_graph_vqa_co_attention,
  scene_graph_vqa.scene_graph_vqa_question_only,
  scene_matching.scene_matching_pooled,
  scene_matching.scene_matching_attention,
  scene_matching.scene_matching_graph,
)
STAMPS = (
  stamp_matching.stamp_matching_pooled,
  stamp_matching.stamp_matching_attention,
  stamp_matching.stamp_matching_graph,
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


@pytest.mark.parametrize("config_fn", STAMPS, ids=lambda c: c.func.__name__)
def test_stamps_fit_without_their_package(config_fn):
  experiment = fdl.build(build_config(config_fn, ("width=8",)))
  assert experiment.name == config_fn.func.__name__
  names = {"labels": ["negative", "text"], "question_types": ["caption"]}
  check_settings(experiment, {**names, "vocabulary": [""] * 740})
