"""A stage of an encoder: tokens as nodes of a complete graph, in rounds.

It stands behind any encoder, in a `StagedEncoder`. In a model of questions the
rounds are then done once a scene, however many questions there are about it.

Battaglia et al. 2018, "Relational inductive biases, deep learning, and graph
networks", https://arxiv.org/abs/1806.01261.

Differs from the paper: as `mmjax.nn.typed_graph` does, which lists it.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Tokens
from mmjax.nn.tokens import clear_masked
from mmjax.nn.typed_graph import GraphRound


class GraphStage(nn.Module):
  """Lets the tokens of one modality hear each other, then norms them.

  Sows the weights [B, H, N, N] of the edges as `token_over_token`, once a
  round.

  Attributes:
    num_rounds: rounds, each with its own parameters.
    num_heads: scores of an edge, and parts of a message.
    mlp_dim: hidden width of the perceptrons.
    use_global: whether a vector of the whole graph takes part.
    dropout_rate: dropout of hidden layers and residuals.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  num_rounds: int = 2
  num_heads: int = 4
  mlp_dim: int = 128
  use_global: bool = True
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
    batch, _, width = values.shape
    if self.num_rounds < 1 or width % self.num_heads:
      raise ValueError(
        "a graph stage needs at least one round, and heads that divide the"
        f" width of its tokens, got num_rounds={self.num_rounds},"
        f" num_heads={self.num_heads} and tokens {list(values.shape)}"
      )
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    nodes, masks, edges = {"token": values}, {"token": tokens.mask}, {}
    context = jnp.zeros((batch, width), self.dtype)
    for number in range(self.num_rounds):
      nodes, edges, context, weights = GraphRound(
        self.num_heads,
        self.mlp_dim,
        edge_types=(("token", "token"),),
        use_global=self.use_global,
        dropout_rate=self.dropout_rate,
        name=f"round_{number}",
        **dtypes,
      )(nodes, edges, context, masks, train=train)
      self.sow("intermediates", "token_over_token", weights["token_over_token"])
    values = nn.LayerNorm(name="out_norm", **dtypes)(nodes["token"])
    return tokens.replace(values=jnp.where(tokens.mask[..., None], values, 0))
