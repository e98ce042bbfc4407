"""Every experiment, one function each; adding one is a line in `ALL`."""

from experiments.configs import easy_vqa

ALL = (
  easy_vqa.easy_vqa_co_attention,
  easy_vqa.easy_vqa_graph,
  easy_vqa.easy_vqa_concat,
  easy_vqa.easy_vqa_question_only,
  easy_vqa.easy_vqa_image_only,
)

EXPERIMENTS = {config_fn.func.__name__: config_fn for config_fn in ALL}
