r"""Graph networks: update functions of edges, nodes and globals, made one.

Battaglia et al. 2018, "Relational inductive biases, deep learning, and graph
networks", https://arxiv.org/abs/1806.01261, algorithm 1; attention over edges
as in Velickovic et al. 2018, https://arxiv.org/abs/1710.10903.

Differs from the papers: graphs are padded to fixed shapes and carry masks;
nodes, edges and globals may be any pytree; one function aggregates edges for
nodes, edges for globals and nodes for globals alike.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.nn.dense_graph import AnyGraph, DenseGraph
from mmjax.nn.edges import clear
from mmjax.nn.graph import Features, Graph
from mmjax.nn.graph_checks import check_graph
from mmjax.nn.segments import align, segment_softmax

# (edges, nodes at senders, nodes at receivers, globals at edges) -> edges
UpdateEdge = Callable[[Features, Features, Features, Features], Features]
# (nodes, aggregated incoming edges, globals at nodes) -> nodes
UpdateNode = Callable[[Features, Features, Features], Features]
# (aggregated nodes, aggregated edges, globals) -> globals
UpdateGlobal = Callable[[Features, Features, Features], Features]
# (features [E, ...], mask [E], segments [E], num_segments) -> [segments, ...]
Aggregate = Callable[[Features, Array, Array, int], Features]


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
  factors = mask.astype(jnp.float32)
  one_graph = features["score"][None], factors[None], segments[None]
  weights = segment_softmax(*one_graph, num_segments)[0]
  value = jnp.where(mask[:, None, None], features["value"], 0)
  value = value * weights[..., None].astype(value.dtype)
  return jax.ops.segment_sum(value, segments, num_segments)


def graph_network(
  update_edge: UpdateEdge | None = None,
  update_node: UpdateNode | None = None,
  update_global: UpdateGlobal | None = None,
  aggregate: Aggregate = aggregate_sum,
  aggregate_for_global: Aggregate = aggregate_sum,
) -> Callable[[AnyGraph], AnyGraph]:
  r"""Makes a graph network block out of its update functions.

  .. math::
    e'_k = \phi^e(e_k, v_{s_k}, v_{r_k}, u), \quad
    v'_i = \phi^v(v_i, \rho_{k: r_k = i} \, e'_k, u), \quad
    u' = \phi^u(\rho_i \, v'_i, \rho_k \, e'_k, u)

  An edge of weight 0 is absent; other weights are not looked at.

  What is absent is zeros when the update functions see it, the ends of absent
  edges too, whatever stood there; it is left out of every aggregate, and is
  zeros again in what they give. So it reaches no result, and no gradient of
  nodes and edges. A function with parameters or globals needs a finite slope at
  zeros, or these get none.

  A `DenseGraph` is taken as the list of all its pairs of nodes, E = N * N, of
  which those without an edge are masked; its edges come back as [B, N, N, ...].

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
    A pure function graph -> graph, of either form. It keeps masks, senders and
    receivers. It raises ValueError for masks that are not bool, for shapes that
    do not belong together, and for a matrix with types of edges.
  """

  def apply(graph: AnyGraph) -> AnyGraph:
    check_graph(graph, "graph_network")
    if isinstance(graph, DenseGraph):
      done = apply(_list_pairs(graph))
      return graph.replace(
        nodes=done.nodes,
        edges=_to_matrix(done.edges, graph.node_mask.shape[1]),
        globals=done.globals,
      )
    shared = jax.tree.map(lambda leaf: leaf[:, None], graph.globals)
    edge_set = graph.edge_set().restrict(graph.node_mask, graph.node_mask)
    present, edges = edge_set.factors() > 0, edge_set.features
    nodes = clear(graph.nodes, graph.node_mask)
    if update_edge is not None:
      sent = clear(edge_set.at_senders(nodes), present)
      received = clear(edge_set.at_receivers(nodes), present)
      edges = clear(update_edge(edges, sent, received, shared), present)
      graph = graph.replace(edges=edges)
    if update_node is not None:
      num_nodes = graph.node_mask.shape[1]
      incoming = jax.vmap(
        lambda leaf, mask, to: aggregate(leaf, mask, to, num_nodes)
      )(edges, present, graph.receivers)
      nodes = clear(update_node(nodes, incoming, shared), graph.node_mask)
      graph = graph.replace(nodes=nodes)
    if update_global is not None:
      context = update_global(
        _aggregate_all(aggregate_for_global, nodes, graph.node_mask),
        _aggregate_all(aggregate_for_global, edges, present),
        graph.globals,
      )
      graph = graph.replace(globals=context)
    return graph

  return apply


def _list_pairs(graph: DenseGraph) -> Graph:
  """Takes a matrix of edges as the list of all pairs, receiver by receiver."""
  if graph.adjacency.ndim != 3:
    raise ValueError(
      "graph_network needs an adjacency [B, N, N] without types of edges, got"
      f" {list(graph.adjacency.shape)}; make a list with types by from_dense"
    )
  batch, number = graph.node_mask.shape
  places = jnp.arange(number * number)
  receivers, senders = (
    jnp.broadcast_to(one, (batch, number * number))
    for one in (places // number, places % number)
  )
  return Graph(
    nodes=graph.nodes,
    edges=jax.tree.map(
      lambda leaf: leaf.reshape(batch, -1, *leaf.shape[3:]), graph.edges
    ),
    globals=graph.globals,
    senders=senders,
    receivers=receivers,
    node_mask=graph.node_mask,
    edge_mask=graph.adjacency.reshape(batch, -1) > 0,
  )


def _to_matrix(edges: Features, number: int) -> Features:
  """Puts features of all pairs, [B, N * N, ...], at [B, N, N, ...]."""
  return jax.tree.map(
    lambda leaf: leaf.reshape(-1, number, number, *leaf.shape[2:]), edges
  )


def _aggregate_all(
  aggregate: Aggregate, features: Features, mask: Array
) -> Features:
  """Aggregates [B, E, ...] into [B, ...]."""

  def one(leaves: Features, present: Array) -> Features:
    segments = jnp.zeros(present.shape, jnp.int32)
    total = aggregate(leaves, present, segments, 1)
    return jax.tree.map(lambda leaf: leaf[0], total)

  return jax.vmap(one)(features, mask)
