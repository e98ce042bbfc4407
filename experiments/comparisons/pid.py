"""Ten ways of fusing two modalities, on data whose interaction is known.

Two vectors of 200 features share a half; the label is decided by what they
share (redundancy), by one of them (unique_1, unique_2) or by both together
(synergy). The best possible accuracy is 75 % in all four.

  python -m experiments.compare pid --methods all --seeds 5 --workdir runs/pid

Liang et al. 2023, "Quantifying & Modeling Multimodal Interactions", Table 3,
https://arxiv.org/abs/2302.12247, has the published accuracies.
"""

import fiddle as fdl
from fiddle.experimental.auto_config import auto_config

from mmjax.comparison.cells import Comparison
from mmjax.comparison.methods import Method, make_method
from mmjax.data.synthetic.pid import PidSuite
from mmjax.encoders.features import FeatureEncoder
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.fusion.concat import Concat
from mmjax.fusion.elementwise import ElementwiseFusion
from mmjax.fusion.low_rank import LowRankFusion
from mmjax.fusion.mult import MulT
from mmjax.fusion.multiplicative import MultiplicativeFusion
from mmjax.fusion.tensor import TensorFusion
from mmjax.heads.classifier import Classifier
from mmjax.heads.decoder import Decoder
from mmjax.losses.agreement import Agreement
from mmjax.losses.alignment import Alignment
from mmjax.losses.reconstruction import Reconstruction
from mmjax.metrics.classification import ClassificationMetrics
from mmjax.models.alignment import AlignmentModel
from mmjax.models.late_fusion import LateFusion
from mmjax.models.multimodal import MultimodalModel
from mmjax.models.reconstruction import ReconstructionModel
from mmjax.nn.pooling import ModalityPooling
from mmjax.training.optimizer import AdamW

WIDTH = 32


@auto_config
def encoder():
  """A vector of features becomes one token."""
  return FeatureEncoder(width=WIDTH, body="mlp", mlp_dim=2 * WIDTH)


@auto_config
def encoders():
  """One encoder a modality, with parameters of its own."""
  return {"first": encoder(), "second": encoder()}


@auto_config
def classifier():
  """A perceptron over the pooled tokens."""
  return Classifier(num_classes=2, hidden=2 * WIDTH, dropout_rate=0.2)


@auto_config
def fused(fusion):
  """Encoders, a fusion, a head."""
  return MultimodalModel(encoders=encoders(), fusion=fusion, head=classifier())


@auto_config
def first_only():
  """The first modality alone."""
  return MultimodalModel(
    encoders={"first": encoder()}, fusion=Concat(WIDTH), head=classifier()
  )


@auto_config
def second_only():
  """The second modality alone."""
  return MultimodalModel(
    encoders={"second": encoder()}, fusion=Concat(WIDTH), head=classifier()
  )


@auto_config
def additive():
  """A classifier a modality; their log-probabilities are added."""
  return LateFusion(
    encoders=encoders(),
    heads={"first": classifier(), "second": classifier()},
    combine="product",
  )


@auto_config
def aligned():
  """Concatenation, with the modalities' vectors drawn together."""
  return AlignmentModel(
    encoders=encoders(),
    fusion=Concat(WIDTH),
    head=classifier(),
    projection=ModalityPooling(width=WIDTH),
  )


@auto_config
def reconstructing():
  """Concatenation, from which both inputs are decoded again."""
  return ReconstructionModel(
    encoders=encoders(),
    fusion=Concat(WIDTH),
    head=classifier(),
    decoders={
      "first": Decoder(shape=(200,), hidden=2 * WIDTH),
      "second": Decoder(shape=(200,), hidden=2 * WIDTH),
    },
  )


@auto_config
def experiment(model, loss, setting: str, seed: int):
  """One method on one setting; a seed draws data, weights and batches."""
  return Experiment(
    name="pid",
    model=model,
    data=PidSuite(setting=setting, seed=seed),
    loss=loss,
    optimizer=AdamW(learning_rate=2e-3, weight_decay=0.1),
    training=Training(
      num_steps=600, batch_size=256, eval_every=30, checkpoint_every=600
    ),
    evaluation=Evaluation(metrics=ClassificationMetrics(num_classes=2)),
    seed=seed,
  )


def method(model: fdl.Buildable, loss: fdl.Buildable | None = None) -> Method:
  """Makes a method of a model and, if it has one of its own, a loss."""
  return make_method(experiment, model, loss)


def fusion(kind: type, **settings: object) -> Method:
  """Makes a method of a fusion between the same encoders and head."""
  return method(fused.as_buildable(fusion=fdl.Config(kind, **settings)))


METHODS = {
  "first only": method(first_only.as_buildable()),
  "second only": method(second_only.as_buildable()),
  "additive": method(additive.as_buildable()),
  "concat": fusion(Concat, width=WIDTH),
  "elementwise": fusion(ElementwiseFusion, width=WIDTH, operation="product"),
  "multiplicative": fusion(MultiplicativeFusion, width=WIDTH),
  "MulT": fusion(MulT, width=WIDTH, num_heads=4, mlp_dim=2 * WIDTH),
  "tensor": fusion(TensorFusion, width=WIDTH),
  "low-rank": fusion(LowRankFusion, width=WIDTH, rank=8),
  "agree": method(additive.as_buildable(), fdl.Config(Agreement, weight=0.1)),
  "align": method(aligned.as_buildable(), fdl.Config(Alignment, weight=0.1)),
  "reconstruct": method(
    reconstructing.as_buildable(), fdl.Config(Reconstruction, weight=0.01)
  ),
}


def published(redundancy: float, unique: float, synergy: float) -> dict:
  """A row of the published table; its unique setting is our second."""
  return {"redundancy": redundancy, "unique_2": unique, "synergy": synergy}


COMPARISON = Comparison(
  name="pid",
  claim="ten fusions on synthetic data with known interactions",
  methods=METHODS,
  settings=("redundancy", "unique_1", "unique_2", "synergy"),
  baseline="concat",
  fresh_test_rows=True,
  single=("first only", "second only"),
  ceilings=dict.fromkeys(
    ("redundancy", "unique_1", "unique_2", "synergy"), 0.75
  ),
  published={
    "additive": published(0.74, 0.56, 0.54),
    "concat": published(0.74, 0.74, 0.73),
    "elementwise": published(0.71, 0.70, 0.67),
    "multiplicative": published(0.69, 0.70, 0.67),
    "MulT": published(0.72, 0.73, 0.71),
    "tensor": published(0.74, 0.74, 0.72),
    "low-rank": published(0.75, 0.74, 0.72),
    "align": published(0.74, 0.74, 0.74),
    "agree": published(0.74, 0.74, 0.74),
    "reconstruct": published(0.74, 0.74, 0.74),
  },
  source="Liang et al. 2023, https://arxiv.org/abs/2302.12247",
)
