r"""One round of a dense graph network whose nodes and edges have types.

Every ordered pair of node types is an edge type with matrices of its own.
Edges are updated from their two ends, nodes from the edges that enter them by
attention, and a global vector ties all nodes together.

Battaglia et al. 2018, "Relational inductive biases, deep learning, and graph
networks", https://arxiv.org/abs/1806.01261; matrices for each edge type as in
Schlichtkrull et al. 2018, "Modeling Relational Data with Graph Convolutional
Networks", https://arxiv.org/abs/1703.06103.

Differs from the papers: the feature of an edge is one number a head, its
score, and not a vector. A round updates it by adding a bilinear form of the
two ends, so that it lives on through the rounds (as in He et al. 2020,
"RealFormer", https://arxiv.org/abs/2012.11747); a perceptron on vectors at
N x N edges would cost tens of times more. What is sent along an edge depends
on the sender and the edge's type, only its weight on the edge's feature.
Globals read nodes only, not edges, and are updated first in a round. Nodes
and globals are residual with the norm before each part.
"""

import itertools
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.nn.attention import weigh
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout
from mmjax.nn.pooling import masked_mean
from mmjax.nn.transformer import MlpBlock


def update_edges(
  edges: Array | None, gain: Array | None, query: Array, key: Array
) -> Array:
  r"""Updates the features of the edges that enter the nodes of one type.

  .. math:: e'_{ij} = g_j \, e_{ij} + q_i^\top k_j / \sqrt{d}

  Args:
    edges: [B, H, N_r, N_s], or None in the first round.
    gain: [H, N_s], how much of them is kept, or None in the first round.
    query: [B, N_r, H, d] of the receivers.
    key: [B, N_s, H, d] of the senders.

  Returns:
    float32 [B, H, N_r, N_s].
  """
  query = query * key.shape[-1] ** -0.5
  update = jnp.einsum(
    "brhd,bshd->bhrs", query, key, preferred_element_type=jnp.float32
  )
  if edges is None:
    return update
  return update + gain[:, None, :] * edges


def pass_messages(
  scores: Array, values: Array, mask: Array
) -> tuple[Array, Array]:
  r"""Gathers messages at nodes that edges from all senders enter.

  .. math::
    m_i = \sum_j a_{ij} \, v_j, \quad
    a_{ij} = \exp e_{ij} \, / \, \sum_k \exp e_{ik}

  It equals `mmjax.nn.graph_network` with `aggregate_attention`
  over a list of all edges, without ever making an array [B, N_r, N_s, D].
  Senders of several types are put side by side: their edges share one softmax.

  Args:
    scores: [B, H, N_r, N_s], the feature of each edge, one number a head.
    values: [B, N_s, H, d], what each sender sends.
    mask: bool [B, N_s], True = the sender is present.

  Returns:
    Messages [B, N_r, H, d] in the dtype of the values, and the weights of the
    edges, float32 [B, H, N_r, N_s]. Zeros in both where no sender is present.
  """
  return weigh(scores, values, mask[:, None, None])


