"""Measures mmjax's fusions; started by fusion.py.

Adding a fusion is a line in `FUSIONS`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks import side
from benchmarks.fusion_side import Pass, Size, make_inputs, measure
from mmjax.analysis.flops import count_flops
from mmjax.array_types import Array, Tokens
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
from mmjax.fusion.flat_mlp import FlatMlp
from mmjax.fusion.gated import GatedFusion
from mmjax.fusion.gmu import GatedMultimodalUnit
from mmjax.fusion.graph import GraphFusion
from mmjax.fusion.graph_reasoning import GraphReasoningFusion
from mmjax.fusion.low_rank import LowRankFusion
from mmjax.fusion.mcb import McbFusion
from mmjax.fusion.mfb import MfbFusion
from mmjax.fusion.mlb import MlbFusion
from mmjax.fusion.mult import MulT
from mmjax.fusion.multiplicative import MultiplicativeFusion
from mmjax.fusion.mutan import MutanFusion
from mmjax.fusion.perceiver import PerceiverFusion
from mmjax.fusion.relation_network import RelationFusion
from mmjax.fusion.soft_attention import SoftAttention
from mmjax.fusion.tensor import TensorFusion
from mmjax.fusion.transformer import TransformerFusion
from mmjax.fusion.weighted import WeightedFusion

# From the width, in and out, to the module. The first is what the others are
# compared with. One round or layer each, the fewest that exchange anything,
# four heads, and perceptrons of twice the width.
FUSIONS: dict[str, Callable[[int], nn.Module]] = {
  "concat": Concat,
  "elementwise": ElementwiseFusion,
  "weighted": WeightedFusion,
  "gated": GatedFusion,
  "gmu": GatedMultimodalUnit,
  "film": lambda width: FiLM("image"),
  "adaptation_gate": lambda width: AdaptationGate("image"),
  "convolutional": ConvolutionalFusion,
  "tensor": TensorFusion,
  "multiplicative": MultiplicativeFusion,
  "low_rank": LowRankFusion,
  "mlb": lambda width: MlbFusion(width, joint_dim=width),
  "mfb": MfbFusion,
  "mcb": lambda width: McbFusion(width, sketch_dim=16 * width),
  "mutan": lambda width: MutanFusion(width, joint_dim=width),
  "block": lambda width: BlockFusion(width, joint_dim=width, num_chunks=8),
  "alternating_co_attention": lambda width: AlternatingCoAttention(
    width, hidden=width
  ),
  "co_attention": lambda width: CoAttention(
    width, num_rounds=1, mlp_dim=2 * width
  ),
  "cross_attention": lambda width: CrossAttention(
    "image", width, mlp_dim=2 * width
  ),
  "transformer": lambda width: TransformerFusion(
    width, num_layers=1, mlp_dim=2 * width
  ),
  "mult": lambda width: MulT(width, num_crossmodal_layers=1, mlp_dim=2 * width),
  "bottleneck": lambda width: BottleneckFusion(
    width, num_layers=2, fusion_layer=0, mlp_dim=2 * width
  ),
  "perceiver": lambda width: PerceiverFusion(
    width, num_rounds=1, mlp_dim=2 * width
  ),
  "graph": lambda width: GraphFusion(width, num_rounds=1, mlp_dim=2 * width),
  "graph_reasoning": lambda width: GraphReasoningFusion(
    "image", width, num_steps=1
  ),
  "relation_network": lambda width: RelationFusion(
    "image", width, pair_widths=(2 * width,) * 2, widths=(2 * width,)
  ),
  "soft_attention": lambda width: SoftAttention(
    "image", width, hidden=2 * width
  ),
  "flat_mlp": lambda width: FlatMlp(width, hidden=(2 * width,)),
}


def main() -> None:
  """Measures what the request says."""
  request = side.read_request()
  # No compiling is timed: later repeats take what the first one compiled.
  jax.config.update("jax_compilation_cache_dir", request["folder"])
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  names = request["fusions"] or list(FUSIONS)
  unknown = sorted(set(names) - set(FUSIONS))
  if unknown:
    raise SystemExit(
      f"no fusion {', '.join(unknown)}; there are {', '.join(FUSIONS)}"
    )
  side.answer(
    {
      "results": measure(prepare, names, request),
      "device": jax.devices()[0].device_kind,
      "versions": side.versions("jax", "jaxlib", "flax"),
    }
  )


def prepare(name: str, size: Size) -> Pass:
  """Makes a fusion ready: its compiled pass, and the operations in it."""
  module = FUSIONS[name](size.width)
  inputs = jax.tree.map(jnp.asarray, make_inputs(size))
  init_fn = jax.jit(
    lambda rng, *inputs: module.init(rng, as_tokens(*inputs), train=False)
  )
  params = init_fn(jax.random.key(0), *inputs)["params"]

  def loss(params: Any, values: Any, masks: Any) -> Array:
    tokens = as_tokens(values, masks)
    fused = module.apply({"params": params}, tokens, train=False)
    return jnp.square(fused.values).sum()

  step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
  compiled = step.lower(params, *inputs).compile()

  def run() -> None:
    jax.block_until_ready(compiled(params, *inputs))

  return Pass(
    run,
    sum(leaf.size for leaf in jax.tree.leaves(params)),
    sum(leaf.nbytes for leaf in jax.tree.leaves((params, inputs))),
    {"mflop": count_flops(step, params, *inputs) / 1e6},
  )


def as_tokens(
  values: Mapping[str, Array], masks: Mapping[str, Array]
) -> dict[str, Tokens]:
  """Joins values [B, N, D] and masks [B, N] of each modality."""
  return {m: Tokens(values[m], masks[m]) for m in values}


if __name__ == "__main__":
  main()
