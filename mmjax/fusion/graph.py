"""Fusion by a graph network over the tokens of all modalities.

Nodes are tokens, node types are modalities, and edges join tokens within and
across modalities, as one chooses; see `mmjax.nn.typed_graph` for a round.

Battaglia et al. 2018, "Relational inductive biases, deep learning, and graph
networks", https://arxiv.org/abs/1806.01261.

Differs from the paper: the graph is dense and typed, the feature of an edge is
one number a head, each round has parameters of its own, and a norm ends the
last one; `mmjax.nn.typed_graph` lists what else is simplified.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Tokens
from mmjax.nn.dense import Dense
from mmjax.nn.tokens import check_modalities, clear_masked, join_modalities
from mmjax.nn.typed_graph import GraphRound


class GraphFusion(nn.Module):
  """Message passing between the tokens of all modalities.

  Sows the weights [B, H, N_r, N_s] of the edges from modality s to r as
  `r_over_s`, once a round: over all edges that enter a node they sum to one.

  Attributes:
    width: width of nodes and of the global vector.
    num_heads: scores of an edge, and parts of a message.
    num_rounds: rounds, each with its own parameters.
    mlp_dim: hidden width of the perceptrons of the nodes.
    within: "all" joins all tokens of a modality by edges, "none" none.
    across: "all" joins all tokens of different modalities, "none" none.
    use_global: whether a global vector takes part.
    dropout_rate: dropout of hidden layers and residuals.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_heads: int = 4
  num_rounds: int = 2
  mlp_dim: int = 128
  within: str = "all"
  across: str = "all"
  use_global: bool = True
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses the modalities.

    Args:
      tokens: [B, N_m, D_m] of each modality m, of any widths.
      train: whether dropout is on.

    Returns:
      Tokens [B, sum of N_m, width], a group for each modality in sorted
      order.

    Raises:
      ValueError: there is no modality, shapes do not belong together, heads
        do not divide the width, or `within` and `across` leave no edge.
    """
    if self.num_rounds < 1:
      raise ValueError(
        f"fusion 'graph' needs at least one round, got {self.num_rounds}"
      )
    check_modalities(tokens, "fusion 'graph'")
    edge_types = self._edge_types(sorted(tokens))
    nodes, masks = {}, {}
    for m in sorted(tokens):
      # The bias of the projection is the embedding of the node's type.
      nodes[m] = Dense(
        self.width, dtype=self.dtype, param_dtype=self.param_dtype, name=m
      )(clear_masked(tokens[m], self.dtype))
      masks[m] = tokens[m].mask
    edges = {}
    context = jnp.zeros((nodes[m].shape[0], self.width), self.dtype)
    for number in range(self.num_rounds):
      nodes, edges, context, weights = GraphRound(
        num_heads=self.num_heads,
        mlp_dim=self.mlp_dim,
        edge_types=edge_types,
        use_global=self.use_global,
        dropout_rate=self.dropout_rate,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f"round_{number}",
      )(nodes, edges, context, masks, train=train)
      for name, edge_weights in weights.items():
        self.sow("intermediates", name, edge_weights)
    normed = {
      m: nn.LayerNorm(
        dtype=self.dtype, param_dtype=self.param_dtype, name=f"{m}_norm"
      )(nodes[m])
      for m in nodes
    }
    return join_modalities(normed, tokens)

  def _edge_types(self, modalities: list[str]) -> tuple[tuple[str, str], ...]:
    """Lists (receiver, sender) of the edge types, checking the attributes."""
    if self.width % self.num_heads:
      raise ValueError(
        f"fusion 'graph' needs a width that its heads divide, got width"
        f" {self.width} and {self.num_heads} heads"
      )
    for name, choice in (("within", self.within), ("across", self.across)):
      if choice not in ("all", "none"):
        raise ValueError(
          f"fusion 'graph' needs {name}='all' or 'none', got {choice!r}"
        )
    edge_types = tuple(
      (receiver, sender)
      for receiver in modalities
      for sender in modalities
      if (self.within if receiver == sender else self.across) == "all"
    )
    if not edge_types:
      raise ValueError(
        f"fusion 'graph' has no edges between {', '.join(modalities)} with"
        f" within={self.within!r} and across={self.across!r}; set one to 'all'"
      )
    return edge_types
