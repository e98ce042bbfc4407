r"""Graph attention whose scores are products of both ends, as in Transformers.

Shi et al. 2021, "Masked Label Prediction: Unified Message Passing Model for
Semi-Supervised Classification", https://arxiv.org/abs/2009.03509.

It finds the neighbour that fits a node, say the object that a phrase names, in
fewer updates than a perceptron of both ends (see `graph_attention`), whose
hidden units would have to compare kind by kind.

Differs from the paper: features of edges are added to keys and not to values;
the node itself is neither added nor gated in, which is left to the caller; keys
and values have no bias.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.dense_graph import AnyGraph
from mmjax.nn.edges import EdgeList, EdgeMatrix
from mmjax.nn.graph_attention import check_heads, gather_heads, project_heads
from mmjax.nn.message_passing import prepare_edges


def score_products(
  edges: EdgeList | EdgeMatrix,
  queries: Array,
  keys: Array,
  of_edges: Array | None,
) -> Array:
  r"""Scores edges, :math:`q_r^\top (k_s + e_{rs}) / \sqrt{d}`.

  A matrix of edges needs no array [B, Nr, Ns, H, d] unless they have features.
  Products are left to einsum: jaxlib 0.10.2 compiles their plain sum wrongly
  for one graph of a dozen nodes on a CPU.

  Args:
    edges: the edges.
    queries: [B, Nr, H, d].
    keys: [B, Ns, H, d].
    of_edges: [B, *, H, d], or None.

  Returns:
    [B, *, H].
  """
  scores = edges.multiply_ends(queries, keys)
  if of_edges is not None:
    received = jnp.broadcast_to(edges.at_receivers(queries), of_edges.shape)
    scores = scores + jnp.einsum("...d,...d->...", received, of_edges)
  return scores * queries.shape[-1] ** -0.5


class DotGraphAttention(nn.Module):
  """Nodes average their neighbours by products of queries and keys.

  Sows `attention` as `GraphAttention` does.

  Attributes:
    width: width of the new nodes.
    num_heads: heads, side by side or averaged.
    merge: "concat": each head is `width / num_heads` wide; "mean": each is as
      wide as the output.
    self_loops: whether each node counts among its neighbours.
    dropout_rate: dropout of the shares.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_heads: int = 1
  merge: str = "concat"
  self_loops: bool = True
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self, graph: AnyGraph, receivers: Tokens | None = None, *, train: bool
  ) -> Array:
    """Computes new nodes.

    Args:
      graph: a graph with nodes [B, Ns, Ds]; features of edges are None or one
        array [B, *, De].
      receivers: tokens that the edges enter, if they are another set; there
        are no loops then.
      train: whether dropout is on.

    Returns:
      [B, Nr, width]; zeros for absent nodes.

    Raises:
      ValueError: heads that do not divide the width, or shapes that do not
        belong together.
    """
    owner = "graph attention by products"
    head_width = check_heads(self, owner)
    values, receivers, edges = prepare_edges(
      graph, receivers, self.dtype, owner, loops=self.self_loops
    )
    queries = project_heads(
      self, receivers.values, head_width, "query", use_bias=True
    )
    keys, sent = (
      project_heads(self, values, head_width, name, use_bias=False)
      for name in ("key", "value")
    )
    of_edges = None
    if edges.features is not None:
      of_edges = project_heads(
        self, edges.features, head_width, "edge", use_bias=False
      )
    scores = score_products(edges, queries, keys, of_edges)
    return gather_heads(self, edges, scores, sent, receivers, train)
