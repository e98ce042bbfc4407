r"""A round of messages over all pairs of nodes, each edge with a perceptron.

.. math::
  e_{ij} &= \phi([v_i; v_j]) \\
  v'_i &= v_i + \sum_j a_{ij} W e_{ij}, \quad
  a_{ij} = \text{softmax}_j (w^\top e_{ij}) \\
  v''_i &= v'_i + \psi(v'_i)

for each head. Unlike a product of projections, the perceptron of an edge can
weigh it by anything that both its ends say together, such as their distance.

Battaglia et al. 2018, "Relational inductive biases, deep learning, and graph
networks", https://arxiv.org/abs/1806.01261 (edges and nodes with perceptrons);
Velickovic et al. 2018, "Graph Attention Networks",
https://arxiv.org/abs/1710.10903 (attention over the edges of a node).

Differs from the papers: every pair of present nodes is an edge, a node and
itself too; norms before and residuals around both updates; the score of an edge
is read off its whole perceptron; edges do not live on to the next round.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout
from mmjax.nn.hard_attention import masked_softmax
from mmjax.nn.relation_network import add_pairs
from mmjax.nn.transformer import MlpBlock


class EdgeNetworkRound(nn.Module):
  """Updates nodes by what a perceptron makes of each pair of them.

  Attributes:
    num_heads: scores of an edge, and parts of a message.
    edge_dim: width of both hidden layers of an edge.
    mlp_dim: hidden width of the perceptron of the nodes.
    dropout_rate: dropout of hidden layers and residuals.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  num_heads: int
  edge_dim: int
  mlp_dim: int
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self, nodes: Array, mask: Array, *, train: bool
  ) -> tuple[Array, Array]:
    """Updates the nodes.

    Args:
      nodes: [B, N, D]; the heads divide D.
      mask: bool [B, N], True = present.
      train: whether dropout is on.

    Returns:
      Nodes [B, N, D], and the weights of the edges, float32 [B, H, N, N],
      receivers before senders. Where no node is present they are zero.
    """
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    dropout = Dropout(self.dropout_rate, deterministic=not train)
    normed = nn.LayerNorm(name="edge_norm", **dtypes)(nodes)
    edges = add_pairs(
      Dense(self.edge_dim, name="receiver", **dtypes)(normed),
      Dense(self.edge_dim, use_bias=False, name="sender", **dtypes)(normed),
    )
    edges = Dense(self.edge_dim, name="edge", **dtypes)(nn.relu(edges))
    edges = dropout(nn.relu(edges))
    # All edges that enter a node share one softmax: a bias would be idle.
    scores = Dense(self.num_heads, use_bias=False, name="score", **dtypes)(
      edges
    )
    weights = masked_softmax(
      jnp.moveaxis(scores, -1, 1).astype(jnp.float32), mask[:, None, None]
    )
    sent = Dense(nodes.shape[-1], use_bias=False, name="message", **dtypes)(
      edges
    )
    sent = sent.reshape(*sent.shape[:3], self.num_heads, -1)
    heard = jnp.einsum("bhij,bijhd->bihd", weights.astype(sent.dtype), sent)
    nodes = nodes + dropout(heard.reshape(nodes.shape))
    update = MlpBlock(
      self.mlp_dim, dropout_rate=self.dropout_rate, name="mlp", **dtypes
    )(nn.LayerNorm(name="mlp_norm", **dtypes)(nodes), train=train)
    return nodes + dropout(update), weights
