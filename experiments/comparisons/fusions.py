"""Every fusion of the catalogue, one line each, for comparisons to take.

All have tokens of `WIDTH` to work on and give tokens of that width; what else
a fusion has is kept small and alike.
"""

import fiddle as fdl
from fiddle.experimental.auto_config import auto_config

from mmjax.fusion.adaptation_gate import AdaptationGate
from mmjax.fusion.alternating_co_attention import AlternatingCoAttention
from mmjax.fusion.block import BlockFusion
from mmjax.fusion.bottleneck import BottleneckFusion
from mmjax.fusion.co_attention import CoAttention
from mmjax.fusion.concat import Concat
from mmjax.fusion.convolutional import ConvolutionalFusion
from mmjax.fusion.cross_attention import CrossAttention
from mmjax.fusion.elementwise import ElementwiseFusion
from mmjax.fusion.film import FiLM
from mmjax.fusion.gated import GatedFusion
from mmjax.fusion.gmu import GatedMultimodalUnit
from mmjax.fusion.graph import GraphFusion
from mmjax.fusion.low_rank import LowRankFusion
from mmjax.fusion.mcb import McbFusion
from mmjax.fusion.mfb import MfbFusion
from mmjax.fusion.mlb import MlbFusion
from mmjax.fusion.mult import MulT
from mmjax.fusion.multiplicative import MultiplicativeFusion
from mmjax.fusion.mutan import MutanFusion
from mmjax.fusion.perceiver import PerceiverFusion
from mmjax.fusion.tensor import TensorFusion
from mmjax.fusion.transformer import TransformerFusion
from mmjax.fusion.weighted import WeightedFusion
from mmjax.models.hybrid import Exchange

WIDTH = 32
HEADS = {"num_heads": 4, "mlp_dim": 2 * WIDTH}


@auto_config
def gate():
  """An exchange of hybrid models: others decide what of each passes."""
  return Exchange(unit=GatedFusion(width=WIDTH, gate_from="others"))


@auto_config
def bottleneck():
  """An exchange of hybrid models: a few tokens that all share."""
  return Exchange(
    unit=BottleneckFusion(
      width=WIDTH,
      num_heads=4,
      mlp_dim=2 * WIDTH,
      num_layers=2,
      fusion_layer=0,
    )
  )


def make_fusions(target: str) -> dict[str, fdl.Buildable]:
  """Returns the configuration of every fusion, by name.

  Args:
    target: the modality that the others act on, where a fusion has one.
  """
  wide = {"width": WIDTH}
  return {
    "concat": fdl.Config(Concat, **wide),
    "mean": fdl.Config(ElementwiseFusion, operation="mean", **wide),
    "sum": fdl.Config(ElementwiseFusion, operation="sum", **wide),
    "max": fdl.Config(ElementwiseFusion, operation="max", **wide),
    "product": fdl.Config(ElementwiseFusion, operation="product", **wide),
    "weighted": fdl.Config(WeightedFusion, **wide),
    "weighted channels": fdl.Config(WeightedFusion, per="channel", **wide),
    "gated": fdl.Config(GatedFusion, **wide),
    "gated by others": fdl.Config(GatedFusion, gate_from="others", **wide),
    "GMU": fdl.Config(GatedMultimodalUnit, **wide),
    "FiLM": fdl.Config(FiLM, target=target),
    "adaptation gate": fdl.Config(AdaptationGate, target=target),
    "multiplicative": fdl.Config(MultiplicativeFusion, **wide),
    "convolutional": fdl.Config(ConvolutionalFusion, length=8, **wide),
    "tensor": fdl.Config(TensorFusion, **wide),
    "low-rank": fdl.Config(LowRankFusion, rank=8, **wide),
    "MLB": fdl.Config(MlbFusion, joint_dim=2 * WIDTH, **wide),
    "MCB": fdl.Config(McbFusion, sketch_dim=256, **wide),
    "MFB": fdl.Config(MfbFusion, **wide),
    "MUTAN": fdl.Config(MutanFusion, joint_dim=WIDTH, rank=4, **wide),
    "BLOCK": fdl.Config(
      BlockFusion, joint_dim=64, num_chunks=8, rank=4, **wide
    ),
    "transformer": fdl.Config(TransformerFusion, **wide, **HEADS),
    "MulT": fdl.Config(MulT, num_crossmodal_layers=1, **wide, **HEADS),
    "co-attention": fdl.Config(CoAttention, **wide, **HEADS),
    "alternating": fdl.Config(AlternatingCoAttention, **wide),
    "cross-attention": fdl.Config(
      CrossAttention, target=target, **wide, **HEADS
    ),
    "bottleneck": fdl.Config(BottleneckFusion, **wide, **HEADS),
    "perceiver": fdl.Config(PerceiverFusion, num_rounds=1, **wide, **HEADS),
    "graph": fdl.Config(GraphFusion, **wide, **HEADS),
  }
