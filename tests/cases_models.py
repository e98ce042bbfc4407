"""The models of the catalogue, for their contract; adding one adds a row."""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
from fusion_contract import EVERY, SIZES, WIDTH, WIDTHS

from mmjax.encoders.features import FeatureEncoder
from mmjax.fusion.bottleneck import BottleneckFusion
from mmjax.fusion.concat import Concat
from mmjax.fusion.elementwise import ElementwiseFusion
from mmjax.fusion.gated import GatedFusion
from mmjax.heads.classifier import Classifier
from mmjax.heads.decoder import Decoder
from mmjax.losses.agreement import Agreement
from mmjax.losses.alignment import Alignment
from mmjax.losses.cross_entropy import CrossEntropy
from mmjax.losses.per_modality import PerModality
from mmjax.losses.reconstruction import Reconstruction
from mmjax.losses.reinforce import Reinforce
from mmjax.models.alignment import AlignmentModel
from mmjax.models.hard_attention import HardAttentionModel
from mmjax.models.hybrid import Exchange, HybridModel
from mmjax.models.late_fusion import LateFusion
from mmjax.models.multimodal import MultimodalModel
from mmjax.models.reconstruction import ReconstructionModel
from mmjax.nn.pooling import ModalityPooling

CLASSES, HIDDEN, MLP = 3, 7, 5
TARGET = "image"  # of hard attention: there with any number of modalities


def name_themselves(number):
  """The first modalities, each under its own name."""
  return {m: m for m in list(SIZES)[:number]}


@dataclasses.dataclass(frozen=True)
class Parts:
  """What models are made of.

  Attributes:
    names: what the model calls each modality.
    dtype: dtype of the computation.
    dropped: whether there is dropout.
  """

  names: Mapping[str, str]
  dtype: str = "float32"
  dropped: bool = False

  @property
  def settings(self):
    return {"dtype": self.dtype, "dropout_rate": 0.5 if self.dropped else 0.0}

  def encoders(self):
    return {
      name: FeatureEncoder(WIDTH, **self.settings)
      for name in self.names.values()
    }

  def deep_encoders(self):
    """In stages: one of the target's, two of the others'."""
    return {
      name: FeatureEncoder(
        WIDTH,
        body="mlp",
        num_layers=1 if m == TARGET else 2,
        mlp_dim=MLP,
        **self.settings,
      )
      for m, name in self.names.items()
    }

  def exchanges(self):
    """A gate behind the beginning, a bottleneck behind the first stage."""
    gate = GatedFusion(3, gate_from="others", **self.settings)
    bottleneck = BottleneckFusion(
      WIDTH,
      num_heads=3,
      num_layers=2,
      fusion_layer=0,
      num_bottlenecks=2,
      mlp_dim=MLP,
      **self.settings,
    )
    return tuple(
      Exchange(unit, dtype=self.dtype) for unit in (gate, bottleneck)
    )

  def fusion(self):
    return ElementwiseFusion(WIDTH, **self.settings)

  def head(self):
    return Classifier(CLASSES, HIDDEN, **self.settings)

  def heads(self):
    return {name: self.head() for name in self.names.values()}

  def decoders(self):
    return {
      name: Decoder((SIZES[m], WIDTHS[m]), HIDDEN, **self.settings)
      for m, name in self.names.items()
    }


@dataclasses.dataclass(frozen=True)
class Case:
  """One model.

  Attributes:
    make: from its parts to the module.
    count: from a number of modalities to that of the parameters.
    draws: from a number of modalities to how often a step of training draws
      random numbers: once for each dropout and for a pick that is sampled.
    loss: what it is trained with.
    numbers: of modalities; one to five, unless the case says what there is to
      prevent it.
    symmetric: whether the modalities' names and order mean nothing, so that
      renaming them, with their parameters, changes nothing.
  """

  make: Callable[[Parts], nn.Module]
  count: Callable[[int], int]
  draws: Callable[[int], int]
  loss: Callable = dataclasses.field(default_factory=CrossEntropy)
  numbers: tuple[int, ...] = EVERY
  symmetric: bool = True


_NORM = 2 * WIDTH
_PROJECTION = (WIDTH + 1) * WIDTH


def _count_mlp(inputs, hidden, outputs):
  return (inputs + 1) * hidden + (hidden + 1) * outputs


def _count_head(inputs=WIDTH):
  return 2 * inputs + _count_mlp(inputs, HIDDEN, CLASSES)


def _count_encoders(m):
  return sum((width + 1) * WIDTH + _NORM for width in list(WIDTHS.values())[:m])


def _count_plain(m):
  """Encoders, a projection each, one head."""
  return _count_encoders(m) + m * _PROJECTION + _count_head()


