r"""Graph convolution: the mean of the neighbours, and one matrix.

Kipf and Welling 2017, "Semi-Supervised Classification with Graph Convolutional
Networks", https://arxiv.org/abs/1609.02907, equation 2.

Differs from the paper: edges have a direction, and both degrees count what
enters a node, which for undirected graphs is the paper's; a loop that is there
already is replaced, not counted twice. Between two sets of nodes there are no
loops, and senders count what leaves them, as in van den Berg et al. 2017,
https://arxiv.org/abs/1706.02263. No activation: the caller adds it.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.dense import Dense
from mmjax.nn.dense_graph import AnyGraph
from mmjax.nn.edges import EdgeList, EdgeMatrix
from mmjax.nn.message_passing import prepare_edges, sow_shares


def normalize_symmetric(
  edges: EdgeList | EdgeMatrix,
  num_senders: int,
  num_receivers: int,
  *,
  bipartite: bool,
) -> Array:
  r"""Divides the weight of each edge by the roots of the degrees of its ends.

  .. math:: \hat a_{rs} = a_{rs} / \sqrt{d_r d_s}

  Args:
    edges: the edges, loops included.
    num_senders: Ns.
    num_receivers: Nr.
    bipartite: whether senders are another set; their degree then is what
      leaves them, else what enters them.

  Returns:
    float32, one number an edge; 0 for absent edges.
  """
  factors = edges.factors()
  entering = edges.sum_entering(factors, num_receivers)
  leaving = edges.sum_leaving(factors, num_senders) if bipartite else entering
  at_ends = edges.at_senders(leaving) * edges.at_receivers(entering)
  there = (factors > 0) & (at_ends > 0)
  # A double `where`: the root of 0 has no gradient.
  return jnp.where(there, factors / jnp.sqrt(jnp.where(there, at_ends, 1)), 0)


class GraphConvolution(nn.Module):
  """One layer of a graph convolutional network.

  Sows the normalised weight of each edge as `edge_weights`: [B, 1, E + N] for
  a list, the loops last, [B, 1, Nr, Ns] for a matrix.

  Attributes:
    width: width of the new nodes.
    self_loops: whether each node counts among its neighbours.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  self_loops: bool = True
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self, graph: AnyGraph, receivers: Tokens | None = None, *, train: bool
  ) -> Array:
    """Computes new nodes.

    Args:
      graph: a graph with nodes [B, Ns, Ds]; features of edges are not read.
      receivers: tokens that the edges enter, if they are another set.
      train: not used; layers of graphs are called alike.

    Returns:
      [B, Nr, width]; zeros for absent nodes.

    Raises:
      ValueError: shapes that do not belong together.
    """
    del train
    bipartite = receivers is not None
    values, receivers, edges = prepare_edges(
      graph,
      receivers,
      self.dtype,
      "graph convolution",
      loops=self.self_loops,
    )
    num_receivers = receivers.mask.shape[1]
    shares = normalize_symmetric(
      edges, values.shape[1], num_receivers, bipartite=bipartite
    )[..., None]
    sow_shares(
      self, "edge_weights", edges, shares, num_receivers, values.shape[1]
    )
    values = Dense(
      self.width,
      use_bias=False,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="node",
    )(values)
    bias = self.param(
      "bias", nn.initializers.zeros, (self.width,), jnp.dtype(self.param_dtype)
    )
    out = edges.collect(shares, values[:, :, None], num_receivers)[:, :, 0]
    out = out + bias.astype(self.dtype)
    return jnp.where(receivers.mask[..., None], out, 0)
