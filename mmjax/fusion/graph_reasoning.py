"""Fusion by reasoning in steps over one modality, as the others ask.

The tokens of the target are the nodes of a graph with an edge for every pair;
the others are pooled into a query, which walks over it, see
`mmjax.nn.graph_reasoning`.

Hudson and Manning 2018, "Compositional Attention Networks for Machine
Reasoning", https://arxiv.org/abs/1803.03067; Hudson and Manning 2019, "Learning
by Abstraction: The Neural State Machine", https://arxiv.org/abs/1907.03950.

Differs from the papers: the edges are all pairs, and what they mean is learned,
in place of a graph of named relations; any number of modalities asks; a target
alone asks with its own mean; `mmjax.nn.graph_reasoning` lists the rest.
"""

from collections.abc import Mapping

import flax.linen as nn

from mmjax.array_types import Tokens
from mmjax.nn.dense_graph import DenseGraph
from mmjax.nn.dropout import Dropout
from mmjax.nn.graph_reasoning import GraphReasoning
from mmjax.nn.pooling import ModalityPooling, single_token
from mmjax.nn.target import split_target
from mmjax.nn.tokens import check_modalities, clear_masked


class GraphReasoningFusion(nn.Module):
  """Walks over the tokens of one modality with a query of the others.

  Sows, once a step and under `reasoning`, the attention over the target's
  tokens as `nodes` and the gates between them as `gates`.

  Attributes:
    target: the modality whose tokens are the nodes.
    width: width of nodes, query and of the token that comes out.
    num_steps: how often nodes are attended to; messages pass in between.
    pooling: "mean", "max" or "attention", of the modalities that ask.
    dropout_rate: dropout of the token that comes out.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  target: str
  width: int
  num_steps: int = 3
  pooling: str = "mean"
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
      Tokens [B, 1, width]. Where the target is missing it follows the query.

    Raises:
      ValueError: there is no modality or not the target, shapes do not belong
        together, there is no step, or the pooling is unknown.
    """
    owner = "fusion 'graph_reasoning'"
    check_modalities(tokens, owner)
    target, others = split_target(tokens, self.target, owner)
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    asked, present = ModalityPooling(
      self.width, self.pooling, name="ask", **dtypes
    )(others or {self.target: target})
    present[self.target] = target.mask.any(axis=1)
    graph = DenseGraph(
      nodes=clear_masked(target, self.dtype),
      edges=None,
      globals=None,
      adjacency=target.mask[:, :, None] & target.mask[:, None],
      node_mask=target.mask,
    )
    memory = GraphReasoning(
      self.width, self.num_steps, name="reasoning", **dtypes
    )(graph, sum(asked.values()), train=train)
    memory = Dropout(self.dropout_rate)(memory, deterministic=not train)
    return single_token(memory, present)
