"""Scene-graph VQA: questions of one to four hops about coloured shapes.

Six experiments on the generated scenes; they share the reader of the question,
the head and the optimizer. One who sees nothing is right for a fifth.
Three of them are guided: in training, and only there, each step is told which
object it should look at.
"""

from fiddle.experimental.auto_config import auto_config

from mmjax.data.synthetic.scene_graph_vqa import SceneGraphVqa
from mmjax.encoders.features import FeatureEncoder
from mmjax.encoders.image import GridEncoder
from mmjax.encoders.text import RecurrentEncoder
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.fusion.co_attention import CoAttention
from mmjax.fusion.concat import Concat
from mmjax.heads.classifier import Classifier
from mmjax.losses.cross_entropy import CrossEntropy
from mmjax.losses.detection import AnswerAndDetection
from mmjax.losses.guidance import Guided
from mmjax.metrics.classification import ClassificationMetrics
from mmjax.metrics.detection import DetectionMetrics
from mmjax.models.multimodal import MultimodalModel
from mmjax.models.scene_reasoning import SceneReasoning
from mmjax.nn.detection import CellDetector
from mmjax.nn.graph_reasoning import GraphReasoning
from mmjax.training.optimizer import AdamW


@auto_config
def question_encoder(width, dtype):
  """A question becomes one token a word, read in both directions."""
  return RecurrentEncoder(
    vocabulary_size=25,
    embedding_dim=32,
    width=width,
    cell="lstm",
    bidirectional=True,
    max_length=30,
    dtype=dtype,
  )


@auto_config
def answer_head(width, dtype):
  """Ten answers: six colours and four shapes."""
  return Classifier(num_classes=10, hidden=2 * width, dtype=dtype)


@auto_config
def answer_metrics():
  """Accuracy, also by the number of hops."""
  return ClassificationMetrics(
    num_classes=10, num_types=4, type_key="question_type"
  )


@auto_config
def scene_graph_vqa(
  name, model, loss, metrics, read_objects, num_steps, batch_size, seed
):
  """The parts that all six experiments share."""
  return Experiment(
    name=name,
    model=model,
    data=SceneGraphVqa(
      num_scenes=8_000, num_eval_scenes=1_000, read_objects=read_objects
    ),
    loss=loss,
    optimizer=AdamW(learning_rate=2e-3, weight_decay=1e-4),
    training=Training(
      num_steps=num_steps,
      batch_size=batch_size,
      log_every=50,
      eval_every=1_000,
      checkpoint_every=1_000,
    ),
    evaluation=Evaluation(
      metrics=metrics,
      split="validation",
      batch_size=512,
    ),
    seed=seed,
  )


@auto_config
def answer_loss():
  """Only the answer counts."""
  return CrossEntropy(label_smoothing=0.0)


@auto_config
def guided(answer):
  """Tells each step, in training, which object it should look at."""
  return Guided(answer=answer, weight=1.0)


