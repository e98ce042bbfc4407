"""Layers between two sets of nodes, their dropout, and how XLA takes them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import random_variables

from mmjax.array_types import Tokens
from mmjax.nn.dense_graph import list_to_matrix, make_dense_graph
from mmjax.nn.edges import EdgeList, EdgeMatrix
from mmjax.nn.graph import make_graph
from mmjax.nn.graph_attention import DynamicGraphAttention, GraphAttention
from mmjax.nn.graph_convolution import GraphConvolution
from mmjax.nn.graph_dot_attention import DotGraphAttention

pytestmark = pytest.mark.usefixtures("fast_compilation")

LAYERS = {
  "gcn": GraphConvolution(6),
  "gat": GraphAttention(6, num_heads=2),
  "gatv2": DynamicGraphAttention(6, num_heads=2),
  "dot": DotGraphAttention(6, num_heads=2),
}
SENDER_MASK = np.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 1]], bool)
RECEIVER_MASK = np.array([[1, 1, 1], [1, 0, 1]], bool)


def make_parts():
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  # No pair comes twice: its two edges would share no features in a matrix.
  pairs = np.stack([rng.permutation(15)[:9] for _ in range(2)])
  edges = EdgeList(
    senders=jnp.asarray(pairs // 3),
    receivers=jnp.asarray(pairs % 3),
    mask=jnp.asarray(rng.random((2, 9)) < 0.8),
    weights=jnp.asarray(rng.uniform(0.5, 2.0, (2, 9)), jnp.float32),
  )
  senders = Tokens(draw(2, 5, 4), jnp.asarray(SENDER_MASK))
  receivers = Tokens(draw(2, 3, 7), jnp.asarray(RECEIVER_MASK))
  return senders, edges, receivers


SENDERS, EDGES, RECEIVERS = make_parts()


def list_edges(b):
  """Sender, receiver and weight of each edge that counts."""
  return [
    (s, r, float(EDGES.weights[b, e]))
    for e in range(9)
    if EDGES.mask[b, e]
    and SENDER_MASK[b, s := int(EDGES.senders[b, e])]
    and RECEIVER_MASK[b, r := int(EDGES.receivers[b, e])]
  ]


def leaky(values):
  return np.where(values > 0, values, 0.2 * values)


def heads(values):
  return values.reshape(2, 3)


def score(name, params, sender, receiver):
  """Scores of both heads."""
  if name == "gat":
    sent = heads(sender @ params["node"]["kernel"])
    received = heads(receiver @ params["receiver"]["kernel"])
    both = (sent * params["sender_score"]).sum(axis=-1)
    return leaky(both + (received * params["receiver_score"]).sum(axis=-1))
  if name == "gatv2":
    hidden = sender @ params["sender"]["kernel"]
    hidden = hidden + receiver @ params["receiver"]["kernel"]
    hidden = leaky(heads(hidden + params["receiver"]["bias"]))
    return (hidden * params["score"]).sum(axis=-1)
  query = receiver @ params["query"]["kernel"] + params["query"]["bias"]
  key = sender @ params["key"]["kernel"]
  return (heads(query) * heads(key)).sum(axis=-1) / np.sqrt(3)


def compute_by_loops(name, params):
  out = np.zeros((2, 3, 6))
  value = {"gcn": "node", "gat": "node", "gatv2": "sender", "dot": "value"}
  for b in range(2):
    edges = list_edges(b)
    for r in np.flatnonzero(RECEIVER_MASK[b]):
      entering = [(s, weight) for s, to, weight in edges if to == r]
      ends = [np.asarray(SENDERS.values[b, s]) for s, _ in entering]
      sent = [end @ params[value[name]]["kernel"] for end in ends]
      if name == "gcn":
        degree = sum(weight for _, weight in entering)
        for (s, weight), values in zip(entering, sent, strict=True):
          leaving = sum(w for other, _, w in edges if other == s)
          out[b, r] += weight / np.sqrt(degree * leaving) * values
      elif entering:
        receiver = np.asarray(RECEIVERS.values[b, r])
        powers = np.array(
          [
            weight * np.exp(score(name, params, end, receiver))
            for (_, weight), end in zip(entering, ends, strict=True)
          ]
        )
        shares = powers / powers.sum(axis=0)
        found = np.einsum("eh,ehd->hd", shares, [heads(v) for v in sent])
        out[b, r] = found.reshape(-1)
      out[b, r] += params["bias"]
  return out


@pytest.mark.parametrize("form", ["list", "matrix"])
@pytest.mark.parametrize("name", LAYERS)
def test_equals_loops(name, form):
  graph = make_graph(SENDERS, EDGES)
  if form == "matrix":
    matrix = list_to_matrix(EDGES.restrict(SENDERS.mask, RECEIVERS.mask), 5, 3)
    graph = make_dense_graph(SENDERS, matrix)
  module = LAYERS[name]
  variables = random_variables(
    functools.partial(module.init, train=False), graph, RECEIVERS
  )
  out = jax.jit(functools.partial(module.apply, train=False))(
    variables, graph, RECEIVERS
  )
  params = jax.tree.map(np.asarray, variables["params"])
  np.testing.assert_allclose(out, compute_by_loops(name, params), atol=2e-5)


@pytest.mark.parametrize("name", ["gat", "gatv2", "dot"])
def test_dropout_leaves_out_shares_and_keeps_their_mean(name):
  graph = make_graph(SENDERS, EDGES)
  module = LAYERS[name].clone(dropout_rate=0.4)
  variables = random_variables(
    functools.partial(module.init, train=False), graph, RECEIVERS
  )

  @jax.jit
  @jax.vmap
  def drop(key):
    return module.apply(
      variables, graph, RECEIVERS, train=True, rngs={"dropout": key}
    )

  number = 2_000
  found = np.asarray(drop(jax.random.split(jax.random.key(0), number)))
  whole = module.apply(variables, graph, RECEIVERS, train=False)
  spread = found.std(axis=0)
  heard = np.zeros((2, 3), bool)
  for b in range(2):
    heard[b, [r for _, r, _ in list_edges(b)]] = True
  assert (spread[heard] > 0).all()
  assert not spread[~heard].any()
  error = np.abs(found.mean(axis=0) - whole)
  assert (error <= 5 * spread / np.sqrt(number) + 1e-6).all()


@pytest.fixture
def optimised():
  """Programs are optimised, as those of most tests are not."""
  before = jax.config.values["jax_disable_most_optimizations"]
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize("cls", [DotGraphAttention, DynamicGraphAttention])
@pytest.mark.parametrize(
  ("num_heads", "width", "num_nodes"), [(2, 16, 16), (4, 32, 12)]
)
def test_one_large_graph_is_compiled_rightly(
  optimised, cls, num_heads, width, num_nodes
):
  """jaxlib 0.10.2 makes another number of a plain sum of products here."""
  rng = np.random.default_rng(0)
  graph = make_dense_graph(
    Tokens(
      jnp.asarray(rng.normal(size=(1, num_nodes, 6)), jnp.float32),
      jnp.ones((1, num_nodes), bool),
    ),
    EdgeMatrix(jnp.ones((1, num_nodes, num_nodes), bool)),
  )
  module = cls(width, num_heads)
  variables = random_variables(
    functools.partial(module.init, train=False), graph
  )
  compiled = jax.jit(functools.partial(module.apply, train=False))
  with jax.disable_jit():
    step_by_step = module.apply(variables, graph, train=False)
  np.testing.assert_allclose(
    compiled(variables, graph), step_by_step, atol=1e-5
  )
