"""The container of a graph: nodes, a list of edges, and masks, of fixed shape.

`graph_network` makes functions graph -> graph out of update functions. Layers
with parameters, which work on lists and on matrices of edges alike, stand in
files of their own: `graph_convolution`, `graph_attention`,
`graph_dot_attention`, `relational_graph`, `heterogeneous_graph`. For dense
graphs of several modalities there is a faster block in `mmjax.nn.typed_graph`.

After Battaglia et al. 2018, "Relational inductive biases, deep learning, and
graph networks", https://arxiv.org/abs/1806.01261.

Differs from the paper: graphs are padded to fixed shapes and carry masks;
nodes, edges and globals may be any pytree.
"""

from typing import Any

import flax.struct

from mmjax.array_types import Array, Tokens
from mmjax.nn.edges import EdgeList
from mmjax.nn.graph_checks import check_graph

# A pytree of arrays that share their leading axes.
Features = Any


@flax.struct.dataclass
class Graph:
  """A batch of directed graphs, padded to the same size.

  Attributes:
    nodes: pytree of [B, N, ...].
    edges: pytree of [B, E, ...], or None for edges without features.
    globals: pytree of [B, ...], or None.
    senders: int32 [B, E], the node that each edge leaves.
    receivers: int32 [B, E], the node that each edge enters.
    node_mask: bool [B, N], True = present.
    edge_mask: bool [B, E], True = present. Edges at a masked node count as
      masked, whatever stands here.
    weights: float [B, E], at least 0, how much each edge counts; None is 1.
      An edge of weight 0 is absent; more than that `graph_network` does not
      ask of it.
    types: int32 [B, E], the type of each edge, or None.
  """

  nodes: Features
  edges: Features
  globals: Features
  senders: Array
  receivers: Array
  node_mask: Array
  edge_mask: Array
  weights: Array | None = None
  types: Array | None = None

  def edge_set(self) -> EdgeList:
    """The edges alone."""
    return EdgeList(
      self.senders,
      self.receivers,
      self.edge_mask,
      self.edges,
      self.weights,
      self.types,
    )


def make_graph(
  nodes: Tokens, edges: EdgeList, context: Features = None
) -> Graph:
  """Makes a graph of tokens, edges and perhaps globals [B, ...].

  Raises:
    ValueError: masks that are not bool, or shapes that do not belong together.
  """
  graph = join_parts(nodes, edges, context)
  check_graph(graph, "make_graph")
  return graph


def join_parts(
  nodes: Tokens, edges: EdgeList, context: Features = None
) -> Graph:
  """Makes a graph as `make_graph` does, for who checks it later."""
  return Graph(
    nodes=nodes.values,
    edges=edges.features,
    globals=context,
    senders=edges.senders,
    receivers=edges.receivers,
    node_mask=nodes.mask,
    edge_mask=edges.mask,
    weights=edges.weights,
    types=edges.types,
  )