def _count_stages(m):
  """One of the target, two of each other, and the norms at the end."""
  return (2 * m - 1) * _count_mlp(WIDTH, MLP, WIDTH) + m * _NORM


def _count_exchanges(m):
  gate = m * (WIDTH + 1) * 3 + m * 3 + m * (m - 1) * 9 + m * (3 + 1) * WIDTH
  attention = 4 * WIDTH**2 + 3 * WIDTH
  block = 2 * _NORM + attention + _count_mlp(WIDTH, MLP, WIDTH)
  bottleneck = 2 * WIDTH + m * (2 * block + _NORM) + m * _PROJECTION
  return gate + bottleneck


def _count_decoders(m):
  return sum(
    _count_mlp(WIDTH, HIDDEN, SIZES[name] * WIDTHS[name])
    for name in list(SIZES)[:m]
  )


def _count_look(m):
  """Question, scores, and what was picked; the target alone asks itself."""
  question = max(m - 1, 1) * _PROJECTION
  scores = (WIDTH + 1) * HIDDEN + WIDTH * HIDDEN + HIDDEN
  return question + scores + _PROJECTION + _count_head(2 * WIDTH)


def _late(rule, count_rule=lambda m: 0, loss=None):
  return Case(
    lambda parts: LateFusion(parts.encoders(), parts.heads(), rule),
    lambda m: _count_encoders(m) + m * _count_head() + count_rule(m),
    lambda m: 2 * m,
    loss or PerModality(CrossEntropy()),
  )


def _hard(estimator, loss, count_baseline=0):
  return Case(
    lambda parts: HardAttentionModel(
      parts.encoders(),
      parts.names[TARGET],
      parts.head(),
      WIDTH,
      HIDDEN,
      estimator,
      k=2,
      dtype=parts.dtype,
    ),
    lambda m: _count_encoders(m) + _count_look(m) + count_baseline,
    lambda m: m + 1 + (estimator != "top_k"),
    loss,
  )


CASES = {
  "late_mean": _late("mean"),
  # The weight of a single modality is 1, whatever its score.
  "late_weighted": _late("weighted", lambda m: m if m > 1 else 0),
  "late_vote": _late("vote"),
  "late_product": _late("product"),
  "late_stacking": _late("stacking", lambda m: m * CLASSES**2 + CLASSES),
  "late_agreement": _late("product", loss=Agreement()),
  "hybrid": Case(
    lambda parts: HybridModel(
      parts.deep_encoders(), parts.exchanges(), parts.fusion(), parts.head()
    ),
    lambda m: _count_plain(m) + _count_stages(m) + _count_exchanges(m),
    # Each of the bottleneck's blocks draws four times, the gate once.
    lambda m: (3 * m - 1) + 2 * m * 4 + 1 + 2,
  ),
  "hybrid_without_exchange": Case(
    lambda parts: HybridModel(
      parts.deep_encoders(), (), parts.fusion(), parts.head()
    ),
    lambda m: _count_plain(m) + _count_stages(m),
    lambda m: (3 * m - 1) + 2,
  ),
  "hard_reinforce": _hard(
    "reinforce",
    Reinforce(CrossEntropy()),
    count_baseline=_count_mlp(2 * WIDTH, HIDDEN, 1),
  ),
  "hard_gumbel": _hard("gumbel", CrossEntropy()),
  "hard_top_k": _hard("top_k", CrossEntropy()),
  "alignment": Case(
    lambda parts: AlignmentModel(
      parts.encoders(),
      parts.fusion(),
      parts.head(),
      ModalityPooling(5, dtype=parts.dtype),
    ),
    lambda m: _count_plain(m) + m * (WIDTH + 1) * 5,
    lambda m: m + 2,
    Alignment(),
    # The vector of a single modality has nothing to be aligned with.
    numbers=EVERY[1:],
  ),
  "reconstruction": Case(
    lambda parts: ReconstructionModel(
      parts.encoders(), parts.fusion(), parts.head(), parts.decoders()
    ),
    lambda m: _count_plain(m) + _count_decoders(m),
    lambda m: 2 * m + 2,
    Reconstruction(),
  ),
  "multimodal": Case(
    lambda parts: MultimodalModel(
      parts.encoders(), parts.fusion(), parts.head()
    ),
    _count_plain,
    lambda m: m + 2,
  ),
  "multimodal_groups": Case(
    lambda parts: MultimodalModel(
      parts.encoders(),
      Concat(WIDTH, **parts.settings),
      parts.head(),
    ),
    lambda m: (
      _count_encoders(m) + m * _PROJECTION + _count_head(inputs=m * WIDTH)
    ),
    lambda m: 2 * m + 1,
    # The head reads the groups side by side, in sorted order.
    symmetric=False,
  ),
}
