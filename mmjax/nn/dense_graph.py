"""Graphs whose edges are a matrix, and the way there and back.

A `Graph` and its `DenseGraph` are the same graph, and every layer of
`mmjax.nn` gives the same result on both, from the same parameters. What a
matrix cannot tell apart are several edges from one node to another: the weights
of those of one type add up, which layers treat alike; and the features of all
of them, whatever their types, which they do not, since a pair has one place for
features.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.edges import EdgeList, EdgeMatrix
from mmjax.nn.graph import Graph
from mmjax.nn.graph_checks import check_graph
from mmjax.nn.segments import align, segment_sum


@flax.struct.dataclass
class DenseGraph:
  """A batch of directed graphs of the same size, edges as a matrix.

  Attributes:
    nodes: pytree of [B, N, ...].
    edges: pytree of [B, N, N, ...], at [receiver, sender], or None.
    globals: pytree of [B, ...], or None.
    adjacency: bool or float, at least 0, [B, N, N] or [B, K, N, N] for K
      types of edges, receivers before senders; 0 or False is no edge.
    node_mask: bool [B, N], True = present. Edges at a masked node count as
      absent, whatever stands in the adjacency.
  """

  nodes: Any
  edges: Any
  globals: Any
  adjacency: Array
  node_mask: Array

  def edge_set(self) -> EdgeMatrix:
    """The edges alone."""
    return EdgeMatrix(self.adjacency, self.edges)


AnyGraph = Graph | DenseGraph


def make_dense_graph(
  nodes: Tokens, edges: EdgeMatrix, context: Any = None
) -> DenseGraph:
  """Makes a dense graph of tokens, edges and perhaps globals [B, ...].

  Whether they belong together is checked where it is used: the edges may enter
  another set of nodes, of another size.
  """
  return DenseGraph(
    nodes.values, edges.features, context, edges.adjacency, nodes.mask
  )


def to_dense(graph: Graph, num_types: int | None = None) -> DenseGraph:
  """Turns the list of edges into a matrix.

  Args:
    graph: N nodes.
    num_types: K types of edges give [B, K, N, N]; None, all types together,
      gives [B, N, N].

  Returns:
    The graph with a float32 adjacency. Edges at absent nodes are left out.

  Raises:
    ValueError: nodes, edges and masks of shapes that do not belong together;
      types are asked for and the graph has none; or, outside of `jax.jit`, an
      edge has a type of `num_types` or more. Traced types cannot be looked at:
      such edges are left out.
  """
  check_graph(graph, "to_dense")
  edges = graph.edge_set().restrict(graph.node_mask, graph.node_mask)
  num_nodes = graph.node_mask.shape[1]
  matrix = list_to_matrix(edges, num_nodes, num_nodes, num_types)
  return DenseGraph(
    graph.nodes,
    matrix.features,
    graph.globals,
    matrix.adjacency,
    graph.node_mask,
  )


def from_dense(graph: DenseGraph, num_edges: int) -> Graph:
  """Turns the matrix of edges into a list of fixed length.

  Args:
    graph: N nodes.
    num_edges: places for edges in each example. What does not fit is lost,
      which can be told, and is refused, only outside of `jax.jit`.

  Returns:
    The graph with its edges sorted by type, receiver and sender, then
    padding. It has weights unless the adjacency is bool, and types if there
    are several.

  Raises:
    ValueError: nodes, edges and masks of shapes that do not belong together;
      or, outside of `jax.jit`, there are more edges than places.
  """
  check_graph(graph, "from_dense")
  edges = graph.edge_set().restrict(graph.node_mask, graph.node_mask)
  found = matrix_to_list(edges, num_edges)
  return Graph(
    nodes=graph.nodes,
    edges=found.features,
    globals=graph.globals,
    senders=found.senders,
    receivers=found.receivers,
    node_mask=graph.node_mask,
    edge_mask=found.mask,
    weights=found.weights,
    types=found.types,
  )


def list_to_matrix(
  edges: EdgeList,
  num_senders: int,
  num_receivers: int,
  num_types: int | None = None,
) -> EdgeMatrix:
  """Turns a list of edges into a matrix [B, Nr, Ns] or [B, K, Nr, Ns].

  Raises:
    ValueError: types are asked for and the list has none, or, outside of
      `jax.jit`, one of `num_types` or more.
  """
  if num_types is not None and edges.types is None:
    raise ValueError(
      f"a matrix with {num_types} types of edges needs a list with types, got"
      " one without; give num_types=None or a graph with types"
    )
  if num_types is not None:
    edges = edges.keep_types(num_types)
  factors = edges.factors()
  pairs = num_receivers * num_senders
  place = edges.receivers * num_senders + edges.senders
  features = jax.tree.map(
    lambda leaf: scatter_edges(leaf, edges, num_senders, num_receivers),
    edges.features,
  )
  if num_types is None:
    adjacency = segment_sum(factors, place, pairs)
    shape = (num_receivers, num_senders)
  else:
    adjacency = segment_sum(
      factors, edges.types * pairs + place, num_types * pairs
    )
    shape = (num_types, num_receivers, num_senders)
  return EdgeMatrix(adjacency.reshape(-1, *shape), features)


def scatter_edges(
  values: Array, edges: EdgeList, num_senders: int, num_receivers: int
) -> Array:
  """Puts numbers of a list of edges, [B, E, ...], at [B, Nr, Ns, ...].

  Masked edges are left out; those between the same two nodes are added up.
  Attention over a list of edges is drawn by it.
  """
  kept = jnp.where(align(edges.mask, values), values, 0)
  place = edges.receivers * num_senders + edges.senders
  total = segment_sum(kept, place, num_receivers * num_senders)
  return total.reshape(-1, num_receivers, num_senders, *values.shape[2:])


def matrix_to_list(edges: EdgeMatrix, num_edges: int) -> EdgeList:
  """Turns a matrix of edges, none at absent nodes, to a list.

  See `from_dense`.

  Raises:
    ValueError: outside of `jax.jit`, there are more edges than places.
  """
  adjacency = edges.adjacency
  batch, *_, num_receivers, num_senders = adjacency.shape
  flat = adjacency.reshape(batch, -1)
  there = flat > 0
  if not isinstance(there, jax.core.Tracer):
    most = int(there.sum(axis=1).max(initial=0))
    if most > num_edges:
      raise ValueError(
        f"a graph has {most} edges, and num_edges={num_edges} leaves no place"
        f" for all; give at least {most}"
      )
  place = jax.vmap(
    lambda row: jnp.nonzero(row, size=num_edges, fill_value=row.size)[0]
  )(there)
  mask = place < flat.shape[1]
  place = jnp.where(mask, place, 0)
  pairs = place % (num_receivers * num_senders)

  def pick(leaf: Array) -> Array:
    rows = leaf.reshape(batch, num_receivers * num_senders, *leaf.shape[3:])
    picked = jax.vmap(lambda row, at: row[at])(rows, pairs)
    return jnp.where(align(mask, picked), picked, 0)

  weights = None
  if adjacency.dtype != jnp.bool_:
    weights = jnp.where(mask, jnp.take_along_axis(flat, place, axis=1), 0)
  return EdgeList(
    senders=pairs % num_senders,
    receivers=pairs // num_senders,
    mask=mask,
    features=jax.tree.map(pick, edges.features),
    weights=weights,
    types=place // (num_receivers * num_senders)
    if adjacency.ndim == 4
    else None,
  )
