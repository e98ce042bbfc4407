"""Fusions by Transformers, cross-attention, latents and taking turns."""

from fusion_contract import EVERY, SIZES, WIDTH, WIDTHS, Case, equal_widths

from mmjax.fusion.alternating_co_attention import AlternatingCoAttention
from mmjax.fusion.bottleneck import BottleneckFusion
from mmjax.fusion.cross_attention import CrossAttention
from mmjax.fusion.mult import MulT
from mmjax.fusion.perceiver import PerceiverFusion
from mmjax.fusion.transformer import TransformerFusion

_HEADS, _MLP = 3, 11
_NORM = 2 * WIDTH


def _block(width=WIDTH, mlp_dim=_MLP):
  """Two norms; query, value, out with a bias, key without; a perceptron."""
  attention = 4 * width**2 + 3 * width
  perceptron = (width + 1) * mlp_dim + (mlp_dim + 1) * width
  return 4 * width + attention + perceptron


_CROSS_BLOCK = _block() + _NORM  # the context has a norm of its own


def _count_mult(m):
  convolutions = sum((3 * d + 1) * WIDTH for d in list(WIDTHS.values())[:m])
  pairs = m * (m - 1) * (_CROSS_BLOCK + _NORM)
  times = max(m - 1, 1)
  own = m * (_block(times * WIDTH, times * _MLP) + times * _NORM)
  return convolutions + pairs + own


def _count_perceiver(m):
  projections = sum((d + 1) * WIDTH for d in list(WIDTHS.values())[:m])
  return projections + 2 * WIDTH + _CROSS_BLOCK + _block() + _NORM


def _count_alternating(m, hidden=7):
  alone = (WIDTH + 1) * hidden + hidden
  guided = (2 * WIDTH + 1) * hidden + hidden
  return alone + 2 * (m - 1) * guided


CASES = {
  "transformer": Case(
    lambda m: TransformerFusion(WIDTH, _HEADS, num_layers=1, mlp_dim=_MLP),
    {m: m * WIDTH + _block() + _NORM for m in EVERY},
    widths=equal_widths(),
    symmetric=True,
  ),
  "mult": Case(
    lambda m: MulT(
      WIDTH, _HEADS, num_crossmodal_layers=1, mlp_dim=_MLP, kernel_size=3
    ),
    {m: _count_mult(m) for m in EVERY},
  ),
  "bottleneck": Case(
    lambda m: BottleneckFusion(
      WIDTH,
      _HEADS,
      num_layers=2,
      fusion_layer=0,
      num_bottlenecks=2,
      mlp_dim=_MLP,
    ),
    {m: 2 * WIDTH + m * (2 * _block() + _NORM) for m in EVERY},
    widths=equal_widths(),
    symmetric=True,
    ranks={"bottleneck": lambda tokens: tokens},
  ),
  "perceiver": Case(
    lambda m: PerceiverFusion(
      WIDTH, num_latents=2, num_heads=_HEADS, num_rounds=1, mlp_dim=_MLP
    ),
    {m: _count_perceiver(m) for m in EVERY},
    symmetric=True,
    ranks={"latents": lambda latents: latents},
  ),
  "cross_attention": Case(
    lambda m: CrossAttention(min(list(SIZES)[:m]), WIDTH, _HEADS, mlp_dim=_MLP),
    {m: (_CROSS_BLOCK if m > 1 else 0) + m * _NORM for m in EVERY},
    widths=equal_widths(),
  ),
  "alternating_co_attention": Case(
    lambda m: AlternatingCoAttention(WIDTH, hidden=7),
    {m: _count_alternating(m) for m in EVERY},
    widths=equal_widths(),
  ),
}
