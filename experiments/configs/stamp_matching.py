"""Stamps and their captions: 549 pictures to learn from, 118 to be tested.

Four experiments from pixels; they share the encoders and the loss and differ
in what scores a pair. Pooled vectors learn from all captions of a batch, the
others from eight and a false one. False captions are those of other pictures
of the same category, so that the category alone is right for half. Scores are
given by length of the caption, see `mmjax.data.stamp_pairs.LENGTHS`.
"""

from fiddle.experimental.auto_config import auto_config

from mmjax.data.stamps import Stamps
from mmjax.encoders.image import GridEncoder
from mmjax.encoders.text import RecurrentEncoder
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.losses.matching import Matching
from mmjax.metrics.matching import MatchingMetrics
from mmjax.models.matching import MatchingModel
from mmjax.nn.graph_matching import GraphMatcher
from mmjax.nn.matching import CrossAttentionMatcher, PooledMatcher
from mmjax.training.optimizer import AdamW


@auto_config
def stamp_matching(
  name, matcher, num_candidates, num_steps, batch_size, width, dtype, seed
):
  """The parts that all four experiments share."""
  return Experiment(
    name=name,
    model=MatchingModel(
      encoders={
        "image": GridEncoder(
          features=(32, 64), stem_size=2, width=width, dtype=dtype
        ),
        "text": RecurrentEncoder(
          vocabulary_size=800,
          embedding_dim=32,
          width=width,
          cell="lstm",
          bidirectional=True,
          dropout_rate=0.2,
          max_length=32,
          dtype=dtype,
        ),
      },
      matcher=matcher,
      num_candidates=num_candidates,
      num_eval_candidates=118,
    ),
    data=Stamps(task="matching", image_size=32),
    loss=Matching(use_false_caption=True),
    optimizer=AdamW(learning_rate=2e-3, weight_decay=1e-2),
    training=Training(
      num_steps=num_steps,
      batch_size=batch_size,
      log_every=50,
      eval_every=200,
      checkpoint_every=200,
    ),
    evaluation=Evaluation(
      metrics=MatchingMetrics(
        num_classes=2, num_types=3, type_key="question_type", ranks=(1, 5)
      ),
      split="validation",
      batch_size=118,
    ),
    seed=seed,
  )


@auto_config
def stamp_matching_pooled(
  width: int = 64,
  num_steps: int = 600,
  batch_size: int = 32,
  dtype: str = "float32",
  seed: int = 0,
):
  """Baseline: one vector of the stamp and one of the caption are compared.

  python -m experiments.train stamp_matching_pooled --workdir runs/st_pooled
  """
  return stamp_matching(
    name="stamp_matching_pooled",
    matcher=PooledMatcher(width=width, dtype=dtype),
    num_candidates=batch_size,
    num_steps=num_steps,
    batch_size=batch_size,
    width=width,
    dtype=dtype,
    seed=seed,
  )


@auto_config
def stamp_matching_attention(
  width: int = 64,
  num_steps: int = 600,
  batch_size: int = 32,
  dtype: str = "float32",
  seed: int = 0,
):
  """Baseline without a graph: words look at the cells of the stamp.

  python -m experiments.train stamp_matching_attention --workdir runs/st_att
  """
  return stamp_matching(
    name="stamp_matching_attention",
    matcher=CrossAttentionMatcher(
      width=width, num_heads=4, num_rounds=2, mlp_dim=2 * width, dtype=dtype
    ),
    num_candidates=8,
    num_steps=num_steps,
    batch_size=batch_size,
    width=width,
    dtype=dtype,
    seed=seed,
  )


@auto_config
def stamp_matching_graph(
  width: int = 64,
  num_steps: int = 600,
  batch_size: int = 32,
  dtype: str = "float32",
  seed: int = 0,
):
  """Cells of the stamp, words and phrases are nodes of one graph.

  python -m experiments.train stamp_matching_graph --workdir runs/st_graph
  """
  return stamp_matching(
    name="stamp_matching_graph",
    matcher=GraphMatcher(
      width=width, num_heads=4, num_rounds=2, mlp_dim=2 * width, dtype=dtype
    ),
    num_candidates=8,
    num_steps=num_steps,
    batch_size=batch_size,
    width=width,
    dtype=dtype,
    seed=seed,
  )


@auto_config
def stamp_matching_phrases(
  width: int = 64,
  num_steps: int = 600,
  batch_size: int = 32,
  dtype: str = "float32",
  seed: int = 0,
):
  """Control: no messages within cells, nor within phrases; all else stays.

  python -m experiments.train stamp_matching_phrases --workdir runs/phrases
  """
  return stamp_matching(
    name="stamp_matching_phrases",
    matcher=GraphMatcher(
      width=width,
      num_heads=4,
      num_rounds=2,
      mlp_dim=2 * width,
      within=False,
      dtype=dtype,
    ),
    num_candidates=8,
    num_steps=num_steps,
    batch_size=batch_size,
    width=width,
    dtype=dtype,
    seed=seed,
  )
