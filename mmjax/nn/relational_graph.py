r"""Relational graph convolution: a matrix for each type of edge.

Schlichtkrull et al. 2018, "Modeling Relational Data with Graph Convolutional
Networks", https://arxiv.org/abs/1703.06103, equations 2 and 3.

Differs from the paper: a bias; the normaliser is the number of edges of the
type that enter the node, the first of the two that the paper names; the
block-diagonal form is left out. No activation: the caller adds it.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.dense import Dense
from mmjax.nn.dense_graph import AnyGraph
from mmjax.nn.edges import EdgeList, EdgeMatrix
from mmjax.nn.message_passing import prepare_edges
from mmjax.nn.segments import segment_sum, take


def average_by_type(
  edges: EdgeList | EdgeMatrix, values: Array, num_receivers: int
) -> Array:
  r"""Sums over types the means of what the edges of each type bring.

  .. math:: \sum_k \frac{1}{c_{rk}} \sum_{s \in N_k(r)} v_{sk}

  Args:
    edges: a list with types, or a matrix [B, K, Nr, Ns].
    values: [B, Ns, K, D], what each sender sends along edges of each type.
    num_receivers: Nr.

  Returns:
    [B, Nr, D].

  Raises:
    ValueError: outside of `jax.jit`, an edge has a type of K or more.
  """
  batch, num_senders, num_types, width = values.shape
  if isinstance(edges, EdgeMatrix):
    adjacency = edges.adjacency.astype(jnp.float32)
    total = adjacency.sum(axis=-1, keepdims=True)
    shares = adjacency / jnp.where(total > 0, total, 1.0)
    return jnp.einsum("bkrs,bskd->brd", shares.astype(values.dtype), values)
  edges = edges.keep_types(num_types)
  factors = edges.factors()
  place = edges.receivers * num_types + edges.types
  total = take(segment_sum(factors, place, num_receivers * num_types), place)
  shares = factors / jnp.where(total > 0, total, 1.0)
  rows = values.reshape(batch, num_senders * num_types, width)
  sent = take(rows, edges.senders * num_types + edges.types)
  sent = sent * shares[..., None].astype(values.dtype)
  return segment_sum(sent, edges.receivers, num_receivers)


class RelationalGraphConvolution(nn.Module):
  """One layer of a relational graph convolutional network (R-GCN).

  Attributes:
    width: width of the new nodes.
    num_types: types of edges.
    num_bases: matrices that those of all types are mixed from; None gives
      each type its own.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_types: int
  num_bases: int | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self, graph: AnyGraph, receivers: Tokens | None = None, *, train: bool
  ) -> Array:
    """Computes new nodes.

    Args:
      graph: a graph with nodes [B, Ns, Ds], whose edges have types: a list
        with `types`, or an adjacency [B, num_types, Nr, Ns]. Edges of a
        negative type are left out.
      receivers: tokens that the edges enter, if they are another set.
      train: not used; layers of graphs are called alike.

    Returns:
      [B, Nr, width]; zeros for absent nodes.

    Raises:
      ValueError: edges without types, or shapes that do not belong together;
        or, outside of `jax.jit`, an edge has a type of `num_types` or more.
        Traced types cannot be looked at: such edges are left out.
    """
    del train
    values, receivers, edges = prepare_edges(
      graph, receivers, self.dtype, "relational graph convolution"
    )
    self._check(edges)
    kernels = self._mix_bases(values.shape[-1])
    # One product for all types, on the rows of one matrix.
    sent = values @ kernels.transpose(1, 0, 2).reshape(values.shape[-1], -1)
    sent = sent.reshape(*values.shape[:2], self.num_types, self.width)
    out = Dense(
      self.width, dtype=self.dtype, param_dtype=self.param_dtype, name="self"
    )(receivers.values)
    out = out + average_by_type(edges, sent, receivers.mask.shape[1])
    return jnp.where(receivers.mask[..., None], out, 0)

  def _mix_bases(self, features: int) -> Array:
    """Makes the matrices [K, D, width] of all types."""
    num_bases = self.num_bases or self.num_types
    param_dtype = jnp.dtype(self.param_dtype)
    bases = self.param(
      "bases",
      nn.initializers.lecun_normal(batch_axis=0),
      (num_bases, features, self.width),
      param_dtype,
    ).astype(self.dtype)
    if self.num_bases is None:
      return bases
    shares = self.param(
      "mixture",
      nn.initializers.glorot_uniform(),
      (self.num_types, num_bases),
      param_dtype,
    ).astype(self.dtype)
    return jnp.einsum("kb,bio->kio", shares, bases)

  def _check(self, edges: EdgeList | EdgeMatrix) -> None:
    """Raises ValueError unless the edges have types."""
    if self.num_types < 1 or (
      self.num_bases is not None and self.num_bases < 1
    ):
      raise ValueError(
        "relational graph convolution needs at least one type and one base,"
        f" got num_types={self.num_types} and num_bases={self.num_bases}"
      )
    if isinstance(edges, EdgeList):
      if edges.types is None:
        raise ValueError(
          "relational graph convolution needs edges with types, got a list"
          " without; set the graph's types"
        )
    elif (
      edges.adjacency.ndim != 4 or edges.adjacency.shape[1] != self.num_types
    ):
      raise ValueError(
        f"relational graph convolution needs an adjacency [B,"
        f" {self.num_types}, Nr, Ns], got {list(edges.adjacency.shape)}; give"
        f" num_types={self.num_types} to to_dense"
      )
