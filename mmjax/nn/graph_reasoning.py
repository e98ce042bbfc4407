r"""Reasoning over a graph in steps, guided by a query.

In each step a control vector, made of the query, of the last control and of
what is known already, attends over the nodes, and a gated memory reads what it
attends to. From the second step on the nodes hear first along the edges, which
the control opens or closes, from neighbours and how much those were attended
to; and edges that fit the control draw attention from there to where they lead.
So attention can walk along edges of one kind in one step and of another kind in
the next.

Hudson and Manning 2018, "Compositional Attention Networks for Machine
Reasoning" (MAC), https://arxiv.org/abs/1803.03067: a fixed number of steps, in
each a control, a read by attention and a memory. Hudson and Manning 2019,
"Learning by Abstraction: The Neural State Machine",
https://arxiv.org/abs/1907.03950: attention that moves along the edges that fit
the instruction. Cho et al. 2014, https://arxiv.org/abs/1406.1078 (GRU); nodes
that are updated by one, as in Li et al. 2016, "Gated Graph Sequence Neural
Networks", https://arxiv.org/abs/1511.05493.

Differs from the papers: the query may be one vector without words, and then the
control is a projection of it for each step; what is known steers the control
through the memory, too; the memory is gated by a GRU, not written by a dense
layer; what nodes know changes from step to step; edges add to the scores of
nodes, where the second paper multiplies probabilities; there is no alphabet of
concepts.
"""

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.dense import Dense
from mmjax.nn.dense_graph import AnyGraph
from mmjax.nn.gated_messages import GatedMessages, GatedUpdate
from mmjax.nn.hard_attention import masked_softmax
from mmjax.nn.message_passing import prepare_edges, sow_ends
from mmjax.nn.tokens import clear_masked


@flax.struct.dataclass
class Walk:
  """What came of some steps over a graph.

  Attributes:
    memory: [B, width], after the last step.
    scores: float32 [B, S, N], whose softmax is the attention of each step; very
      low for absent nodes.
  """

  memory: Array
  scores: Array


class WordReader(nn.Module):
  """Attends over the words of a query by a vector: the next instruction.

  Attributes:
    width: width of the control.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, words: Tokens, wanted: Array) -> tuple[Array, Array]:
    """Reads words [B, T, Q] by what is wanted, [B, width].

    Returns:
      The control [B, width], and the attention, float32 [B, T].
    """
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    values = Dense(self.width, name="word", **dtypes)(
      clear_masked(words, self.dtype)
    )
    scores = Dense(1, use_bias=False, name="score", **dtypes)(
      values * wanted[:, None]
    )
    shares = masked_softmax(scores[..., 0], words.mask)
    read = jnp.einsum("bt,btd->bd", shares.astype(self.dtype), values)
    return read, shares


class NodeReader(nn.Module):
  """Attends over nodes by a control vector, and remembers what it read.

  Attributes:
    width: width of nodes, control and memory.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self,
    nodes: Array,
    mask: Array,
    control: Array,
    memory: Array,
    drawn: Array | None = None,
  ) -> tuple[Array, Array, Array]:
    """Reads once.

    Args:
      nodes: [B, N, width].
      mask: bool [B, N], True = present.
      control: [B, width].
      memory: [B, width].
      drawn: [B, N], added to the scores, or None.

    Returns:
      The new memory [B, width], the attention, float32 [B, N], and the scores
      that it was made of.
    """
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    hidden = Dense(self.width, name="node", **dtypes)(nodes)
    wanted = Dense(self.width, use_bias=False, name="control", **dtypes)(
      control
    )
    scores = Dense(1, use_bias=False, name="score", **dtypes)(
      nn.tanh(hidden + wanted[:, None])
    )[..., 0].astype(jnp.float32)
    if drawn is not None:
      scores = scores + drawn
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    shares = masked_softmax(scores, mask)
    read = jnp.einsum("bn,bnd->bd", shares.astype(self.dtype), nodes)
    memory = GatedUpdate(self.width, name="memory", **dtypes)(
      memory, jnp.concatenate([read, control], axis=-1)
    )
    return memory, shares, scores


