"""How graph layers start, with what is masked cleared, and what they sow."""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.dense_graph import AnyGraph
from mmjax.nn.edges import EdgeList, EdgeMatrix
from mmjax.nn.graph_checks import check_edges, check_form, check_nodes


def prepare_edges(
  graph: AnyGraph,
  receivers: Tokens | None,
  dtype: str,
  owner: str,
  *,
  loops: bool = False,
) -> tuple[Array, Tokens, EdgeList | EdgeMatrix]:
  """Takes a graph apart for a layer.

  Args:
    graph: its nodes [B, Ns, Ds] are those that edges leave.
    receivers: tokens [B, Nr, Dr] that edges enter; None: the graph's nodes.
    dtype: dtype of the computation.
    owner: the layer, for messages.
    loops: whether each node gets a loop, see `EdgeList.add_loops`; not if the
      receivers are another set.

  Returns:
    The senders [B, Ns, Ds] and the tokens of the receivers, in `dtype` and
    zeros where masked; and the edges, masked at absent nodes.

  Raises:
    ValueError: this is no graph; nodes, masks or edges of shapes that do not
      belong together; or masks that are not bool.
  """
  check_form(graph, owner)
  loops = loops and receivers is None
  if receivers is None:
    receivers = Tokens(graph.nodes, graph.node_mask)
  check_nodes(graph.nodes, graph.node_mask, f"{owner}: the graph's nodes")
  check_nodes(receivers.values, receivers.mask, f"{owner}: the receivers")
  check_edges(graph, receivers, owner)
  edges = graph.edge_set().restrict(graph.node_mask, receivers.mask)
  if loops:
    edges = edges.add_loops(graph.node_mask)
  senders = jnp.where(graph.node_mask[..., None], graph.nodes, 0)
  values = jnp.where(receivers.mask[..., None], receivers.values, 0)
  return (
    senders.astype(dtype),
    Tokens(values.astype(dtype), receivers.mask),
    edges,
  )


def sow_shares(
  layer: nn.Module,
  name: str,
  edges: EdgeList | EdgeMatrix,
  shares: Array,
  num_receivers: int,
  num_senders: int,
) -> None:
  """Sows what each edge counts, [B, *, H], and its ends; see `sow_ends`."""
  layer.sow("intermediates", name, edges.heads_first(shares))
  sow_ends(layer, edges, num_receivers, num_senders)


def sow_ends(
  layer: nn.Module,
  edges: EdgeList | EdgeMatrix,
  num_receivers: int,
  num_senders: int,
) -> None:
  """Sows the ends of a list of edges; a matrix needs none.

  They are `edge_senders`, `edge_receivers` and `edge_mask` [B, E], and
  `edge_nodes`, the number of receivers and of senders.
  """
  if isinstance(edges, EdgeList):
    for part in ("senders", "receivers", "mask"):
      layer.sow("intermediates", f"edge_{part}", getattr(edges, part))
    layer.sow(
      "intermediates", "edge_nodes", jnp.array([num_receivers, num_senders])
    )
