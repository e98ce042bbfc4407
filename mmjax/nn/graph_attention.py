r"""Graph attention: nodes average their neighbours by learned weights.

`GraphAttention`: Velickovic et al. 2018, "Graph Attention Networks",
https://arxiv.org/abs/1710.10903. `DynamicGraphAttention`: Brody et al. 2022,
"How Attentive are Graph Attention Networks?",
https://arxiv.org/abs/2105.14491; there each receiver can rank its senders in
an order of its own, and it needs an array of the width of a node for each edge.

Differs from the papers: where edges have features, a projection of them is
added to the score (by its vector, or inside of its nonlinearity); a loop that
is there already is replaced by one without features. Only one side has a bias
in the score, and values have none, for the bias of the output would do the
same. No activation: the caller adds it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.dense import Dense
from mmjax.nn.dense_graph import AnyGraph
from mmjax.nn.dropout import Dropout
from mmjax.nn.edges import EdgeList, EdgeMatrix
from mmjax.nn.message_passing import prepare_edges, sow_shares

NEGATIVE_SLOPE = 0.2  # of the leaky rectifier, in both papers


def score_static(
  edges: EdgeList | EdgeMatrix, sent: Array, received: Array
) -> Array:
  """Scores edges by a number of each end, GAT's equation 3.

  Args:
    edges: the edges.
    sent: [B, Ns, H], the sender's share of the score.
    received: [B, Nr, H], the receiver's.

  Returns:
    [B, *, H], before the rectifier.
  """
  return edges.at_senders(sent) + edges.at_receivers(received)


def score_dynamic(
  edges: EdgeList | EdgeMatrix,
  sent: Array,
  received: Array,
  of_edges: Array | None,
  vector: Array,
) -> Array:
  r"""Scores edges by a small network of both ends, GATv2's equation 7.

  .. math:: s_{rs} = a^\top \text{LeakyReLU}(x_s + y_r + z_{rs})

  Nothing of the width of a node is kept for each edge: what the gradient
  needs is computed again.

  Args:
    edges: the edges.
    sent: [B, Ns, H, d].
    received: [B, Nr, H, d].
    of_edges: [B, *, H, d], or None.
    vector: [H, d].

  Returns:
    [B, *, H].
  """

  @jax.checkpoint
  def score(
    sent: Array, received: Array, of_edges: Array | None, vector: Array
  ) -> Array:
    hidden = edges.at_senders(sent) + edges.at_receivers(received)
    if of_edges is not None:
      hidden = hidden + of_edges
    return (nn.leaky_relu(hidden, NEGATIVE_SLOPE) * vector).sum(axis=-1)

  return score(sent, received, of_edges, vector)


class GraphAttention(nn.Module):
  """Graph attention whose score is a sum over both ends (GAT).

  Sows `attention`, the share of each edge among those that enter its node:
  [B, H, E + N] for a list, the loops last, [B, H, Nr, Ns] for a matrix.

  Attributes:
    width: width of the new nodes.
    num_heads: heads, side by side or averaged.
    merge: "concat": each head is `width / num_heads` wide; "mean": each is as
      wide as the output, as in the paper's last layer.
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
      receivers: tokens that the edges enter, if they are another set; they
        have a projection of their own then, and there are no loops.
      train: whether dropout is on.

    Returns:
      [B, Nr, width]; zeros for absent nodes.

    Raises:
      ValueError: heads that do not divide the width, or shapes that do not
        belong together.
    """
    head_width = check_heads(self, "graph attention")
    bipartite = receivers is not None
    values, receivers, edges = prepare_edges(
      graph, receivers, self.dtype, "graph attention", loops=self.self_loops
    )
    sent = self._project(values, head_width, "node")
    received = sent
    if bipartite:
      received = self._project(receivers.values, head_width, "receiver")
    scores = score_static(
      edges,
      (sent * self._vector("sender_score", head_width)).sum(axis=-1),
      (received * self._vector("receiver_score", head_width)).sum(axis=-1),
    )
    if edges.features is not None:
      of_edges = self._project(edges.features, head_width, "edge")
      vector = self._vector("edge_score", head_width)
      scores = scores + (of_edges * vector).sum(axis=-1)
    scores = nn.leaky_relu(scores, NEGATIVE_SLOPE)
    return gather_heads(self, edges, scores, sent, receivers, train)

  def _project(self, inputs: Array, head_width: int, name: str) -> Array:
    return project_heads(self, inputs, head_width, name, use_bias=False)

  def _vector(self, name: str, head_width: int) -> Array:
    return make_vector(self, name, head_width)


class DynamicGraphAttention(nn.Module):
  """Graph attention whose score is a network over both ends (GATv2).

  Sows `attention`, the share of each edge among those that enter its node:
  [B, H, E + N] for a list, the loops last, [B, H, Nr, Ns] for a matrix.

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
    head_width = check_heads(self, "dynamic graph attention")
    values, receivers, edges = prepare_edges(
      graph,
      receivers,
      self.dtype,
      "dynamic graph attention",
      loops=self.self_loops,
    )
    sent = project_heads(self, values, head_width, "sender", use_bias=False)
    received = project_heads(
      self, receivers.values, head_width, "receiver", use_bias=True
    )
    of_edges = None
    if edges.features is not None:
      of_edges = project_heads(
        self, edges.features, head_width, "edge", use_bias=False
      )
    vector = make_vector(self, "score", head_width)
    scores = score_dynamic(edges, sent, received, of_edges, vector)
    return gather_heads(self, edges, scores, sent, receivers, train)


