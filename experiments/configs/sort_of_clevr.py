"""Sort-of-CLEVR: relational questions about six coloured shapes, 10 answers.

What the experiments from states and from pixels share: the question's encoder,
the fusions, the head and the training. They differ in what encodes the scene,
and among each other in the fusion.

Published, from pixels: CNN + MLP 98 % of the non-relational and 62 % of the
relational questions, CNN + Relation Network 99 % and 94 % (Santoro et al. 2017,
https://arxiv.org/abs/1706.01427).
"""

from fiddle.experimental.auto_config import auto_config

from mmjax.data.sort_of_clevr import SortOfClevr
from mmjax.encoders.bag_of_words import BagOfWords
from mmjax.encoders.extended import ExtendedEncoder
from mmjax.encoders.graph import GraphStage
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.fusion.co_attention import CoAttention
from mmjax.fusion.flat_mlp import FlatMlp
from mmjax.fusion.graph import GraphFusion
from mmjax.fusion.graph_reasoning import GraphReasoningFusion
from mmjax.fusion.relation_network import RelationFusion
from mmjax.fusion.soft_attention import SoftAttention
from mmjax.heads.classifier import Classifier
from mmjax.losses.cross_entropy import CrossEntropy
from mmjax.metrics.classification import ClassificationMetrics
from mmjax.models.hard_attention import HardAttentionModel
from mmjax.models.multimodal import MultimodalModel
from mmjax.training.optimizer import AdamW


@auto_config
def question_encoder(width, dtype):
  """A question becomes one token: its bag of words tells all there is."""
  return BagOfWords(vocabulary_size=26, width=width, dtype=dtype)


@auto_config
def classifier(width, dtype):
  """One pool for what was found, and one for the question if it is there."""
  return Classifier(
    num_classes=10, hidden=2 * width, pooling="mean", dtype=dtype
  )


@auto_config
def fused(shown, encoder, fusion, width, dtype):
  """A scene and a question, fused once."""
  return MultimodalModel(
    encoders={shown: encoder, "text": question_encoder(width, dtype)},
    fusion=fusion,
    head=classifier(width, dtype),
  )


@auto_config
def mlp(width, dtype):
  """All objects and the question in one vector."""
  return FlatMlp(width=width, hidden=(4 * width, 4 * width), dtype=dtype)


@auto_config
def relation_network(shown, width, dtype):
  """Every pair of objects with the question, summed."""
  return RelationFusion(
    target=shown,
    width=width,
    pair_widths=(2 * width, 2 * width, 2 * width),
    widths=(2 * width,),
    dropout_rate=0.1,
    dtype=dtype,
  )


@auto_config
def graph(width, dtype):
  """Objects and question are nodes of one graph, edges of every type."""
  return GraphFusion(
    width=width, num_heads=4, num_rounds=3, mlp_dim=2 * width, dtype=dtype
  )


@auto_config
def co_attention(width, dtype):
  """Objects and question attend to each other and to themselves."""
  return CoAttention(
    width=width,
    num_heads=4,
    num_rounds=3,
    mlp_dim=2 * width,
    self_attention=True,
    dtype=dtype,
  )


@auto_config
def soft_attention(shown, width, dtype):
  """The question averages the objects by how well they fit it."""
  return SoftAttention(target=shown, width=width, hidden=width, dtype=dtype)


@auto_config
def hard_attention(shown, encoder, width, dtype):
  """The question picks one object."""
  return HardAttentionModel(
    encoders={shown: encoder, "text": question_encoder(width, dtype)},
    target=shown,
    head=classifier(width, dtype),
    width=width,
    hidden=width,
    estimator="gumbel",
    dtype=dtype,
  )


@auto_config
def graph_reasoning(shown, width, dtype):
  """The question walks over the objects in three steps."""
  return GraphReasoningFusion(
    target=shown, width=width, num_steps=3, dtype=dtype
  )


@auto_config
def scene_graph(encoder, width, dtype):
  """Objects hear each other in rounds, once for all questions of a scene."""
  return ExtendedEncoder(
    stem=encoder,
    stages=(
      GraphStage(
        num_rounds=2,
        num_heads=8,
        edge_dim=2 * width,
        mlp_dim=2 * width,
        dtype=dtype,
      ),
    ),
  )


@auto_config
def sort_of_clevr(name, shown, model, num_steps, batch_size, seed):
  """The parts that all experiments share; a batch holds whole scenes."""
  return Experiment(
    name=name,
    model=model,
    data=SortOfClevr(
      shown=shown, questions_per_image=20, max_words=12, image_size=75
    ),
    loss=CrossEntropy(label_smoothing=0.0),
    optimizer=AdamW(learning_rate=1e-3, weight_decay=1e-2),
    training=Training(
      num_steps=num_steps,
      batch_size=batch_size,
      log_every=200,
      eval_every=2000,
      checkpoint_every=2000,
    ),
    evaluation=Evaluation(
      metrics=ClassificationMetrics(
        num_classes=10, num_types=2, type_key="question_type"
      ),
      split="validation",
      batch_size=400,
    ),
    seed=seed,
  )