class GraphRound(nn.Module):
  """One round of the graph network: globals, edges, nodes.

  Attributes:
    num_heads: scores of an edge.
    mlp_dim: hidden width of the perceptrons of the nodes.
    edge_types: (receiver, sender) of each edge type there is.
    use_global: whether there is a global vector.
    dropout_rate: dropout of hidden layers and residuals.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  num_heads: int
  mlp_dim: int
  edge_types: tuple[tuple[str, str], ...]
  use_global: bool = True
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self,
    nodes: Mapping[str, Array],
    edges: Mapping[str, Array],
    context: Array,
    masks: Mapping[str, Array],
    *,
    train: bool,
  ) -> tuple[dict[str, Array], dict[str, Array], Array, dict[str, Array]]:
    """Updates the graph.

    Args:
      nodes: [B, N_m, D] of each type m.
      edges: [B, H, N_r, N_s] for each type r of receivers, where N_s counts
        the senders of all types that it has; empty in the first round.
      context: the global vector [B, D].
      masks: bool [B, N_m] of each type m, True = present.
      train: whether dropout is on.

    Returns:
      Nodes, edges and context after the round, and the weight of each edge
      among those that enter a node, [B, H, N_r, N_s] of each `r_over_s`.
    """
    dropout = Dropout(self.dropout_rate, deterministic=not train)
    types = sorted(nodes)
    normed = {t: self._norm(nodes[t], f"{t}_edge_norm") for t in types}
    updates = {t: jnp.zeros_like(nodes[t]) for t in types}
    if self.use_global:
      for t in types:
        pooled = masked_mean(normed[t], masks[t])
        context = context + self._dense(pooled, f"global_from_{t}")
      shared = self._norm(context, "global_norm")
      for t in types:
        sent = self._dense(shared, f"{t}_from_global")
        updates[t] = updates[t] + sent[:, None]
    new_edges, weights = {}, {}
    for t in sorted({receiver for receiver, _ in self.edge_types}):
      new_edges[t], messages, by_pair = self._pass(
        t, normed, edges.get(t), masks
      )
      updates[t] = updates[t] + messages
      weights |= by_pair
    new_nodes = {}
    for t in types:
      node = nodes[t] + dropout(updates[t])
      update = MlpBlock(
        hidden=self.mlp_dim,
        dropout_rate=self.dropout_rate,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f"{t}_mlp",
      )(self._norm(node, f"{t}_mlp_norm"), train=train)
      new_nodes[t] = node + dropout(update)
    return new_nodes, new_edges, context, weights

  def _pass(
    self,
    receiver: str,
    nodes: Mapping[str, Array],
    edges: Array | None,
    masks: Mapping[str, Array],
  ) -> tuple[Array, Array, dict[str, Array]]:
    """Updates the edges that enter one type, and passes their messages."""
    senders = [s for r, s in self.edge_types if r == receiver]
    sizes = [masks[s].shape[1] for s in senders]

    def project(role: str) -> Array:
      """Gives [B, N_s, H, d] by the matrix of each edge type."""
      parts = [
        self._dense(nodes[s], f"{receiver}_over_{s}_{role}") for s in senders
      ]
      return self._split(jnp.concatenate(parts, axis=1))

    edges = update_edges(
      edges,
      None if edges is None else self._gain(receiver, senders, sizes),
      self._split(self._dense(nodes[receiver], f"{receiver}_query")),
      project("key"),
    )
    messages, weights = pass_messages(
      edges,
      project("value"),
      jnp.concatenate([masks[s] for s in senders], axis=1),
    )
    messages = messages.reshape(nodes[receiver].shape)
    messages = self._dense(messages, f"{receiver}_from_edges")
    ends = list(itertools.accumulate(sizes))[:-1]
    parts = jnp.split(weights, ends, axis=-1)
    names = [f"{receiver}_over_{s}" for s in senders]
    return edges, messages, dict(zip(names, parts, strict=True))

  def _split(self, inputs: Array) -> Array:
    """Splits [B, N, D] into heads [B, N, H, D / H]."""
    return inputs.reshape(*inputs.shape[:2], self.num_heads, -1)

  def _gain(self, receiver: str, senders: list[str], sizes: list[int]) -> Array:
    """Makes the gain [H, N_s]: one number for each head and edge type."""
    gains = []
    for sender, size in zip(senders, sizes, strict=True):
      gain = self.param(
        f"{receiver}_over_{sender}_gain",
        nn.initializers.ones,
        (self.num_heads,),
        self.param_dtype,
      )
      gains.append(jnp.repeat(gain.astype(self.dtype)[:, None], size, axis=1))
    return jnp.concatenate(gains, axis=1)

  def _norm(self, inputs: Array, name: str) -> Array:
    return nn.LayerNorm(
      dtype=self.dtype, param_dtype=self.param_dtype, name=name
    )(inputs)

  def _dense(self, inputs: Array, name: str) -> Array:
    """Maps D to D; norms before and perceptrons after have the biases."""
    return Dense(
      inputs.shape[-1],
      use_bias=False,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name=name,
    )(inputs)