def check_heads(layer: nn.Module, owner: str) -> int:
  """Gives the width of a head of an attention layer.

  Raises:
    ValueError: unknown `merge`, or heads that do not divide the width.
  """
  if layer.merge not in ("concat", "mean"):
    raise ValueError(
      f"{owner}: merge is {layer.merge!r}; it must be 'concat' or 'mean'"
    )
  if layer.num_heads < 1 or layer.width < 1:
    raise ValueError(
      f"{owner} needs at least one head and a width of at least 1, got"
      f" {layer.num_heads} heads and width {layer.width}"
    )
  if layer.merge == "mean":
    return layer.width
  if layer.width % layer.num_heads:
    raise ValueError(
      f"{owner} needs a width that its heads divide, got width {layer.width}"
      f" and {layer.num_heads} heads; or set merge='mean'"
    )
  return layer.width // layer.num_heads


def project_heads(
  layer: nn.Module, inputs: Array, head_width: int, name: str, *, use_bias: bool
) -> Array:
  """Projects [..., D] to heads [..., H, d]."""
  heads = Dense(
    layer.num_heads * head_width,
    use_bias=use_bias,
    dtype=layer.dtype,
    param_dtype=layer.param_dtype,
    name=name,
  )(inputs.astype(layer.dtype))
  return heads.reshape(*inputs.shape[:-1], layer.num_heads, head_width)


def make_vector(layer: nn.Module, name: str, head_width: int) -> Array:
  """Makes a vector [H, d] that scores each head."""
  return layer.param(
    name,
    nn.initializers.glorot_uniform(),
    (layer.num_heads, head_width),
    jnp.dtype(layer.param_dtype),
  ).astype(layer.dtype)


def gather_heads(
  layer: nn.Module,
  edges: EdgeList | EdgeMatrix,
  scores: Array,
  values: Array,
  receivers: Tokens,
  train: bool,
) -> Array:
  """Averages values [B, Ns, H, d] by scores [B, *, H], merges heads, adds bias.

  Returns:
    [B, Nr, width]; zeros for absent nodes, the bias for those without edges.
  """
  num_receivers = receivers.mask.shape[1]
  shares = edges.softmax(scores, num_receivers)
  sow_shares(layer, "attention", edges, shares, num_receivers, values.shape[1])
  shares = Dropout(layer.dropout_rate, deterministic=not train)(shares)
  out = edges.collect(shares, values, num_receivers)
  if layer.merge == "mean":
    out = out.mean(axis=2)
  out = out.reshape(*out.shape[:2], layer.width)
  bias = layer.param(
    "bias", nn.initializers.zeros, (layer.width,), jnp.dtype(layer.param_dtype)
  )
  out = out + bias.astype(layer.dtype)
  return jnp.where(receivers.mask[..., None], out, 0)
