"""Every fusion on written and spoken digits, neither of which suffices.

The written digit keeps the components that hold a quarter of the energy, the
spoken one is noisy; both are of the same class.

  python -m experiments.compare av_digits --seeds 5 --workdir runs/av_digits
"""

from fiddle.experimental.auto_config import auto_config

from experiments.comparisons.fusions import (
  WIDTH,
  bottleneck,
  gate,
  make_fusions,
)
from mmjax.comparison.cells import Comparison
from mmjax.comparison.methods import make_method
from mmjax.data.av_digits import AvDigits
from mmjax.encoders.audio import ConvTransformerEncoder
from mmjax.encoders.features import FeatureEncoder
from mmjax.encoders.image import GridEncoder
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.fusion.concat import Concat
from mmjax.heads.classifier import Classifier
from mmjax.losses.cross_entropy import CrossEntropy
from mmjax.losses.per_modality import PerModality
from mmjax.losses.reinforce import Reinforce
from mmjax.metrics.classification import ClassificationMetrics
from mmjax.models.hard_attention import HardAttentionModel
from mmjax.models.hybrid import HybridModel
from mmjax.models.late_fusion import LateFusion
from mmjax.models.multimodal import MultimodalModel
from mmjax.training.optimizer import AdamW


@auto_config
def image_encoder():
  """28 x 28 pixels become 7 x 7 tokens."""
  return GridEncoder(width=WIDTH, features=(32,), stem_size=2)


@auto_config
def audio_encoder():
  """A token a frame, each of which has seen all others."""
  return FeatureEncoder(
    width=WIDTH, body="transformer", positions=True, mlp_dim=2 * WIDTH
  )


@auto_config
def encoders():
  """One encoder a modality."""
  return {"audio": audio_encoder(), "image": image_encoder()}


@auto_config
def classifier():
  """A perceptron over the pooled tokens."""
  return Classifier(num_classes=10, hidden=2 * WIDTH)


@auto_config
def fused(fusion):
  """Encoders, a fusion, a head."""
  return MultimodalModel(encoders=encoders(), fusion=fusion, head=classifier())


@auto_config
def image_only():
  """The written digit alone."""
  return MultimodalModel(
    encoders={"image": image_encoder()},
    fusion=Concat(width=WIDTH),
    head=classifier(),
  )


@auto_config
def audio_only():
  """The spoken digit alone."""
  return MultimodalModel(
    encoders={"audio": audio_encoder()},
    fusion=Concat(width=WIDTH),
    head=classifier(),
  )


@auto_config
def late(combine):
  """A head a modality; their answers are combined."""
  return LateFusion(
    encoders=encoders(),
    heads={"audio": classifier(), "image": classifier()},
    combine=combine,
  )


@auto_config
def hybrid(exchanges):
  """Encoders of two stages each, with exchanges behind them.

  A gate adds the same to all cells of an image. A norm over the cells would
  take that away again, so this one is over the features.
  """
  return HybridModel(
    encoders={
      "audio": ConvTransformerEncoder(
        width=WIDTH,
        strides=(2,),
        num_layers=1,
        num_heads=4,
        mlp_dim=2 * WIDTH,
      ),
      "image": GridEncoder(
        width=WIDTH, features=(WIDTH, WIDTH), stem_size=2, norm="layer"
      ),
    },
    exchanges=exchanges,
    fusion=Concat(width=WIDTH),
    head=classifier(),
  )


@auto_config
def hard(estimator):
  """The speech decides which places of the picture the head sees."""
  return HardAttentionModel(
    encoders=encoders(),
    target="image",
    head=classifier(),
    width=WIDTH,
    estimator=estimator,
    k=8,
  )


@auto_config
def reinforced():
  """Cross-entropy whose gradient reaches what was sampled."""
  return Reinforce(base=CrossEntropy())


@auto_config
def own_losses():
  """Cross-entropy of the combined answer and of each head's own."""
  return PerModality(loss=CrossEntropy())


@auto_config
def experiment(model, loss, setting: str, seed: int):
  """One method; `setting` is the name of the only one."""
  return Experiment(
    name=setting,
    model=model,
    data=AvDigits(image_energy=0.25, noise=1.5, max_frames=37, seed=seed),
    loss=loss,
    optimizer=AdamW(learning_rate=2e-3, weight_decay=1e-2),
    training=Training(
      num_steps=400, batch_size=64, eval_every=50, checkpoint_every=400
    ),
    evaluation=Evaluation(metrics=ClassificationMetrics(num_classes=10)),
    seed=seed,
  )


METHODS = {
  "image only": make_method(experiment, image_only.as_buildable()),
  "audio only": make_method(experiment, audio_only.as_buildable()),
  **{
    name: make_method(experiment, fused.as_buildable(fusion=fusion))
    for name, fusion in make_fusions(target="image").items()
  },
  **{
    f"late {rule}": make_method(
      experiment, late.as_buildable(combine=rule), own_losses.as_buildable()
    )
    for rule in ("mean", "weighted", "vote", "product", "stacking")
  },
  "hybrid": make_method(
    experiment,
    hybrid.as_buildable(
      exchanges=(None, gate.as_buildable(), bottleneck.as_buildable())
    ),
  ),
  "hybrid without exchange": make_method(
    experiment, hybrid.as_buildable(exchanges=())
  ),
  "hard REINFORCE": make_method(
    experiment,
    hard.as_buildable(estimator="reinforce"),
    reinforced.as_buildable(),
  ),
  "hard Gumbel": make_method(experiment, hard.as_buildable(estimator="gumbel")),
  "hard top-k": make_method(experiment, hard.as_buildable(estimator="top_k")),
}

COMPARISON = Comparison(
  name="av_digits",
  claim="every fusion on cut written digits and noisy spoken ones",
  methods=METHODS,
  settings=("digits",),
  baseline="concat",
  single=("image only", "audio only"),
)
