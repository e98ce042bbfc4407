"""A stage of an encoder: tokens as nodes of a complete graph, in rounds.

It stands behind any encoder, in an `ExtendedEncoder`. In a model of questions
the rounds are then done once a scene, however many ask about it.

Battaglia et al. 2018, "Relational inductive biases, deep learning, and graph
networks", https://arxiv.org/abs/1806.01261.

Differs from the paper: as `mmjax.nn.edge_network` does, which lists it.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Tokens
from mmjax.nn.edge_network import EdgeNetworkRound
from mmjax.nn.tokens import clear_masked


class GraphStage(nn.Module):
  """Lets the tokens of one modality hear each other, then norms them.

  Sows the weights [B, H, N, N] of the edges as `token_over_token`, once a
  round.

  Attributes:
    num_rounds: rounds, each with its own parameters.
    num_heads: scores of an edge, and parts of a message.
    edge_dim: width of the perceptrons of the edges.
    mlp_dim: hidden width of the perceptrons of the nodes.
    dropout_rate: dropout of hidden layers and residuals.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  num_rounds: int = 2
  num_heads: int = 4
  edge_dim: int = 128
  mlp_dim: int = 128
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: Tokens, *, train: bool) -> Tokens:
    """Maps tokens [B, N, D] to tokens of the same shape.

    Raises:
      ValueError: there is no round, or heads do not divide the width.
    """
    values = clear_masked(tokens, self.dtype)
    if self.num_rounds < 1 or values.shape[-1] % self.num_heads:
      raise ValueError(
        "a graph stage needs at least one round, and heads that divide the"
        f" width of its tokens, got num_rounds={self.num_rounds},"
        f" num_heads={self.num_heads} and tokens {list(values.shape)}"
      )
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    for number in range(self.num_rounds):
      values, weights = EdgeNetworkRound(
        self.num_heads,
        self.edge_dim,
        self.mlp_dim,
        dropout_rate=self.dropout_rate,
        name=f"round_{number}",
        **dtypes,
      )(values, tokens.mask, train=train)
      self.sow("intermediates", "token_over_token", weights)
    values = nn.LayerNorm(name="out_norm", **dtypes)(values)
    return tokens.replace(values=jnp.where(tokens.mask[..., None], values, 0))
