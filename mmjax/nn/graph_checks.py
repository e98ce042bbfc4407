"""Checks of graphs, in words that say what was found and expected."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.edges import EdgeList, EdgeMatrix


class AnyForm(Protocol):
  """A graph with edges of either form."""

  nodes: Any
  globals: Any
  node_mask: Array

  def edge_set(self) -> EdgeList | EdgeMatrix:
    """The edges alone."""


def check_form(graph: AnyForm, owner: str) -> None:
  """Raises ValueError unless this is a graph."""
  if not hasattr(graph, "edge_set"):
    raise ValueError(
      f"{owner} needs a Graph or a DenseGraph, got {type(graph).__name__};"
      " make_graph and make_dense_graph make one of tokens and edges"
    )


def check_graph(graph: AnyForm, owner: str) -> None:
  """Checks a graph whose nodes and edges may be any pytree.

  Args:
    graph: of either form.
    owner: who needs it, for messages.

  Raises:
    ValueError: it is no graph, masks that are not bool, or shapes that do not
      belong together.
  """
  check_form(graph, owner)
  mask = graph.node_mask
  if mask.ndim != 2 or mask.dtype != jnp.bool_:
    raise ValueError(
      f"{owner} needs a bool node_mask [B, N], got {mask.dtype}"
      f" {list(mask.shape)}; give one True for each present node"
    )
  for leaf in jax.tree.leaves(graph.nodes):
    _check_mask(leaf.shape, mask, f"{owner}: the graph's nodes")
  for leaf in jax.tree.leaves(graph.globals):
    if leaf.shape[:1] != mask.shape[:1]:
      raise ValueError(
        f"{owner} needs globals [{mask.shape[0]}, ...], one of each example, as"
        f" there are nodes, got {list(leaf.shape)}"
      )
  check_edges(graph, Tokens(graph.nodes, mask), owner)
  edges = graph.edge_set()
  shape = mask.shape[:1] + (
    edges.adjacency.shape[-2:]
    if isinstance(edges, EdgeMatrix)
    else edges.mask.shape[1:]
  )
  for leaf in jax.tree.leaves(edges.features):
    if leaf.shape[: len(shape)] != shape:
      raise ValueError(
        f"{owner} needs features of edges that start with {list(shape)}, as"
        f" the edges do, got {list(leaf.shape)}; pad or cut one of them"
      )


def check_nodes(values: Array, mask: Array, owner: str) -> None:
  """Raises ValueError unless values are [B, N, D] with a bool mask [B, N]."""
  shape = jnp.shape(values) if hasattr(values, "shape") else type(values)
  if not hasattr(values, "shape") or values.ndim != 3:
    raise ValueError(
      f"{owner} must be one array [B, N, D], got {shape}; graphs whose nodes"
      " are a pytree are for graph_network"
    )
  _check_mask(shape, mask, owner)


def _check_mask(shape: tuple[int, ...], mask: Array, owner: str) -> None:
  """Raises ValueError unless nodes [B, N, ...] have a bool mask [B, N]."""
  if mask.dtype != jnp.bool_ or mask.shape != shape[:2]:
    raise ValueError(
      f"{owner} {list(shape)} need a bool mask {list(shape[:2])}, got"
      f" {mask.dtype} {list(mask.shape)}; give one True for each present node"
    )


def check_edges(graph: AnyForm, receivers: Tokens, owner: str) -> None:
  """Raises ValueError unless the edges fit the nodes."""
  edges = graph.edge_set()
  batch, num_senders = graph.node_mask.shape
  num_receivers = receivers.mask.shape[1]
  if receivers.mask.shape[0] != batch:
    raise ValueError(
      f"{owner} needs as many examples of receivers as of senders, got"
      f" {receivers.mask.shape[0]} and {batch}"
    )
  if isinstance(edges, EdgeMatrix):
    shape = edges.adjacency.shape
    expected = (batch, num_receivers, num_senders)
    if len(shape) not in (3, 4) or (shape[0], *shape[-2:]) != expected:
      raise ValueError(
        f"{owner} needs an adjacency {list(expected)}, receivers before"
        f" senders, or one with a type axis after the first, got {list(shape)}"
      )
    return
  shapes = {
    name: value.shape
    for name in ("senders", "receivers", "mask", "weights", "types")
    if (value := getattr(edges, name)) is not None
  }
  if edges.senders.ndim != 2 or set(shapes.values()) != {
    (batch, edges.senders.shape[1])
  }:
    shown = ", ".join(f"{n} {list(shape)}" for n, shape in shapes.items())
    raise ValueError(
      f"{owner} needs everything of the edges as [{batch}, E], got {shown};"
      " pad what is shorter, and mask the padding"
    )
  if edges.mask.dtype != jnp.bool_:
    raise ValueError(
      f"{owner} needs a bool mask of the edges, got {edges.mask.dtype}; give"
      " True for each present edge, and what an edge counts as its weight"
    )