class GraphReasoning(nn.Module):
  """Answers a query by a walk of several steps over a graph.

  The steps share their parameters, but for the projection of the query. Sows,
  once a step, `nodes` [B, N], the attention over nodes, and `words` [B, T] if
  there are words; and, between two steps, `gates`, how open each edge is:
  [B, E] for a list, whose ends are sown too, [B, N, N] or [B, K, N, N] for a
  matrix, zero for absent edges.

  Attributes:
    width: width of nodes, control and memory.
    num_steps: how often nodes are attended to; messages pass in between.
    num_types: types of edges, or None to leave types out.
    use_edges: whether anything passes along edges; if not, each step is just
      another look at the nodes.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_steps: int = 4
  num_types: int | None = None
  use_edges: bool = True
  dtype: str = "float32"
  param_dtype: str = "float32"

  def __call__(
    self,
    graph: AnyGraph,
    query: Array,
    *,
    words: Tokens | None = None,
    train: bool,
  ) -> Array:
    """Returns the memory [B, width] of a walk; see `walk`."""
    return self.walk(graph, query, words=words, train=train).memory

  @nn.compact
  def walk(
    self,
    graph: AnyGraph,
    query: Array,
    *,
    words: Tokens | None = None,
    train: bool,
  ) -> Walk:
    """Reasons over a graph.

    Args:
      graph: a graph with nodes [B, N, D]; features of edges are None or one
        array [B, *, De].
      query: [B, Q].
      words: tokens [B, T, Qw] of the query, which each step attends over for
        its control; None makes the control of the query alone.
      train: not used; layers of graphs are called alike.

    Returns:
      The memory after the last step, and where each step looked.

    Raises:
      ValueError: no step, a query that does not fit, edges without the types
        that are asked for, or shapes that do not belong together; or, outside
        of `jax.jit`, an edge has a type of `num_types` or more. Traced types
        cannot be looked at: such edges are left out.
    """
    del train
    values, tokens, edges = prepare_edges(
      graph, None, self.dtype, "graph reasoning"
    )
    self._check(values, query, words)
    sow_ends(self, edges, values.shape[1], values.shape[1])
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    query = query.astype(self.dtype)
    nodes = Dense(self.width, name="node", **dtypes)(values)
    memory = self.param(
      "memory",
      nn.initializers.normal(1.0),
      (self.width,),
      jnp.dtype(self.param_dtype),
    ).astype(self.dtype)
    memory = jnp.broadcast_to(memory, (query.shape[0], self.width))
    known = Dense(self.width, use_bias=False, name="control", **dtypes)
    follow = Dense(self.width, use_bias=False, name="follow", **dtypes)
    read = NodeReader(self.width, name="read", **dtypes)
    look_up = WordReader(self.width, name="look_up", **dtypes)
    hear = GatedMessages(self.width, self.num_types, name="hear", **dtypes)
    control = shares = drawn = None
    all_scores = []
    for number in range(self.num_steps):
      asked = Dense(self.width, name=f"control_{number}", **dtypes)(query)
      asked = asked + known(memory)
      control = nn.tanh(asked + follow(control) if number else asked)
      if words is not None:
        control, looked = look_up(words, control)
        self.sow("intermediates", "words", looked)
      if number and self.use_edges:
        nodes, gates, drawn = hear(nodes, shares, edges, control)
        self.sow("intermediates", "gates", gates)
      memory, shares, scores = read(nodes, tokens.mask, control, memory, drawn)
      self.sow("intermediates", "nodes", shares)
      all_scores.append(scores)
    return Walk(memory, jnp.stack(all_scores, axis=1))

  def _check(self, values: Array, query: Array, words: Tokens | None) -> None:
    """Raises ValueError for what cannot be meant."""
    if self.num_steps < 1:
      raise ValueError(
        f"graph reasoning needs at least one step, got {self.num_steps}"
      )
    if query.ndim != 2 or query.shape[0] != values.shape[0]:
      raise ValueError(
        f"graph reasoning needs a query [{values.shape[0]}, Q], one for each"
        f" graph, got {list(query.shape)}"
      )
    if words is not None and (
      words.values.ndim != 3
      or words.mask.shape != words.values.shape[:2]
      or len(words.values) != len(values)
    ):
      raise ValueError(
        f"graph reasoning needs words [{len(values)}, T, Qw] and a mask"
        f" [{len(values)}, T], got {list(words.values.shape)} and"
        f" {list(words.mask.shape)}"
      )
