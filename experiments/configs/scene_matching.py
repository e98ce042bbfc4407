"""Scenes and captions of two to five relations: which caption is true?

Four experiments on the generated scenes with given objects; they share the
encoders and the loss and differ in what scores a pair. Pooled vectors learn
from all captions of a batch, which costs them nothing; the others from the true
one, the false one and another. The text alone is right for half.
"""

from fiddle.experimental.auto_config import auto_config

from mmjax.data.synthetic.scene_matching import SceneMatching
from mmjax.encoders.features import FeatureEncoder
from mmjax.encoders.text import RecurrentEncoder
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.losses.matching import Matching
from mmjax.metrics.matching import MatchingMetrics
from mmjax.models.matching import MatchingModel
from mmjax.nn.graph_matching import GraphMatcher
from mmjax.nn.matching import CrossAttentionMatcher, PooledMatcher
from mmjax.training.optimizer import AdamW


@auto_config
def scene_matching(
  name, matcher, num_candidates, num_steps, batch_size, width, dtype, seed
):
  """The parts that all four experiments share."""
  return Experiment(
    name=name,
    model=MatchingModel(
      encoders={
        "objects": FeatureEncoder(
          width=width, body="mlp", norm=False, mlp_dim=2 * width, dtype=dtype
        ),
        "text": RecurrentEncoder(
          vocabulary_size=20,
          embedding_dim=32,
          width=width,
          cell="lstm",
          bidirectional=True,
          max_length=37,
          dtype=dtype,
        ),
      },
      matcher=matcher,
      num_candidates=num_candidates,
      num_eval_candidates=100,
    ),
    data=SceneMatching(task="choice", num_scenes=10_000, num_eval_scenes=1_000),
    loss=Matching(use_false_caption=True),
    optimizer=AdamW(learning_rate=2e-3, weight_decay=1e-4),
    training=Training(
      num_steps=num_steps,
      batch_size=batch_size,
      log_every=50,
      eval_every=750,
      checkpoint_every=750,
    ),
    evaluation=Evaluation(
      metrics=MatchingMetrics(
        num_classes=2, num_types=4, type_key="question_type", ranks=(1, 5)
      ),
      split="validation",
      batch_size=100,
    ),
    seed=seed,
  )


@auto_config
def scene_matching_pooled(
  width: int = 64,
  num_steps: int = 1500,
  batch_size: int = 64,
  dtype: str = "float32",
  seed: int = 0,
):
  """Baseline: one vector of the scene and one of the caption are compared.

  python -m experiments.train scene_matching_pooled --workdir runs/pooled
  """
  return scene_matching(
    name="scene_matching_pooled",
    matcher=PooledMatcher(width=width, dtype=dtype),
    num_candidates=batch_size,
    num_steps=num_steps,
    batch_size=batch_size,
    width=width,
    dtype=dtype,
    seed=seed,
  )


@auto_config
def scene_matching_attention(
  width: int = 64,
  num_steps: int = 1500,
  batch_size: int = 64,
  dtype: str = "float32",
  seed: int = 0,
):
  """Baseline without a graph: words look at objects, three times.

  python -m experiments.train scene_matching_attention --workdir runs/attention
  """
  return scene_matching(
    name="scene_matching_attention",
    matcher=CrossAttentionMatcher(
      width=width, num_heads=4, num_rounds=3, mlp_dim=2 * width, dtype=dtype
    ),
    num_candidates=2,
    num_steps=num_steps,
    batch_size=batch_size,
    width=width,
    dtype=dtype,
    seed=seed,
  )


@auto_config
def scene_matching_graph(
  width: int = 64,
  num_steps: int = 1500,
  batch_size: int = 64,
  dtype: str = "float32",
  seed: int = 0,
):
  """Objects, words and phrases are nodes of one graph.

  python -m experiments.train scene_matching_graph --workdir runs/matching
  """
  return scene_matching(
    name="scene_matching_graph",
    matcher=GraphMatcher(
      width=width, num_heads=4, num_rounds=3, mlp_dim=2 * width, dtype=dtype
    ),
    num_candidates=2,
    num_steps=num_steps,
    batch_size=batch_size,
    width=width,
    dtype=dtype,
    seed=seed,
  )


@auto_config
def scene_matching_phrases(
  width: int = 64,
  num_steps: int = 1500,
  batch_size: int = 64,
  dtype: str = "float32",
  seed: int = 0,
):
  """Control: no messages within objects, nor within phrases; all else stays.

  python -m experiments.train scene_matching_phrases --workdir runs/phrases
  """
  return scene_matching(
    name="scene_matching_phrases",
    matcher=GraphMatcher(
      width=width,
      num_heads=4,
      num_rounds=3,
      mlp_dim=2 * width,
      within=False,
      dtype=dtype,
    ),
    num_candidates=2,
    num_steps=num_steps,
    batch_size=batch_size,
    width=width,
    dtype=dtype,
    seed=seed,
  )
