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
import jax

from mmjax.array_types import Array, Tokens
from mmjax.nn.edges import EdgeList

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
    ValueError: shapes that do not belong together.
  """
  graph = Graph(
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
  check_shapes(graph, "make_graph")
  return graph


def check_shapes(graph: Graph, owner: str) -> None:
  """Checks that nodes and edges have masks of their own shape.

  Raises:
    ValueError: they do not.
  """
  mask = graph.node_mask
  for leaf in jax.tree.leaves(graph.nodes):
    if leaf.shape[:2] != mask.shape:
      raise ValueError(
        f"{owner} needs a node_mask {list(leaf.shape[:2])} for nodes"
        f" {list(leaf.shape)}, got {list(mask.shape)}; give one True for each"
        " present node"
      )
  shapes = {
    name: getattr(graph, name).shape
    for name in ("senders", "receivers", "edge_mask")
  }
  if set(shapes.values()) != {(mask.shape[0], graph.senders.shape[-1])}:
    shown = ", ".join(f"{n} {list(shape)}" for n, shape in shapes.items())
    raise ValueError(
      f"{owner} needs everything of the edges as [{mask.shape[0]}, E], one row"
      f" for each graph of the nodes, got {shown}; pad what is shorter, and"
      " mask the padding"
    )
