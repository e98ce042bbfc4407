"""A residual block of a graph network: messages along edges, then a perceptron.

Messages are those of dynamic graph attention (GATv2), Brody et al. 2022,
https://arxiv.org/abs/2105.14491, or of an interaction network, Battaglia et
al. 2016, https://arxiv.org/abs/1612.00222, whose edges are perceptrons of both
their ends.

Differs from the papers: the norm stands before each part and the input is added
after it, as in the Transformer block; messages of a perceptron are averaged and
not summed, so that more edges do not mean larger nodes.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.nn.dense_graph import AnyGraph, DenseGraph
from mmjax.nn.dropout import Dropout
from mmjax.nn.graph_attention import DynamicGraphAttention
from mmjax.nn.graph_network import aggregate_mean, graph_network
from mmjax.nn.transformer import MlpBlock


class GraphBlock(nn.Module):
  """One round of messages and a perceptron at each node.

  Attributes:
    width: width of the nodes, in and out.
    messages: "attention", an average over neighbours whose weights depend on
      both ends and on the edge; or "perceptron", of both ends and the edge, to
      which a weight of an edge means nothing but that 0 is no edge.
    num_heads: heads of the attention.
    mlp_dim: hidden width of the perceptrons.
    dropout_rate: dropout of hidden layers, shares and residuals.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  messages: str = "attention"
  num_heads: int = 4
  mlp_dim: int = 64
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, graph: AnyGraph, *, train: bool) -> AnyGraph:
    """Updates the nodes.

    Args:
      graph: of either form; nodes [B, N, width], features of edges are None or
        one array [B, *, De].
      train: whether dropout is on.

    Returns:
      The graph with new nodes, zeros where absent; the edges stay, but those
      at absent nodes are masked.

    Raises:
      ValueError: unknown `messages`, or nodes of another width.
    """
    if self.messages not in ("attention", "perceptron"):
      raise ValueError(
        f"messages is {self.messages!r}; it must be 'attention' or 'perceptron'"
      )
    if graph.nodes.shape[-1] != self.width:
      raise ValueError(
        f"a graph block of width {self.width} needs nodes [B, N, {self.width}],"
        f" got {list(graph.nodes.shape)}"
      )
    dropout = Dropout(self.dropout_rate, deterministic=not train)
    mask = graph.node_mask
    edges = graph.edge_set().restrict(mask, mask)
    if isinstance(graph, DenseGraph):
      graph = graph.replace(edges=edges.features, adjacency=edges.adjacency)
    else:
      graph = graph.replace(edges=edges.features, edge_mask=edges.mask)
    nodes = jnp.where(mask[..., None], graph.nodes.astype(self.dtype), 0)
    normed = graph.replace(nodes=self._norm(nodes, "message_norm"))
    if self.messages == "attention":
      update = self._attend(normed, train)
    else:
      update = self._interact(normed, train)
    nodes = nodes + dropout(update)
    update = self._mlp("mlp")(self._norm(nodes, "mlp_norm"), train=train)
    nodes = nodes + dropout(update)
    return graph.replace(nodes=jnp.where(mask[..., None], nodes, 0))

  def _attend(self, graph: AnyGraph, train: bool) -> Array:
    return DynamicGraphAttention(
      self.width,
      num_heads=self.num_heads,
      dropout_rate=self.dropout_rate,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="attention",
    )(graph, train=train)

  def _interact(self, graph: AnyGraph, train: bool) -> Array:
    """Sends along each edge a perceptron of it and its ends: [B, N, D]."""
    message_fn = self._mlp("message")

    def update_edge(
      edges: Array | None, sent: Array, received: Array, _
    ) -> Array:
      features = [] if edges is None else [edges.astype(self.dtype)]
      inputs = jnp.concatenate([*features, sent, received], axis=-1)
      return message_fn(inputs, train=train)

    return graph_network(
      update_edge,
      lambda nodes, incoming, _: incoming,
      aggregate=aggregate_mean,
    )(graph).nodes

  def _mlp(self, name: str) -> MlpBlock:
    return MlpBlock(
      self.mlp_dim,
      width=self.width,
      dropout_rate=self.dropout_rate,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name=name,
    )

  def _norm(self, inputs: Array, name: str) -> Array:
    return nn.LayerNorm(
      dtype=self.dtype, param_dtype=self.param_dtype, name=name
    )(inputs)
