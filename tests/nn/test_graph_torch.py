"""Graph layers beside torch_geometric: copied weights, outputs, gradients."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import random_variables

from mmjax.array_types import Tokens
from mmjax.nn.dense_graph import to_dense
from mmjax.nn.edges import EdgeList
from mmjax.nn.graph import make_graph
from mmjax.nn.graph_attention import DynamicGraphAttention, GraphAttention
from mmjax.nn.graph_convolution import GraphConvolution
from mmjax.nn.relational_graph import RelationalGraphConvolution

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # it uses parts of torch that are to go
  geometric = pytest.importorskip("torch_geometric.nn")

pytestmark = pytest.mark.usefixtures("fast_compilation")

N, E, D, F, K, H = 7, 19, 5, 3, 4, 2
RNG = np.random.default_rng(0)
NODES = RNG.normal(size=(N, D)).astype(np.float32)
RECEIVERS = RNG.normal(size=(3, 6)).astype(np.float32)
FEATURES = RNG.normal(size=(E, F)).astype(np.float32)
WEIGHTS = (0.5 + RNG.random(E)).astype(np.float32)
TYPES = RNG.integers(0, K, E)
PAIRS = RNG.permutation(N * N)
PAIRS = PAIRS[PAIRS % N != PAIRS // N][:E]
ENDS = np.stack([PAIRS % N, PAIRS // N])


def _set(layer, **arrays):
  """Copies arrays to the parameters of these names, and nothing else."""
  parameters = dict(layer.named_parameters())
  assert set(arrays) == set(parameters)
  for name, array in arrays.items():
    parameters[name].data = torch.tensor(np.array(array)).reshape(
      parameters[name].shape
    )
  return layer


def _gcn(p):
  layer = geometric.GCNConv(D, 6)
  return _set(layer, **{"lin.weight": p["node"]["kernel"].T, "bias": p["bias"]})


def _gat(p, **options):
  layer = geometric.GATConv(D, 3, heads=H, fill_value=0.0, **options)
  arrays = {
    "lin.weight": p["node"]["kernel"].T,
    "att_src": p["sender_score"],
    "att_dst": p["receiver_score"],
    "bias": p["bias"],
  }
  if "edge" in p:
    arrays["lin_edge.weight"] = p["edge"]["kernel"].T
    arrays["att_edge"] = p["edge_score"]
  return _set(layer, **arrays)


def _gatv2(p, features=D, **options):
  layer = geometric.GATv2Conv(features, 3, heads=H, fill_value=0.0, **options)
  arrays = {
    "lin_l.weight": p["sender"]["kernel"].T,
    "lin_l.bias": np.zeros(3 * H, np.float32),  # ours has none
    "lin_r.weight": p["receiver"]["kernel"].T,
    "lin_r.bias": p["receiver"]["bias"],
    "att": p["score"],
    "bias": p["bias"],
  }
  if "edge" in p:
    arrays["lin_edge.weight"] = p["edge"]["kernel"].T
  return _set(layer, **arrays)


def _rgcn(p, num_bases=None):
  layer = geometric.RGCNConv(D, 6, K, num_bases=num_bases)
  arrays = {
    "weight": p["bases"],
    "root": p["self"]["kernel"],
    "bias": p["self"]["bias"],
  }
  if num_bases:
    arrays["comp"] = p["mixture"]
  return _set(layer, **arrays)


# name: ours, theirs, what their edges have, and what ours have
CASES = {
  "gcn": (GraphConvolution(6), _gcn, {}, {}),
  "gcn_weights": (
    GraphConvolution(6),
    _gcn,
    {"edge_weight": WEIGHTS},
    {"weights": WEIGHTS},
  ),
  "gat": (GraphAttention(6, H), _gat, {}, {}),
  "gat_mean_edges": (
    GraphAttention(3, H, merge="mean"),
    lambda p: _gat(p, edge_dim=F, concat=False),
    {"edge_attr": FEATURES},
    {"features": FEATURES},
  ),
  "gatv2": (
    DynamicGraphAttention(6, H, self_loops=False),
    lambda p: _gatv2(p, add_self_loops=False),
    {},
    {},
  ),
  "gatv2_mean_edges": (
    DynamicGraphAttention(3, H, merge="mean"),
    lambda p: _gatv2(p, edge_dim=F, concat=False),
    {"edge_attr": FEATURES},
    {"features": FEATURES},
  ),
  "rgcn": (
    RelationalGraphConvolution(6, K),
    _rgcn,
    {"edge_type": TYPES},
    {"types": TYPES},
  ),
  "rgcn_bases": (
    RelationalGraphConvolution(6, K, num_bases=2),
    lambda p: _rgcn(p, 2),
    {"edge_type": TYPES},
    {"types": TYPES},
  ),
}


def _graph(ends=ENDS, **arrays):
  arrays = {name: jnp.asarray(array)[None] for name, array in arrays.items()}
  senders, receivers = jnp.asarray(ends, jnp.int32)[:, None]
  there = jnp.ones(senders.shape, bool)
  edges = EdgeList(senders, receivers, there, **arrays)
  return make_graph(
    Tokens(jnp.asarray(NODES)[None], jnp.ones((1, N), bool)), edges
  )


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_agree_with_torch_geometric(name):
  module, make_theirs, theirs, ours = CASES[name]
  graph = _graph(**ours)
  params = random_variables(module.init, graph, train=False)["params"]
  layer = make_theirs(params)
  nodes = torch.tensor(NODES, requires_grad=True)
  expected = layer(
    nodes,
    torch.tensor(ENDS),
    **{key: torch.tensor(array) for key, array in theirs.items()},
  )
  weights = RNG.normal(size=expected.shape).astype(np.float32)
  (expected * torch.tensor(weights)).sum().backward()

  @jax.jit
  @jax.value_and_grad
  def compute(given, graph):
    params, nodes = given
    out = module.apply(
      {"params": params}, graph.replace(nodes=nodes[None]), train=False
    )
    return (out[0] * weights).sum()

  dense = to_dense(graph, num_types=K if "types" in ours else None)
  their_grads = make_theirs(params)  # a layer whose "parameters" are gradients
  for mine, other in zip(
    their_grads.parameters(), layer.parameters(), strict=True
  ):
    mine.data = other.grad
  for form in (graph, dense):
    out = module.apply({"params": params}, form, train=False)[0]
    np.testing.assert_allclose(out, expected.detach().numpy(), atol=1e-5)
    _, (grads, node_grad) = compute((params, NODES), form)
    np.testing.assert_allclose(node_grad, nodes.grad.numpy(), atol=2e-5)
    copied = dict(make_theirs(grads).named_parameters())
    for key, grad in their_grads.named_parameters():
      if key != "lin_l.bias":  # ours has none
        np.testing.assert_allclose(
          copied[key].detach().numpy(), grad.detach().numpy(), atol=5e-5
        )


def test_attention_between_two_sets_agrees_with_torch_geometric():
  ends = np.array([[0, 1, 2, 3, 6, 6, 1], [0, 0, 0, 1, 1, 0, 1]])
  graph = _graph(ends)
  receivers = Tokens(jnp.asarray(RECEIVERS)[None], jnp.ones((1, 3), bool))
  module = DynamicGraphAttention(6, H)
  params = random_variables(module.init, graph, receivers, train=False)[
    "params"
  ]
  out = module.apply({"params": params}, graph, receivers, train=False)
  layer = _gatv2(params, features=(D, 6), add_self_loops=False)
  expected = layer(
    (torch.tensor(NODES), torch.tensor(RECEIVERS)), torch.tensor(ends)
  )
  np.testing.assert_allclose(out[0], expected.detach().numpy(), atol=1e-5)
