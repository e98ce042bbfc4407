"""Bilinear and tensor fusions of pooled vectors."""

import math

import numpy as np
from fusion_contract import EVERY, WIDTH, WIDTHS, Case

from mmjax.fusion.block import BlockFusion
from mmjax.fusion.low_rank import LowRankFusion
from mmjax.fusion.mcb import McbFusion
from mmjax.fusion.mfb import MfbFusion
from mmjax.fusion.mlb import MlbFusion
from mmjax.fusion.mutan import MutanFusion
from mmjax.fusion.tensor import TensorFusion

PROJECTED = dict(zip(WIDTHS, (4, 3, 2, 5, 1), strict=True))


def _rows(m):
  """D_m + 1 of each of the first modalities."""
  return [width + 1 for width in list(WIDTHS.values())[:m]]


def _first(widths, m):
  return dict(list(widths.items())[:m])


def _count_tensor_projected(m):
  widths = list(PROJECTED.values())[:m]
  projections = sum(r * w for r, w in zip(_rows(m), widths, strict=True))
  return projections + (math.prod(w + 1 for w in widths) + 1) * WIDTH


def _as_is(stack):
  return stack


def _projections(split_fn):
  """The projections' kernels of two modalities, all split in one way."""
  return {f"pooling/{m}/kernel": split_fn for m in ("image", "text")}


def _counts(count):
  return {m: count(_rows(m)) for m in EVERY}


CASES = {
  "tensor": Case(
    lambda m: TensorFusion(WIDTH),
    _counts(lambda rows: (math.prod(rows) + 1) * 6),
  ),
  "tensor_projected": Case(
    lambda m: TensorFusion(WIDTH, widths=_first(PROJECTED, m)),
    {m: _count_tensor_projected(m) for m in EVERY},
  ),
  "low_rank": Case(
    lambda m: LowRankFusion(WIDTH, rank=3),
    _counts(lambda rows: 3 * sum(rows) * 6 + 3 + 6),
    symmetric=True,
    ranks={"_factor": _as_is, "rank_weights": _as_is},
  ),
  "mlb": Case(
    lambda m: MlbFusion(WIDTH, joint_dim=7),
    _counts(lambda rows: sum(rows) * 7 + 8 * 6),
    symmetric=True,
    ranks=_projections(np.transpose) | {"out/kernel": _as_is},
  ),
  "mfb": Case(
    lambda m: MfbFusion(WIDTH, factor=3),
    _counts(lambda rows: sum(rows) * 6 * 3),
    symmetric=True,
    # Of each number of the output three neighbours are its ranks.
    ranks=_projections(lambda kernel: kernel.reshape(-1, WIDTH, 3).T),
  ),
  # Names choose the hashes. A place that they leave empty has the rounding of
  # the Fourier transforms in it, and then the square root of that.
  "mcb": Case(
    lambda m: McbFusion(WIDTH, sketch_dim=13),
    _counts(lambda rows: (13 + 1) * 6),
    rounding=float(np.finfo(np.float32).eps) ** 0.5,
  ),
  "mutan": Case(
    lambda m: MutanFusion(WIDTH, joint_dim=5, rank=2),
    _counts(lambda rows: sum(rows) * 5 + len(rows) * 2 * 5 * 5 + 6 * 6),
    symmetric=True,
    ranks={"_core": _as_is},
  ),
  "block": Case(
    lambda m: BlockFusion(WIDTH, joint_dim=9, num_chunks=3, rank=2),
    _counts(
      lambda rows: sum(rows) * 9 + len(rows) * 3 * 2 * 3 * 3 + (9 + 1) * 6
    ),
    symmetric=True,
    # Chunks, and in each of them ranks.
    ranks={"_core": lambda core: core.reshape(-1, 3, 3)},
  ),
}
