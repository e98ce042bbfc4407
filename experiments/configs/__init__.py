"""Every experiment, one function each; adding one is a line in `ALL`."""

from experiments.configs import (
  digit_motion,
  easy_vqa,
  scene_graph_vqa,
  scene_matching,
  sort_of_clevr,
  stamp_matching,
)

ALL = (
  easy_vqa.easy_vqa_co_attention,
  easy_vqa.easy_vqa_graph,
  easy_vqa.easy_vqa_concat,
  easy_vqa.easy_vqa_question_only,
  easy_vqa.easy_vqa_image_only,
  sort_of_clevr.sort_of_clevr_mlp,
  sort_of_clevr.sort_of_clevr_relation_network,
  sort_of_clevr.sort_of_clevr_graph,
  sort_of_clevr.sort_of_clevr_graph_once,
  sort_of_clevr.sort_of_clevr_graph_reasoning,
  sort_of_clevr.sort_of_clevr_co_attention,
  sort_of_clevr.sort_of_clevr_soft_attention,
  sort_of_clevr.sort_of_clevr_hard_attention,
  scene_matching.scene_matching_pooled,
  scene_matching.scene_matching_attention,
  scene_matching.scene_matching_graph,
  scene_matching.scene_matching_phrases,
  stamp_matching.stamp_matching_pooled,
  stamp_matching.stamp_matching_attention,
  stamp_matching.stamp_matching_graph,
  stamp_matching.stamp_matching_phrases,
  digit_motion.digit_motion_graph,
  scene_graph_vqa.scene_graph_vqa_guided,
  scene_graph_vqa.scene_graph_vqa_no_edges,
  scene_graph_vqa.scene_graph_vqa_reasoning,
  scene_graph_vqa.scene_graph_vqa_detected,
  scene_graph_vqa.scene_graph_vqa_co_attention,
  scene_graph_vqa.scene_graph_vqa_question_only,
)

EXPERIMENTS = {config_fn.func.__name__: config_fn for config_fn in ALL}
