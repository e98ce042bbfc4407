r"""Relation Network: a small network for every pair of objects, summed.

Santoro et al. 2017, "A simple neural network module for relational
reasoning", https://arxiv.org/abs/1706.01427, equation 1.

Differs from the paper: absent objects are left out of the sum; the first layer
is computed from projections of both objects and the query, which are added for
each pair, so that the concatenation of the three is never made; the answer's
last layer is left to a head. A sum over pairs grows with their number; it can
be a mean.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout


def add_pairs(
  first: Array, second: Array, context: Array | None = None
) -> Array:
  r"""Adds what each object of a pair, and the query, give to a layer.

  .. math:: W [o_i; o_j; q] = W_1 o_i + W_2 o_j + W_3 q

  Args:
    first: [B, N, G], the projected objects i.
    second: [B, N, G], the projected objects j.
    context: [B, G], the projected query, or None.

  Returns:
    [B, N, N, G], at [i, j].
  """
  if context is not None:  # Added where there is less to add.
    first = first + context[:, None]
  return first[:, :, None] + second[:, None]


def make_pair_mask(mask: Array, *, self_pairs: bool = True) -> Array:
  """Says which pairs are there: bool [B, N, N] of bool [B, N]."""
  pairs = mask[:, :, None] & mask[:, None]
  if not self_pairs:
    pairs = pairs & ~jnp.eye(mask.shape[1], dtype=bool)
  return pairs


class RelationNetwork(nn.Module):
  """Relates all pairs of objects with respect to a query.

  Sows `pairs` [B, 1, N, N]: the norm of what each pair [i, j] adds to the sum,
  divided by the sum of all norms.

  Attributes:
    pair_widths: widths of the layers g of a pair, each with a rectifier.
    widths: widths of the layers f of the sum, each with a rectifier.
    self_pairs: whether an object is paired with itself, as in the paper.
    combine: "sum" as in the paper, or "mean" over the pairs that are there.
    chunk_size: examples whose pairs are computed at once, chunk after chunk;
      the backward pass computes the pairs of a chunk anew. None is all at once.
      A CPU is faster with a few, such as 1 to 4, whose pairs stay in its cache;
      an accelerator is faster with None where its memory suffices.
    dropout_rate: dropout of the last of the layers f.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  pair_widths: Sequence[int] = (256, 256, 256, 256)
  widths: Sequence[int] = (256, 256)
  self_pairs: bool = True
  combine: str = "sum"
  chunk_size: int | None = None
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  def __post_init__(self) -> None:
    """Freezes the widths: a list would make the module unhashable."""
    object.__setattr__(self, "pair_widths", tuple(self.pair_widths))
    object.__setattr__(self, "widths", tuple(self.widths))
    super().__post_init__()

  @nn.compact
  def __call__(
    self, objects: Tokens, query: Array | None = None, *, train: bool
  ) -> Array:
    """Relates objects.

    Args:
      objects: tokens [B, N, D].
      query: [B, Q], for instance an encoded question, or None.
      train: whether dropout is on.

    Returns:
      [B, W] of the last width. The layers f of zeros where no pair is there.

    Raises:
      ValueError: no layer of a pair, another `combine`, a `chunk_size` below 1,
        a mask that is not bool, or shapes that do not belong together.
    """
    self._check(objects, query)
    values = jnp.where(objects.mask[..., None], objects.values, 0)
    values = values.astype(self.dtype)
    width = self.pair_widths[0]
    first = self._dense(values, width, "first_object")
    second = self._dense(values, width, "second_object", use_bias=False)
    asked = None
    if query is not None:
      asked = query.astype(self.dtype)
      asked = self._dense(asked, width, "query", use_bias=False)
    pairs = make_pair_mask(objects.mask, self_pairs=self.self_pairs)
    out, shares = self._sum_chunks(first, second, asked, pairs)
    if shares is not None:
      self.sow("intermediates", "pairs", shares[:, None])
    if self.combine == "mean":
      count = pairs.sum(axis=(1, 2))[:, None]
      out = out / jnp.maximum(count, 1).astype(self.dtype)
    for number, width in enumerate(self.widths):
      out = nn.relu(self._dense(out, width, f"sum_{number}"))
    return Dropout(self.dropout_rate, deterministic=not train)(out)

  def _dense(
    self, inputs: Array, width: int, name: str, use_bias: bool = True
  ) -> Array:
    return Dense(
      width,
      use_bias=use_bias,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name=name,
    )(inputs)

  def _sum_chunks(
    self, first: Array, second: Array, asked: Array | None, pairs: Array
  ) -> tuple[Array, Array | None]:
    """Runs `_sum_pairs` on all examples at once, or on chunks in turn."""
    inputs = first, second, asked, pairs
    sown = self.is_mutable_collection("intermediates")
    if self.chunk_size is None:
      return self._sum_pairs(*inputs, sown=sown)
    batch = len(first)
    size = min(self.chunk_size, batch)

    def split(array: Array) -> Array:
      pads = (0, -batch % size), *[(0, 0)] * (array.ndim - 1)
      return jnp.pad(array, pads).reshape(-1, size, *array.shape[1:])

    def join(array: Array) -> Array:
      return array.reshape(-1, *array.shape[2:])[:batch]

    def run_chunk(self, carry, chunk):
      return carry, self._sum_pairs(*chunk, sown=sown)

    run_chunks = nn.scan(
      nn.remat(run_chunk, prevent_cse=False),
      variable_broadcast="params",
      split_rngs={"params": False},
    )
    _, outputs = run_chunks(self, None, jax.tree.map(split, inputs))
    return jax.tree.map(join, outputs)

  def _sum_pairs(
    self,
    first: Array,
    second: Array,
    asked: Array | None,
    pairs: Array,
    *,
    sown: bool,
  ) -> tuple[Array, Array | None]:
    """Runs the layers g behind the first on each pair, and sums.

    Args:
      first: [B, N, G], what objects i give to the first layer.
      second: [B, N, G], what objects j give to it.
      asked: [B, G], what the query gives to it, or None.
      pairs: bool [B, N, N], which pairs are there.
      sown: whether something is sown.

    Returns:
      The sum [B, W], and what is sown [B, N, N], or None.
    """
    hidden = nn.relu(add_pairs(first, second, asked))
    for number, width in enumerate(self.pair_widths[1:], start=1):
      hidden = nn.relu(self._dense(hidden, width, f"pair_{number}"))
    total = jnp.einsum("bij,bijd->bd", pairs.astype(self.dtype), hidden)
    if not sown:
      return total, None
    norms = jnp.linalg.norm(hidden.astype(jnp.float32), axis=-1)
    norms = jnp.where(pairs, norms, 0.0)
    sums = norms.sum(axis=(1, 2), keepdims=True)
    return total, norms / jnp.where(sums > 0, sums, 1.0)

  def _check(self, objects: Tokens, query: Array | None) -> None:
    """Raises ValueError for what cannot be meant."""
    if self.chunk_size is not None and self.chunk_size < 1:
      raise ValueError(
        f"chunk_size is {self.chunk_size}; it must be at least 1, or None"
      )
    if not self.pair_widths:
      raise ValueError(
        "a relation network needs at least one layer of a pair, got"
        " pair_widths=()"
      )
    if self.combine not in ("sum", "mean"):
      raise ValueError(
        f"combine is {self.combine!r}; it must be 'sum' or 'mean'"
      )
    values, mask = objects.values, objects.mask
    if (
      values.ndim != 3
      or mask.shape != values.shape[:2]
      or mask.dtype != jnp.bool_
    ):
      raise ValueError(
        "a relation network needs objects [B, N, D] with a bool mask [B, N],"
        f" got {list(values.shape)} and {mask.dtype} {list(mask.shape)}; give"
        " one True for each present object"
      )
    if query is not None and (
      query.ndim != 2 or query.shape[0] != values.shape[0]
    ):
      raise ValueError(
        f"a relation network needs a query [{values.shape[0]}, Q], one for"
        f" each example, got {list(query.shape)}"
      )
