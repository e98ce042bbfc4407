r"""Messages through gates that a control vector opens, and attention drawn.

Nodes hear through the gates and are updated by a GRU; and where attention was,
each edge draws it on, by a score, to the node that it enters.

Li et al. 2016, "Gated Graph Sequence Neural Networks",
https://arxiv.org/abs/1511.05493 (nodes updated by a GRU); Hudson and Manning
2019, "Learning by Abstraction: The Neural State Machine",
https://arxiv.org/abs/1907.03950 (edges that fit an instruction carry more).

Differs from the papers: whether an edge carries is a number between 0 and 1 of
its own, made of its ends, features and the control and read off for its type,
so that none or many edges of a node may be open; matrices are shared by all
types of edges.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.nn.dense import Dense
from mmjax.nn.edges import EdgeList, EdgeMatrix
from mmjax.nn.recurrent import gru_step


def weigh_types(edges: EdgeList | EdgeMatrix, values: Array) -> Array:
  """Weighs numbers of edges, and adds up those of all types of a pair.

  Args:
    edges: the edges, with weights.
    values: [B, E], [B, N, N] or [B, K, N, N].

  Returns:
    float32 [B, E] or [B, N, N]; zero for absent edges.
  """
  values = values.astype(jnp.float32)
  if values.ndim == 4:
    return (edges.adjacency * values).sum(axis=1)
  return edges.factors() * values


def pass_gated(
  edges: EdgeList | EdgeMatrix, gates: Array, values: Array
) -> Array:
  r"""Sums what neighbours send through the gates of the edges.

  .. math:: m_r = \sum_s w_{rs} g_{rs} v_s \, / \, \sqrt{1 + \sum_s w_{rs}}

  The root keeps messages to nodes with many edges in bounds, and lets one open
  edge among many be heard.

  Args:
    edges: the edges, with weights w.
    gates: between 0 and 1, [B, E], [B, N, N] or [B, K, N, N].
    values: [B, N, D].

  Returns:
    [B, N, D]; zeros for nodes that no edge enters.
  """
  num_nodes = values.shape[1]
  count = edges.sum_entering(edges.factors(), num_nodes)
  shares = weigh_types(edges, gates)[..., None]
  out = edges.collect(shares, values[:, :, None], num_nodes)
  return out[:, :, 0] / jnp.sqrt(1.0 + count)[..., None].astype(values.dtype)


def draw_attention(
  edges: EdgeList | EdgeMatrix, scores: Array, attention: Array
) -> Array:
  r"""Sums the scores of edges that leave where attention is.

  .. math:: d_r = \sum_s w_{rs} e_{rs} a_s

  Args:
    edges: the edges, with weights w.
    scores: [B, E], [B, N, N] or [B, K, N, N].
    attention: [B, N].

  Returns:
    float32 [B, N], at the nodes that edges enter.
  """
  shares = weigh_types(edges, scores)[..., None]
  attention = attention.astype(jnp.float32)[..., None, None]
  return edges.collect(shares, attention, attention.shape[1])[:, :, 0, 0]


class GatedUpdate(nn.Module):
  """A GRU that is fed by hand, step by step.

  Attributes:
    width: width of the state.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, state: Array, inputs: Array) -> Array:
    """Updates a state [..., width] by inputs [..., D]."""
    param_dtype = jnp.dtype(self.param_dtype)
    projected = Dense(
      3 * self.width,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="input",
    )(inputs)
    kernel = self.param(
      "kernel",
      nn.initializers.lecun_normal(),
      (self.width, 3 * self.width),
      param_dtype,
    ).astype(self.dtype)
    bias = self.param(
      "bias", nn.initializers.zeros, (self.width,), param_dtype
    ).astype(self.dtype)
    rows, _ = gru_step(
      state.reshape(-1, self.width),
      projected.reshape(-1, 3 * self.width),
      kernel,
      bias,
    )
    return rows.reshape(state.shape)


