"""Fusions of a question with objects, and their baseline."""

from cases_early import target_of
from fusion_contract import EVERY, SIZES, WIDTH, WIDTHS, Case

from mmjax.fusion.flat_mlp import FlatMlp
from mmjax.fusion.graph_reasoning import GraphReasoningFusion
from mmjax.fusion.relation_network import RelationFusion
from mmjax.fusion.soft_attention import SoftAttention

NAMES = list(WIDTHS)
_PAIR, _SUM, _HIDDEN = 7, 11, 5
_OBJECTS = (
  "it relates objects as a question asks, in numbers that grow with the square"
  " of the tokens; see experiments/configs/sort_of_clevr.py"
)


def _target(m):
  return WIDTHS[target_of(m)]


def _ask(m):
  """Parameters of the projections of those that ask, of a target alone too."""
  asking = [WIDTHS[n] for n in NAMES[:m] if n != target_of(m)] or [_target(m)]
  return sum((width + 1) * WIDTH for width in asking)


def _count_relations(m):
  query = _ask(m) + WIDTH * _PAIR if m > 1 else 0
  pairs = (2 * _target(m) + 1) * _PAIR + (_PAIR + 1) * _PAIR
  return query + pairs + (_PAIR + 1) * _SUM + (_SUM + 1) * WIDTH


def _count_gru(width):
  """Of a GRU of `WIDTH` that reads this width."""
  return 3 * WIDTH * (width + 1 + WIDTH) + WIDTH


def _count_reasoning(m):
  square = WIDTH * WIDTH
  read = square + WIDTH + square + WIDTH + _count_gru(2 * WIDTH)
  gate, draw = WIDTH + 1, square + 2 * WIDTH
  hear = 5 * square + WIDTH + gate + draw + _count_gru(WIDTH)
  # Controls, from what is known and from the last one; the first memory.
  steps = 2 * (square + WIDTH) + 2 * square + WIDTH
  return _ask(m) + (_target(m) + 1) * WIDTH + read + hear + steps


def _count_soft(m):
  look = (WIDTH + 1) * _HIDDEN + _target(m) * _HIDDEN + _HIDDEN
  return _ask(m) + look + (_target(m) + 1) * WIDTH


def _count_flat(m):
  flat = sum(SIZES[n] * WIDTHS[n] for n in NAMES[:m])
  return (flat + 1) * 7 + (7 + 1) * 11 + (11 + 1) * WIDTH


CASES = {
  "relation_network": Case(
    # The plain steps of the contract diverge with a sum over pairs.
    lambda m: RelationFusion(
      target_of(m),
      WIDTH,
      pair_widths=(_PAIR, _PAIR),
      widths=(_SUM,),
      combine="mean",
    ),
    {m: _count_relations(m) for m in EVERY},
    not_compared=_OBJECTS,
  ),
  "graph_reasoning": Case(
    lambda m: GraphReasoningFusion(target_of(m), WIDTH, num_steps=2),
    {m: _count_reasoning(m) for m in EVERY},
    not_compared=_OBJECTS,
  ),
  "soft_attention": Case(
    lambda m: SoftAttention(target_of(m), WIDTH, hidden=_HIDDEN),
    {m: _count_soft(m) for m in EVERY},
    not_compared="it asks one target; cross-attention is compared",
  ),
  "flat_mlp": Case(
    lambda m: FlatMlp(WIDTH, hidden=(7, 11)),
    {m: _count_flat(m) for m in EVERY},
    symmetric=True,
    grid=True,
    not_compared="the baseline of relations; it needs numbers of tokens that"
    " never change",
  ),
}
