"""Fusions by attention and message passing, and their baseline."""

from fusion_contract import EVERY, WIDTH, WIDTHS, Case, equal_widths

from mmjax.fusion.co_attention import CoAttention
from mmjax.fusion.concat import Concat
from mmjax.fusion.graph import GraphFusion

_ATTENTION, _MLP, _NORM = 162, 149, 12  # of width 6, 3 heads, hidden layer 11


def _projections(number):
  """Parameters of a projection to width 6 of each of the first modalities."""
  return sum((width + 1) * WIDTH for width in list(WIDTHS.values())[:number])


def _count_co_attention(m):
  pairs = m * (m - 1)
  norms = m if pairs else 0
  return pairs * _ATTENTION + (norms + m) * _NORM + m * _MLP + m * _NORM


def _count_graph(m):
  one = m * (2 * _NORM + _MLP) + (2 * m + 2 * m * m) * 36 + 2 * m * 36 + _NORM
  return _projections(m) + one + m * _NORM


CASES = {
  "concat": Case(
    lambda m: Concat(WIDTH),
    {m: _projections(m) for m in EVERY},
    symmetric=True,
    mixes=False,
  ),
  "co_attention": Case(
    lambda m: CoAttention(WIDTH, num_heads=3, num_rounds=1, mlp_dim=11),
    {m: _count_co_attention(m) for m in EVERY},
    widths=equal_widths(),
    symmetric=True,
  ),
  "graph": Case(
    lambda m: GraphFusion(WIDTH, num_heads=3, num_rounds=1, mlp_dim=11),
    {m: _count_graph(m) for m in EVERY},
    symmetric=True,
  ),
}
