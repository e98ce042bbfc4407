"""Early, gated, multiplicative and convolutional fusions."""

from fusion_contract import EVERY, WIDTH, WIDTHS, Case

from mmjax.fusion.adaptation_gate import AdaptationGate
from mmjax.fusion.convolutional import ConvolutionalFusion
from mmjax.fusion.elementwise import ElementwiseFusion
from mmjax.fusion.film import FiLM
from mmjax.fusion.gated import GatedFusion
from mmjax.fusion.gmu import GatedMultimodalUnit
from mmjax.fusion.multiplicative import MultiplicativeFusion
from mmjax.fusion.weighted import WeightedFusion

NAMES = list(WIDTHS)


def target_of(m):
  """The target among the first m modalities; not the one that goes missing."""
  return NAMES[min(m, 2) - 1]


def _widths(m):
  """Widths of the first m modalities in sorted order."""
  return [WIDTHS[name] for name in sorted(NAMES[:m])]


def _projections(m):
  return sum((width + 1) * WIDTH for width in _widths(m))


def _others(m):
  """Widths of the first m modalities but the target, and the target's."""
  target = WIDTHS[target_of(m)]
  return [WIDTHS[n] for n in NAMES[:m] if n != target_of(m)], target


def _count_weighted(m, size):
  return _projections(m) + (m * size if m > 1 else 0)


def _count_gated_from_others(m):
  return _projections(m) + m * WIDTH + m * (m - 1) * WIDTH * WIDTH


def _count_gmu(m):
  gates = 1 if m == 2 else m
  return (1 + gates) * WIDTH * sum(_widths(m))


def _count_film(m):
  others, target = _others(m)
  return sum((width + 1) * 2 * target for width in others)


def _count_adaptation_gate(m):
  others, target = _others(m)
  gates = sum((target + width + 1) * target for width in others)
  shifts = sum(width * target for width in others) + (target if others else 0)
  return gates + shifts + 2 * target


def _count_multiplicative(m, count_product):
  first, *rest = _widths(m)
  if not rest:
    return (first + 1) * WIDTH
  total = 0
  for second in rest:
    total += count_product(first, second)
    first = WIDTH
  return total


def _count_full(first, second):
  return (first * second + first + second + 1) * WIDTH


def _count_diagonal(first, second):
  return (2 * (first + 1) + second) * WIDTH


def _elementwise(operation):
  return Case(
    lambda m: ElementwiseFusion(WIDTH, operation),
    {m: _projections(m) for m in EVERY},
    symmetric=True,
  )


CASES = {
  "elementwise_mean": _elementwise("mean"),
  "elementwise_sum": _elementwise("sum"),
  "elementwise_max": _elementwise("max"),
  "elementwise_product": _elementwise("product"),
  "weighted_modality": Case(
    lambda m: WeightedFusion(WIDTH),
    {m: _count_weighted(m, 1) for m in EVERY},
    symmetric=True,
  ),
  "weighted_channel": Case(
    lambda m: WeightedFusion(WIDTH, per="channel"),
    {m: _count_weighted(m, WIDTH) for m in EVERY},
    symmetric=True,
  ),
  "gated_self": Case(
    lambda m: GatedFusion(WIDTH),
    {m: _projections(m) + m * (WIDTH + 1) * WIDTH for m in EVERY},
    symmetric=True,
  ),
  "gated_others": Case(
    lambda m: GatedFusion(WIDTH, gate_from="others"),
    {m: _count_gated_from_others(m) for m in EVERY},
    symmetric=True,
  ),
  "gmu": Case(
    lambda m: GatedMultimodalUnit(WIDTH), {m: _count_gmu(m) for m in EVERY}
  ),
  "film": Case(
    lambda m: FiLM(target_of(m)), {m: _count_film(m) for m in EVERY}
  ),
  "adaptation_gate": Case(
    lambda m: AdaptationGate(target_of(m)),
    {m: _count_adaptation_gate(m) for m in EVERY},
  ),
  "adaptation_gate_aligned": Case(
    lambda m: AdaptationGate(target_of(m), aligned=True),
    {m: _count_adaptation_gate(m) for m in EVERY},
    aligned=True,
  ),
  "multiplicative_full": Case(
    lambda m: MultiplicativeFusion(WIDTH),
    {m: _count_multiplicative(m, _count_full) for m in EVERY},
  ),
  "multiplicative_diagonal": Case(
    lambda m: MultiplicativeFusion(WIDTH, form="diagonal"),
    {m: _count_multiplicative(m, _count_diagonal) for m in EVERY},
  ),
  "convolutional": Case(
    lambda m: ConvolutionalFusion(WIDTH),
    {m: (3 * sum(_widths(m)) + 1) * WIDTH for m in EVERY},
    aligned=True,
  ),
  "convolutional_resampled": Case(
    lambda m: ConvolutionalFusion(WIDTH, length=4),
    {m: (3 * sum(_widths(m)) + 1) * WIDTH for m in EVERY},
  ),
  "convolutional_grid": Case(
    lambda m: ConvolutionalFusion(WIDTH, kernel_size=2, grid=(3, 2)),
    {m: (4 * sum(_widths(m)) + 1) * WIDTH for m in EVERY},
    aligned=True,
    grid=True,
  ),
}