class GatedMessages(nn.Module):
  """One round: nodes hear neighbours, and attention is drawn along edges.

  Attributes:
    width: width of nodes and control.
    num_types: types of edges, or None to leave types out.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_types: int | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self,
    nodes: Array,
    attention: Array,
    edges: EdgeList | EdgeMatrix,
    control: Array,
  ) -> tuple[Array, Array, Array]:
    """Passes messages once.

    Args:
      nodes: [B, N, width].
      attention: [B, N], how much each node was attended to.
      edges: the edges among them, masked at absent nodes.
      control: [B, width].

    Returns:
      The new nodes [B, N, width]; the gates, zero for absent edges: [B, E],
      or [B, N, N] for a matrix, [B, K, N, N] with K types; and how much the
      edges draw attention to each node, float32 [B, N].

    Raises:
      ValueError: the edges do not have the types that are asked for, or,
        outside of `jax.jit`, one of `num_types` or more. Traced types cannot be
        looked at: such edges are left out.
    """
    self._check(edges)
    if self.num_types is not None and isinstance(edges, EdgeList):
      edges = edges.keep_types(self.num_types)
    opening = edges.at_senders(self._dense(nodes, "sender", use_bias=False))
    opening = opening + edges.at_receivers(self._dense(nodes, "receiver"))
    opening = opening + edges.at_all(
      self._dense(control, "control", use_bias=False)
    )
    if edges.features is not None:
      features = edges.features.astype(self.dtype)
      opening = opening + self._dense(features, "edge", use_bias=False)
    hidden = nn.tanh(opening)
    gates, there = self._read(hidden, edges, "gate", use_bias=True)
    gates = jnp.where(there, nn.sigmoid(gates), 0)
    wanted = edges.at_all(self._dense(control, "wanted"))
    draws, _ = self._read(hidden * wanted, edges, "draw", use_bias=False)
    drawn = draw_attention(edges, jnp.where(there, draws, 0), attention)
    sent = self._dense(nodes, "send", use_bias=False)
    walked = self._dense(nodes, "walk", use_bias=False)
    sent = sent + attention[..., None].astype(self.dtype) * walked
    nodes = GatedUpdate(
      self.width, dtype=self.dtype, param_dtype=self.param_dtype, name="update"
    )(nodes, pass_gated(edges, gates, sent))
    return nodes, gates, drawn

  def _read(
    self,
    hidden: Array,
    edges: EdgeList | EdgeMatrix,
    name: str,
    *,
    use_bias: bool,
  ) -> tuple[Array, Array]:
    """Reads a number of each edge, of its type; tells which edges there are."""
    numbers = Dense(
      self.num_types or 1,
      use_bias=use_bias,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name=name,
    )(hidden)
    if self.num_types is None:
      return numbers[..., 0], edges.factors() > 0
    if isinstance(edges, EdgeList):
      own = jnp.take_along_axis(numbers, edges.types[..., None], axis=-1)
      return own[..., 0], edges.factors() > 0
    return jnp.moveaxis(numbers, -1, 1), edges.adjacency > 0

  def _dense(self, inputs: Array, name: str, *, use_bias: bool = True) -> Array:
    return Dense(
      self.width,
      use_bias=use_bias,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name=name,
    )(inputs)

  def _check(self, edges: EdgeList | EdgeMatrix) -> None:
    """Raises ValueError unless the edges have the types that are read."""
    if self.num_types is None:
      return
    if isinstance(edges, EdgeList):
      if edges.types is None:
        raise ValueError(
          f"messages with num_types={self.num_types} need edges with types,"
          " got a list without; set the graph's types"
        )
    elif edges.adjacency.ndim != 4 or (
      edges.adjacency.shape[1] != self.num_types
    ):
      raise ValueError(
        f"messages with num_types={self.num_types} need an adjacency [B,"
        f" {self.num_types}, N, N], got {list(edges.adjacency.shape)}; give"
        " num_types to to_dense"
      )
