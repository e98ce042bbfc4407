"""Graphs whose nodes and edges have types, and a layer for each edge type.

Node types have widths of their own; an edge type is (sender type, name,
receiver type), and its edges are a list or a matrix between two sets of nodes.

Zhang et al. 2019, "Heterogeneous Graph Neural Network",
https://doi.org/10.1145/3292500.3330961, gave the name; the form, a layer for
each edge type whose results are added up at the receivers, is that of
Schlichtkrull et al. 2018, https://arxiv.org/abs/1703.06103, with any layer in
place of the matrix, and a matrix for what a node knows of itself.

Differs from the papers: there is no sampling of neighbours, and no attention
over edge types; for one softmax over all of them see `mmjax.nn.typed_graph`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
from flax.core import FrozenDict

from mmjax.array_types import Array, Tokens
from mmjax.nn.dense import Dense
from mmjax.nn.dense_graph import (
  AnyGraph,
  list_to_matrix,
  make_dense_graph,
  matrix_to_list,
)
from mmjax.nn.edges import EdgeList, EdgeMatrix
from mmjax.nn.graph import join_parts
from mmjax.nn.graph_checks import check_edges
from mmjax.nn.tokens import clear_masked

# (sender type, name, receiver type)
EdgeType = tuple[str, str, str]


@flax.struct.dataclass
class HeterogeneousGraph:
  """A batch of graphs with typed nodes and edges.

  Attributes:
    nodes: tokens [B, N_t, D_t] of each node type t.
    edges: the edges of each edge type: a list, or a matrix.
  """

  nodes: Mapping[str, Tokens]
  edges: Mapping[EdgeType, EdgeList | EdgeMatrix]

  def part(self, edge_type: EdgeType) -> tuple[AnyGraph, Tokens]:
    """The graph of one edge type, its senders as nodes, and its receivers."""
    sender, _, receiver = edge_type
    edges = self.edges[edge_type]
    make_fn = join_parts if isinstance(edges, EdgeList) else make_dense_graph
    return make_fn(self.nodes[sender], edges), self.nodes[receiver]


def join_name(edge_type: EdgeType) -> str:
  """Names an edge type: ("word", "names", "region") is "word_names_region"."""
  return "_".join(edge_type)


def check_types(graph: HeterogeneousGraph) -> None:
  """Raises ValueError unless edge types are triples of known node types."""
  for edge_type in graph.edges:
    if not isinstance(edge_type, tuple) or len(edge_type) != 3:
      raise ValueError(
        "edges must be named (sender type, name, receiver type), got"
        f" {edge_type!r}; layers have the three joined by '_'"
      )
    for t in edge_type[::2]:
      if t not in graph.nodes:
        raise ValueError(
          f"the edges {edge_type} need nodes {t!r}; there are"
          f" {', '.join(sorted(graph.nodes))}"
        )


def edges_to_matrices(graph: HeterogeneousGraph) -> HeterogeneousGraph:
  """Turns all lists of edges into matrices.

  Raises:
    ValueError: edge types that are no triples of known node types, or edges of
      shapes that do not fit the nodes.
  """
  check_types(graph)

  def turn(edge_type: EdgeType, edges: Any) -> EdgeMatrix:
    if isinstance(edges, EdgeMatrix):
      return edges
    sizes = (graph.nodes[edge_type[i]].mask.shape[1] for i in (0, 2))
    return list_to_matrix(_restrict(graph, edge_type), *sizes)

  edges = {t: turn(t, edges) for t, edges in graph.edges.items()}
  return graph.replace(edges=edges)


def edges_to_lists(
  graph: HeterogeneousGraph, num_edges: Mapping[EdgeType, int]
) -> HeterogeneousGraph:
  """Turns matrices of edges into lists of fixed length.

  Raises:
    ValueError: as `edges_to_matrices` does; or, outside of `jax.jit`, there are
      more edges than places.
  """
  check_types(graph)
  edges = dict(graph.edges)
  for edge_type, size in num_edges.items():
    if isinstance(edges[edge_type], EdgeMatrix):
      edges[edge_type] = matrix_to_list(_restrict(graph, edge_type), size)
  return graph.replace(edges=edges)


def _restrict(
  graph: HeterogeneousGraph, edge_type: EdgeType
) -> EdgeList | EdgeMatrix:
  """The edges of a type, checked, without those at absent nodes."""
  part, receivers = graph.part(edge_type)
  check_edges(part, receivers, join_name(edge_type))
  return part.edge_set().restrict(part.node_mask, receivers.mask)


class HeterogeneousLayer(nn.Module):
  """Runs a layer for each edge type, and joins what enters each node type.

  Attributes:
    layers: for each edge type, by its `join_name`, a layer
      (graph, receivers, *, train) -> [B, Nr, width]: `GraphConvolution`,
      `GraphAttention`, `DynamicGraphAttention`. All that enter one node type
      have the same width. Edge types without a layer are left out. Their
      `self_loops` add none here, as senders and receivers are two sets even
      where they are of one type: what a node knows of itself is `keep_own`.
    combine: "sum" or "mean" over the edge types that enter a node type.
    keep_own: whether a projection of a node's own values is added, without
      which it forgets them; False for who adds them himself.
    param_dtype: dtype of the parameters of that projection; it computes in the
      dtype of what the layers give.
  """

  layers: Mapping[str, nn.Module]
  combine: str = "sum"
  keep_own: bool = True
  param_dtype: str = "float32"

  def __post_init__(self) -> None:
    """Freezes the layers: a plain dict would make the module unhashable."""
    object.__setattr__(self, "layers", FrozenDict(self.layers))
    super().__post_init__()

  @nn.compact
  def __call__(
    self, graph: HeterogeneousGraph, *, train: bool
  ) -> HeterogeneousGraph:
    """Updates the nodes of each type that edges enter.

    Args:
      graph: a graph with typed nodes and edges.
      train: whether dropout is on.

    Returns:
      The graph with new nodes. Types that no edge enters keep theirs.

    Raises:
      ValueError: an edge type of unknown node types, a layer without an edge
        type, or widths that cannot be added up.
    """
    self._check(graph)
    found: dict[str, list[Array]] = {}
    for edge_type in sorted(graph.edges):
      name = join_name(edge_type)
      if name not in self.layers:
        continue
      part, receivers = graph.part(edge_type)
      out = self.layers[name](part, receivers, train=train)
      found.setdefault(edge_type[2], []).append(out)
    nodes = dict(graph.nodes)
    for t, outs in found.items():
      if len({out.shape for out in outs}) > 1:
        raise ValueError(
          f"the layers that enter {t} give {[list(o.shape) for o in outs]};"
          " set their widths to one value"
        )
      total = sum(outs[1:], outs[0])
      if self.combine == "mean":
        total = total / len(outs)
      if self.keep_own:
        total = total + self._project_own(t, nodes[t], total)
      nodes[t] = Tokens(total, nodes[t].mask)
    return graph.replace(nodes=nodes)

  def _project_own(self, name: str, own: Tokens, like: Array) -> Array:
    """Projects a node type's values; zeros for absent nodes."""
    dtype = str(like.dtype)
    return Dense(
      like.shape[-1],
      use_bias=False,
      dtype=dtype,
      param_dtype=self.param_dtype,
      name=f"own_{name}",
    )(clear_masked(own, dtype))

  def _check(self, graph: HeterogeneousGraph) -> None:
    """Raises ValueError for types that do not belong together."""
    if self.combine not in ("sum", "mean"):
      raise ValueError(
        f"combine is {self.combine!r}; it must be 'sum' or 'mean'"
      )
    check_types(graph)
    names = {join_name(edge_type) for edge_type in graph.edges}
    unknown = sorted(set(self.layers) - names)
    if unknown:
      raise ValueError(
        f"no edges for the layers {', '.join(unknown)}; there are edges"
        f" {', '.join(sorted(names))}"
      )
