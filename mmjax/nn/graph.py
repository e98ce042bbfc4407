r"""Graph networks: a masked graph of fixed shape, and functions graph -> graph.

`graph_network` is the general block, over a list of edges. Layers with
parameters, which work on lists and on matrices of edges alike, stand in files
of their own: `graph_convolution`, `graph_attention`, `relational_graph`,
`heterogeneous_graph`. For dense graphs of several modalities there is a faster
block in `mmjax.nn.typed_graph`.

Battaglia et al. 2018, "Relational inductive biases, deep learning, and graph
networks", https://arxiv.org/abs/1806.01261, algorithm 1; attention over edges
as in Velickovic et al. 2018, https://arxiv.org/abs/1710.10903.

Differs from the papers: graphs are padded to fixed shapes and carry masks;
nodes, edges and globals may be any pytree; one function aggregates edges for
nodes, edges for globals and nodes for globals alike.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.edges import EdgeList
from mmjax.nn.segments import align

# A finite stand-in for minus infinity: differences of it are no NaN.
_LOWEST = -1e30
# A pytree of arrays that share their leading axes.
Features = Any
# (edges, nodes at senders, nodes at receivers, globals at edges) -> edges
UpdateEdge = Callable[[Features, Features, Features, Features], Features]
# (nodes, aggregated incoming edges, globals at nodes) -> nodes
UpdateNode = Callable[[Features, Features, Features], Features]
# (aggregated nodes, aggregated edges, globals) -> globals
UpdateGlobal = Callable[[Features, Features, Features], Features]
# (features [E, ...], mask [E], segments [E], num_segments) -> [segments, ...]
Aggregate = Callable[[Features, Array, Array, int], Features]


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
      `graph_network` leaves it to the update functions.
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
  """Makes a graph of tokens, edges and perhaps globals [B, ...]."""
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


def aggregate_sum(
  features: Features, mask: Array, segments: Array, num_segments: int
) -> Features:
  """Sums the present features [E, ...] of each segment; zeros if none."""

  def add(leaf: Array) -> Array:
    leaf = jnp.where(align(mask, leaf), leaf, 0)
    return jax.ops.segment_sum(leaf, segments, num_segments)

  return jax.tree.map(add, features)


def aggregate_mean(
  features: Features, mask: Array, segments: Array, num_segments: int
) -> Features:
  """Averages the present features [E, ...] of each segment; zeros if none."""
  total = aggregate_sum(features, mask, segments, num_segments)
  count = jax.ops.segment_sum(mask.astype(jnp.int32), segments, num_segments)
  count = jnp.maximum(count, 1)
  return jax.tree.map(
    lambda leaf: leaf / align(count, leaf).astype(leaf.dtype), total
  )


def aggregate_attention(
  features: Features, mask: Array, segments: Array, num_segments: int
) -> Array:
  """Averages values with a softmax of scores within each segment.

  Args:
    features: {"score": [E, H], "value": [E, H, d]}.
    mask: bool [E], True = present.
    segments: int [E].
    num_segments: how many segments there are.

  Returns:
    [num_segments, H, d]; zeros for a segment with nothing present.
  """
  mask = mask[:, None]
  scores = jnp.where(mask, features["score"].astype(jnp.float32), _LOWEST)
  # A softmax does not change with what is subtracted: no gradient passes here.
  largest = jax.lax.stop_gradient(
    jax.ops.segment_max(scores, segments, num_segments)[segments]
  )
  powers = jnp.where(mask, jnp.exp(scores - largest), 0.0)
  total = jax.ops.segment_sum(powers, segments, num_segments)[segments]
  weights = powers / jnp.where(total > 0, total, 1.0)
  value = jnp.where(mask[..., None], features["value"], 0)
  value = value * weights[..., None].astype(value.dtype)
  return jax.ops.segment_sum(value, segments, num_segments)


def graph_network(
  update_edge: UpdateEdge | None = None,
  update_node: UpdateNode | None = None,
  update_global: UpdateGlobal | None = None,
  aggregate: Aggregate = aggregate_sum,
  aggregate_for_global: Aggregate = aggregate_sum,
) -> Callable[[Graph], Graph]:
  r"""Makes a graph network block out of its update functions.

  .. math::
    e'_k = \phi^e(e_k, v_{s_k}, v_{r_k}, u), \quad
    v'_i = \phi^v(v_i, \rho_{k: r_k = i} \, e'_k, u), \quad
    u' = \phi^u(\rho_i \, v'_i, \rho_k \, e'_k, u)

  The update functions see padding too, and may do with it what they like: it
  is left out of every aggregate.

  Args:
    update_edge: (edges [B, E, ...], senders [B, E, ...], receivers
      [B, E, ...], globals [B, 1, ...]) -> edges. None leaves them.
    update_node: (nodes [B, N, ...], incoming [B, N, ...], globals
      [B, 1, ...]) -> nodes. None leaves them.
    update_global: (nodes [B, ...], edges [B, ...], globals [B, ...]) ->
      globals. None leaves them.
    aggregate: the rho of edges at their receiver.
    aggregate_for_global: the rho of all nodes, and of all edges.

  Returns:
    A pure function graph -> graph. It keeps masks, senders and receivers.
  """

  def apply(graph: Graph) -> Graph:
    nodes, edges = graph.nodes, graph.edges
    shared = jax.tree.map(lambda leaf: leaf[:, None], graph.globals)
    edge_set = graph.edge_set()
    present = edge_set.restrict(graph.node_mask, graph.node_mask).mask
    if update_edge is not None:
      edges = update_edge(
        edges,
        edge_set.at_senders(nodes),
        edge_set.at_receivers(nodes),
        shared,
      )
    if update_node is not None:
      num_nodes = graph.node_mask.shape[1]
      incoming = jax.vmap(
        lambda leaf, mask, to: aggregate(leaf, mask, to, num_nodes)
      )(edges, present, graph.receivers)
      nodes = update_node(nodes, incoming, shared)
    context = graph.globals
    if update_global is not None:
      context = update_global(
        _aggregate_all(aggregate_for_global, nodes, graph.node_mask),
        _aggregate_all(aggregate_for_global, edges, present),
        context,
      )
    return graph.replace(nodes=nodes, edges=edges, globals=context)

  return apply


def _aggregate_all(
  aggregate: Aggregate, features: Features, mask: Array
) -> Features:
  """Aggregates [B, E, ...] into [B, ...]."""

  def one(leaves: Features, present: Array) -> Features:
    segments = jnp.zeros(present.shape, jnp.int32)
    total = aggregate(leaves, present, segments, 1)
    return jax.tree.map(lambda leaf: leaf[0], total)

  return jax.vmap(one)(features, mask)