@auto_config
def over_given_objects(
  name, use_edges, loss, width, num_steps, batch_size, dtype, seed
):
  """Five steps over the given objects, with or without their relations."""
  return scene_graph_vqa(
    name=name,
    model=SceneReasoning(
      encoders={"text": question_encoder(width, dtype)},
      reasoning=GraphReasoning(
        width=width, num_steps=5, num_types=4, use_edges=use_edges, dtype=dtype
      ),
      head=answer_head(width, dtype),
    ),
    loss=loss,
    metrics=answer_metrics(),
    read_objects=True,
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def scene_graph_vqa_guided(
  width: int = 64,
  num_steps: int = 2000,
  batch_size: int = 128,
  dtype: str = "float32",
  seed: int = 0,
):
  """Five guided steps of reasoning over the given objects and relations.

  python -m experiments.train scene_graph_vqa_guided --workdir runs/guided
  """
  name, loss = "scene_graph_vqa_guided", guided(answer_loss())
  return over_given_objects(
    name, True, loss, width, num_steps, batch_size, dtype, seed
  )


@auto_config
def scene_graph_vqa_no_edges(
  width: int = 64,
  num_steps: int = 2000,
  batch_size: int = 128,
  dtype: str = "float32",
  seed: int = 0,
):
  """Baseline without a graph: the same guided steps look at objects alone.

  python -m experiments.train scene_graph_vqa_no_edges --workdir runs/no_edges
  """
  name, loss = "scene_graph_vqa_no_edges", guided(answer_loss())
  return over_given_objects(
    name, False, loss, width, num_steps, batch_size, dtype, seed
  )


@auto_config
def scene_graph_vqa_reasoning(
  width: int = 64,
  num_steps: int = 2000,
  batch_size: int = 128,
  dtype: str = "float32",
  seed: int = 0,
):
  """Five steps over the given graph, learned from answers alone.

  python -m experiments.train scene_graph_vqa_reasoning --workdir runs/reason
  """
  name, loss = "scene_graph_vqa_reasoning", answer_loss()
  return over_given_objects(
    name, True, loss, width, num_steps, batch_size, dtype, seed
  )


@auto_config
def scene_graph_vqa_detected(
  width: int = 64,
  num_steps: int = 2000,
  batch_size: int = 128,
  dtype: str = "float32",
  seed: int = 0,
):
  """Guided steps over objects and relations that a detector finds in pixels.

  python -m experiments.train scene_graph_vqa_detected --workdir runs/detect
  """
  return scene_graph_vqa(
    name="scene_graph_vqa_detected",
    model=SceneReasoning(
      encoders={
        "image": GridEncoder(features=(32, 64), width=width, dtype=dtype),
        "text": question_encoder(width, dtype),
      },
      reasoning=GraphReasoning(
        width=width, num_steps=5, num_types=4, dtype=dtype
      ),
      head=answer_head(width, dtype),
      detector=CellDetector(kind_sizes=(6, 4, 2), hidden=width, dtype=dtype),
      num_objects=8,
    ),
    loss=guided(AnswerAndDetection(weight=1.0)),
    metrics=DetectionMetrics(
      num_classes=10, num_types=4, type_key="question_type"
    ),
    read_objects=False,
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def scene_graph_vqa_co_attention(
  width: int = 64,
  num_steps: int = 2000,
  batch_size: int = 128,
  dtype: str = "float32",
  seed: int = 0,
):
  """Baseline without a graph: words and given objects attend to each other.

  python -m experiments.train scene_graph_vqa_co_attention --workdir runs/co
  """
  return scene_graph_vqa(
    name="scene_graph_vqa_co_attention",
    model=MultimodalModel(
      encoders={
        "objects": FeatureEncoder(
          width=width, body="mlp", norm=False, mlp_dim=2 * width, dtype=dtype
        ),
        "text": question_encoder(width, dtype),
      },
      fusion=CoAttention(
        width=width, num_heads=4, num_rounds=4, mlp_dim=2 * width, dtype=dtype
      ),
      head=answer_head(width, dtype),
    ),
    loss=answer_loss(),
    metrics=answer_metrics(),
    read_objects=True,
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def scene_graph_vqa_question_only(
  width: int = 64,
  num_steps: int = 1000,
  batch_size: int = 128,
  dtype: str = "float32",
  seed: int = 0,
):
  """Ablation: what the questions alone give away.

  python -m experiments.train scene_graph_vqa_question_only --workdir runs/text
  """
  return scene_graph_vqa(
    name="scene_graph_vqa_question_only",
    model=MultimodalModel(
      encoders={"text": question_encoder(width, dtype)},
      fusion=Concat(width=width, dtype=dtype),
      head=answer_head(width, dtype),
    ),
    loss=answer_loss(),
    metrics=answer_metrics(),
    read_objects=False,
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )
