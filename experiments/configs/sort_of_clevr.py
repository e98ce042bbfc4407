"""Sort-of-CLEVR: relational questions about six coloured shapes, 10 answers.

Eight experiments that share the question's encoder, the head and the training
and differ in what relates the objects. The scene is shown as the states of its
objects (position, colour, shape), so that nothing has to be seen, or as pixels,
of which four convolutions leave 5 x 5 cells in the stead of the objects. From
pixels picture and question have batch norm, and the head has no norm:

  python -m experiments.train sort_of_clevr_mlp --workdir runs/states_mlp
  python -m experiments.train sort_of_clevr_mlp --workdir runs/pixels_mlp \
    --set shown=image

What each reaches, and in what time, stands in experiments/README.md. Published,
from pixels: CNN + MLP 98 % of the non-relational and 62 % of the relational
questions, CNN + Relation Network 99 % and 94 % (Santoro et al. 2017,
https://arxiv.org/abs/1706.01427).
"""

from fiddle.experimental.auto_config import auto_config, exempt

from mmjax.config import ConfigError
from mmjax.data.sort_of_clevr import SortOfClevr
from mmjax.encoders.bag_of_words import BagOfWords
from mmjax.encoders.extended import ExtendedEncoder
from mmjax.encoders.features import FeatureEncoder
from mmjax.encoders.graph import GraphStage
from mmjax.encoders.image import GridEncoder
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


@exempt  # called while the configuration is made, and no part of it
def choose(shown, options):
  """Picks the option of what is shown.

  Raises:
    ConfigError: there is none.
  """
  if shown not in options:
    choices = " or ".join(map(repr, options))
    raise ConfigError(f"shown is {shown!r}; it must be {choices}")
  return options[shown]


@auto_config
def scene_encoder(shown, width, dtype):
  """Each object by itself, or a picture of 75 x 75 pixels as 5 x 5 cells.

  The picture as published, with batch norm. A norm over the cells of a picture
  would hide the area of the one red object, by which a square differs from a
  disc: with it no question about shapes was learned in our runs.
  """
  return choose(
    shown,
    {
      "objects": FeatureEncoder(
        width=width, body="mlp", norm=False, mlp_dim=2 * width, dtype=dtype
      ),
      "image": GridEncoder(
        features=(24, 24, 24, 24),
        width=width,
        downsampling="stride",
        norm="batch",
        positions="coordinates",
        dtype=dtype,
      ),
    },
  )


@auto_config
def question_encoder(shown, width, dtype):
  """A question becomes one token: its bag of words tells all there is.

  All questions share most words. From pixels batch norm takes away what they
  share, of which the published bits have little.
  """
  return BagOfWords(
    vocabulary_size=26,
    width=width,
    norm=choose(shown, {"objects": "layer", "image": "batch"}),
    dtype=dtype,
  )


@auto_config
def classifier(shown, width, dtype):
  """One pool for what was found, and one for the question if it is there.

  From pixels without a norm, which the published layers have none of.
  """
  return Classifier(
    num_classes=10,
    hidden=2 * width,
    pooling="mean",
    norm=choose(shown, {"objects": True, "image": False}),
    dtype=dtype,
  )


@auto_config
def fused(shown, encoder, fusion, width, dtype):
  """A scene and a question, fused once."""
  return MultimodalModel(
    encoders={shown: encoder, "text": question_encoder(shown, width, dtype)},
    fusion=fusion,
    head=classifier(shown, width, dtype),
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


@auto_config
def sort_of_clevr_mlp(
  shown: str = "objects",
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  """Baseline: a perceptron over everything at once, without any relation."""
  encoder = scene_encoder(shown, width, dtype)
  fusion = FlatMlp(width=width, hidden=(4 * width, 4 * width), dtype=dtype)
  model = fused(shown, encoder, fusion, width, dtype)
  return sort_of_clevr(
    "sort_of_clevr_mlp", shown, model, num_steps, batch_size, seed
  )


@auto_config
def sort_of_clevr_relation_network(
  shown: str = "objects",
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  """Relation Network: every pair of objects, with the question, summed."""
  encoder = scene_encoder(shown, width, dtype)
  fusion = RelationFusion(
    target=shown,
    width=width,
    pair_widths=(2 * width, 2 * width, 2 * width),
    widths=(2 * width,),
    dropout_rate=0.1,
    dtype=dtype,
  )
  model = fused(shown, encoder, fusion, width, dtype)
  return sort_of_clevr(
    "sort_of_clevr_relation_network", shown, model, num_steps, batch_size, seed
  )


@auto_config
def sort_of_clevr_graph(
  shown: str = "objects",
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  """Graph network: objects and the question are nodes, three rounds."""
  encoder = scene_encoder(shown, width, dtype)
  fusion = GraphFusion(
    width=width, num_heads=4, num_rounds=3, mlp_dim=2 * width, dtype=dtype
  )
  model = fused(shown, encoder, fusion, width, dtype)
  return sort_of_clevr(
    "sort_of_clevr_graph", shown, model, num_steps, batch_size, seed
  )


@auto_config
def sort_of_clevr_graph_once(
  shown: str = "objects",
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  """Graph network on the scene, once for all questions, then one soft look."""
  graph = GraphStage(
    num_rounds=2,
    num_heads=8,
    edge_dim=2 * width,
    mlp_dim=2 * width,
    dtype=dtype,
  )
  encoder = ExtendedEncoder(
    stem=scene_encoder(shown, width, dtype), stages=(graph,)
  )
  fusion = SoftAttention(target=shown, width=width, hidden=width, dtype=dtype)
  model = fused(shown, encoder, fusion, width, dtype)
  return sort_of_clevr(
    "sort_of_clevr_graph_once", shown, model, num_steps, batch_size, seed
  )


@auto_config
def sort_of_clevr_graph_reasoning(
  shown: str = "objects",
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  """The question walks over the graph of objects in three steps."""
  encoder = scene_encoder(shown, width, dtype)
  fusion = GraphReasoningFusion(
    target=shown, width=width, num_steps=3, dtype=dtype
  )
  model = fused(shown, encoder, fusion, width, dtype)
  return sort_of_clevr(
    "sort_of_clevr_graph_reasoning", shown, model, num_steps, batch_size, seed
  )


@auto_config
def sort_of_clevr_co_attention(
  shown: str = "objects",
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  """Objects and the question attend to each other, three rounds."""
  encoder = scene_encoder(shown, width, dtype)
  fusion = CoAttention(
    width=width,
    num_heads=4,
    num_rounds=3,
    mlp_dim=2 * width,
    self_attention=True,
    dtype=dtype,
  )
  model = fused(shown, encoder, fusion, width, dtype)
  return sort_of_clevr(
    "sort_of_clevr_co_attention", shown, model, num_steps, batch_size, seed
  )


@auto_config
def sort_of_clevr_soft_attention(
  shown: str = "objects",
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  """Baseline: the question averages objects once, which cannot relate."""
  encoder = scene_encoder(shown, width, dtype)
  fusion = SoftAttention(target=shown, width=width, hidden=width, dtype=dtype)
  model = fused(shown, encoder, fusion, width, dtype)
  return sort_of_clevr(
    "sort_of_clevr_soft_attention", shown, model, num_steps, batch_size, seed
  )


@auto_config
def sort_of_clevr_hard_attention(
  shown: str = "objects",
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  """Baseline: the question picks one object, which cannot relate."""
  model = HardAttentionModel(
    encoders={
      shown: scene_encoder(shown, width, dtype),
      "text": question_encoder(shown, width, dtype),
    },
    target=shown,
    head=classifier(shown, width, dtype),
    width=width,
    hidden=width,
    estimator="gumbel",
    dtype=dtype,
  )
  return sort_of_clevr(
    "sort_of_clevr_hard_attention", shown, model, num_steps, batch_size, seed
  )
