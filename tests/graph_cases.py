"""Random graphs, and the graph layers, for the tests of both.

Importable from every test: pytest puts the folder of `conftest.py` on the path.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from module_checks import random_variables

from mmjax.nn.dense_graph import to_dense
from mmjax.nn.graph import Graph
from mmjax.nn.graph_attention import DynamicGraphAttention, GraphAttention
from mmjax.nn.graph_convolution import GraphConvolution
from mmjax.nn.graph_dot_attention import DotGraphAttention
from mmjax.nn.graph_reasoning import GraphReasoning
from mmjax.nn.relational_graph import RelationalGraphConvolution

B, N, E, D, F, K = 3, 5, 11, 4, 2, 3
ISOLATED = (0, 2)  # example and node that no edge touches


def make_graph(*, features=True, types=True, weights=True):
  """A graph without two edges between the same nodes; some are masked."""
  rng = np.random.default_rng(5)
  ends = np.stack([rng.permutation(N * N)[:E] for _ in range(B)])
  senders, receivers = ends % N, ends // N
  node_mask = np.ones((B, N), bool)
  node_mask[1, 3] = False
  node_mask[2, 1:] = False
  edge_mask = rng.random((B, E)) < 0.8
  b, i = ISOLATED
  edge_mask[b] &= (senders[b] != i) & (receivers[b] != i)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  nodes, edges = normal(B, N, D), normal(B, E, F)
  counts = jnp.asarray(0.5 + rng.random((B, E)), jnp.float32)
  kinds = jnp.asarray(rng.integers(0, K, (B, E)), jnp.int32)
  return Graph(
    nodes=nodes,
    edges=edges if features else None,
    globals=None,
    senders=jnp.asarray(senders, jnp.int32),
    receivers=jnp.asarray(receivers, jnp.int32),
    node_mask=jnp.asarray(node_mask),
    edge_mask=jnp.asarray(edge_mask),
    weights=counts if weights else None,
    types=kinds if types else None,
  )


@dataclasses.dataclass(frozen=True)
class Case:
  """A layer, what its edges have, and how many parameters it has."""

  module: Any
  parameters: int
  features: bool = False
  types: bool = False
  weights: bool = True
  query: bool = False
  sown: tuple[str, ...] = ()

  def graph(self):
    return make_graph(
      features=self.features, types=self.types, weights=self.weights
    )

  def dense(self, graph):
    return to_dense(graph, num_types=K if self.types else None)

  def arguments(self, graph):
    rows = graph.node_mask.shape[0]
    return (graph, QUERY[:rows]) if self.query else (graph,)


QUERY = jnp.asarray(np.random.default_rng(3).normal(size=(B, 3)), jnp.float32)
GRU = 3 * 7 + 3 * 49 + 7  # biases of the inputs, kernel and bias of the state

CASES = {
  "gcn": Case(GraphConvolution(7), 4 * 7 + 7, sown=("edge_weights",)),
  "gat": Case(
    GraphAttention(6, num_heads=3), 4 * 6 + 2 * 6 + 6, sown=("attention",)
  ),
  "gat_mean": Case(
    GraphAttention(6, num_heads=3, merge="mean", self_loops=False),
    4 * 18 + 2 * 18 + (2 * 18 + 18) + 6,
    features=True,
    sown=("attention",),
  ),
  "gatv2": Case(
    DynamicGraphAttention(6, num_heads=3),
    4 * 6 + (4 * 6 + 6) + 2 * 6 + 6 + 6,
    features=True,
    sown=("attention",),
  ),
  "gatv2_mean": Case(
    DynamicGraphAttention(5, num_heads=3, merge="mean", self_loops=False),
    4 * 15 + (4 * 15 + 15) + 15 + 5,
    weights=False,
    sown=("attention",),
  ),
  "dot": Case(
    DotGraphAttention(6, num_heads=3),
    3 * 4 * 6 + 6 + 2 * 6 + 6,
    features=True,
    sown=("attention",),
  ),
  "dot_mean": Case(
    DotGraphAttention(5, num_heads=3, merge="mean", self_loops=False),
    3 * 4 * 15 + 15 + 5,
    weights=False,
    sown=("attention",),
  ),
  "rgcn": Case(
    RelationalGraphConvolution(7, K), K * 4 * 7 + 4 * 7 + 7, types=True
  ),
  "rgcn_bases": Case(
    RelationalGraphConvolution(7, K, num_bases=2),
    2 * 4 * 7 + 2 * K + 4 * 7 + 7,
    types=True,
  ),
  "reasoning": Case(
    GraphReasoning(7, num_steps=3, num_types=K),
    (4 * 7 + 7)  # nodes
    + 7  # first memory
    + 3 * (3 * 7 + 7)  # the query in each step
    + 2 * 49  # control from memory, and from the last control
    + (49 + 7 + 49 + 7)  # scores of nodes
    + (14 * 21 + GRU)  # memory from what was read and control
    + (4 * 7 + 49 + 49 + 49 - 28 + 7 + 2 * 7)  # gates: ends, control, features
    + (K * 7 + K)
    + (49 + 7)
    + K * 7  # how edges draw attention
    + 2 * 49  # send and walk
    + (7 * 21 + GRU),
    features=True,
    types=True,
    query=True,
  ),
  "reasoning_plain": Case(
    GraphReasoning(7, num_steps=2),
    (4 * 7 + 7)
    + 7
    + 2 * (3 * 7 + 7)
    + 2 * 49
    + (49 + 7 + 49 + 7)
    + (14 * 21 + GRU)
    + (3 * 49 + 7 + 7 + 1)
    + (49 + 7)
    + 7
    + 2 * 49
    + (7 * 21 + GRU),
    weights=False,
    query=True,
  ),
}


@functools.cache
def make_variables(name):
  """Random parameters of a case."""
  case = CASES[name]
  return random_variables(
    case.module.init, *case.arguments(case.graph()), train=False
  )


@functools.cache
def _compiled(name):
  case = CASES[name]

  @jax.jit
  def run(variables, *arguments):
    return case.module.apply(
      variables, *arguments, train=False, mutable=["intermediates"]
    )

  return run


def run(name, graph, variables=None):
  """Applies the layer of a case: its result, and what it sows."""
  if variables is None:
    variables = make_variables(name)
  out, state = _compiled(name)(variables, *CASES[name].arguments(graph))
  return out, state.get("intermediates", {})
