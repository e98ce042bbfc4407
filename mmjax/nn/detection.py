"""A detector of objects on a grid of cells, one object a cell at most.

Each cell says whether the centre of an object lies in it, where, and of which
kinds the object is; the surest cells are the objects.

Redmon et al. 2016, "You Only Look Once: Unified, Real-Time Object Detection",
https://arxiv.org/abs/1506.02640.

Differs from the paper: centres only, no boxes; one object a cell, so nothing
has to be suppressed; several kinds, such as colour and shape. Cells are taken
for empty at first, as in Lin et al. 2017, "Focal Loss for Dense Object
Detection", https://arxiv.org/abs/1708.02002: else the many empty ones decide
the first updates.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.dense import Dense
from mmjax.nn.tokens import clear_masked

_FIRST_PRESENCE = -4.0  # a logit: one cell in 55


class Detections(NamedTuple):
  """What a detector says of each of N cells, row by row.

  Attributes:
    presence: float32 [I, N], the logit that a centre lies in the cell.
    kinds: float32 [I, N, C_k] for each kind k, logits.
    offsets: float32 [I, N, 2], x and y of the centre within the cell, 0 to 1.
  """

  presence: Array
  kinds: tuple[Array, ...]
  offsets: Array


class CellDetector(nn.Module):
  """Turns the tokens of a square grid into detections.

  Attributes:
    kind_sizes: C_k, the number of classes of each kind.
    hidden: width of the hidden layer, a convolution over 3 x 3 cells.
    dtype: dtype of the computation; logits are float32.
    param_dtype: dtype of the parameters.
  """

  kind_sizes: tuple[int, ...]
  hidden: int = 64
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: Tokens) -> Detections:
    """Detects objects.

    Args:
      tokens: [I, N, D], cells row by row.

    Raises:
      ValueError: N is no square number.
    """
    side = count_side(tokens.values.shape[1])
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    grid = clear_masked(tokens, self.dtype).reshape(
      -1, side, side, tokens.values.shape[-1]
    )
    # A cell sees those around it: objects are larger than cells.
    hidden = nn.Conv(self.hidden, (3, 3), name="hidden", **dtypes)(grid)
    hidden = nn.relu(hidden).reshape(-1, side * side, self.hidden)
    sizes = (1, *self.kind_sizes, 2)

    def init_bias(rng: Array, shape: tuple[int, ...], dtype: Any) -> Array:
      del rng
      return jnp.zeros(shape, dtype).at[0].set(_FIRST_PRESENCE)

    out = Dense(sum(sizes), bias_init=init_bias, name="out", **dtypes)(hidden)
    out = out.astype(jnp.float32)
    places = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    presence, *kinds, offsets = jnp.split(out, places, axis=-1)
    return Detections(presence[..., 0], tuple(kinds), nn.sigmoid(offsets))


def count_side(num_cells: int) -> int:
  """Returns the cells of a side of a square grid.

  Raises:
    ValueError: the number is no square.
  """
  side = math.isqrt(num_cells)
  if side * side != num_cells:
    raise ValueError(
      f"a detector needs the cells of a square grid, got {num_cells}; give it a"
      " square picture and an encoder that makes a grid"
    )
  return side


def pick_objects(
  detections: Detections, num_objects: int, picture_size: int
) -> Tokens:
  """Takes the surest cells as objects.

  Args:
    detections: of N cells.
    num_objects: K, places for objects; the best K cells are looked at.
    picture_size: height and width of the picture in pixels.

  Returns:
    Tokens [I, K, sum of C_k + 2], the surest first: the probabilities of each
    kind, then x and y, -1 to 1 from the first to the last pixel. Those with a
    presence of less than one half are masked.
  """
  side = count_side(detections.presence.shape[1])
  presence, cells = jax.lax.top_k(detections.presence, num_objects)

  def take(values: Array) -> Array:
    return jnp.take_along_axis(values, cells[..., None], axis=1)

  corners = jnp.stack([cells % side, cells // side], axis=-1)
  # In pixels from the border, then of the pixel's middle.
  pixels = (corners + take(detections.offsets)) * picture_size / side - 0.5
  places = 2 * pixels / (picture_size - 1) - 1
  kinds = [nn.softmax(take(logits)) for logits in detections.kinds]
  mask = presence > 0
  values = jnp.concatenate([*kinds, places], axis=-1)
  return Tokens(jnp.where(mask[..., None], values, 0), mask)


def relate_places(places: Array, mask: Array) -> Array:
  """Tells left of, right of, above and below of objects.

  Args:
    places: [I, K, 2], x and y.
    mask: bool [I, K], True = present.

  Returns:
    bool [I, 4, K, K] at [relation, b, a]: whether a stands in it to b. It is
    the adjacency of edges from a to b.
  """
  smaller = places[:, None, :, :] < places[:, :, None, :]  # [I, b, a, axis]
  larger = places[:, None, :, :] > places[:, :, None, :]
  holds = [smaller[..., 0], larger[..., 0], smaller[..., 1], larger[..., 1]]
  pairs = mask[:, None, :, None] & mask[:, None, None, :]
  return jnp.stack(holds, axis=1) & pairs


def measure_distances(places: Array) -> Array:
  """Distances between all places: [I, K, 2] gives [I, K, K, 1]."""
  offsets = places[:, :, None] - places[:, None]
  squared = jnp.square(offsets).sum(axis=-1, keepdims=True)
  # The root has no slope at 0, where a place meets itself.
  apart = squared > 0
  return jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)
