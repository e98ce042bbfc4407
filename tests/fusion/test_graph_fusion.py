"""The graph fusion against the same network over a list of edges."""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Tokens
from mmjax.fusion.graph import GraphFusion
from mmjax.nn.graph import Graph
from mmjax.nn.graph_network import aggregate_attention, graph_network
from mmjax.nn.typed_graph import update_edges

SIZES = {"image": 5, "text": 3}
WIDTH, HEADS = 6, 3


def _norm(x, params):
  x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(
    x.var(-1, keepdims=True) + 1e-6
  )
  return x * params["scale"] + params["bias"]


def _by_type(values):
  return jnp.split(values, [SIZES["image"]], axis=1)


def _network_over_a_list_of_edges(params, tokens):
  """The whole fusion, written again: each edge has a row of its own."""
  types = np.repeat([0, 1], [SIZES["image"], SIZES["text"]])
  names = list(SIZES)
  number = len(types)
  senders, receivers = (
    x.ravel() for x in np.meshgrid(range(number), range(number))
  )
  batch = tokens["text"].mask.shape[0]
  masks = [tokens[m].mask for m in names]
  nodes = jnp.concatenate(
    [
      jnp.where(tokens[m].mask[..., None], tokens[m].values, 0)
      @ params[m]["kernel"]
      + params[m]["bias"]
      for m in names
    ],
    axis=1,
  )
  graph = Graph(
    nodes=nodes,
    edges={"score": jnp.zeros((batch, number**2, HEADS))},
    globals=jnp.zeros((batch, WIDTH)),
    senders=jnp.broadcast_to(senders, (batch, number**2)),
    receivers=jnp.broadcast_to(receivers, (batch, number**2)),
    node_mask=jnp.concatenate(masks, axis=1),
    edge_mask=jnp.ones((batch, number**2), bool),
  )
  for round_number in range(2):
    p = params[f"round_{round_number}"]

    def stack(pattern, p=p):
      """The kernel of each edge: of its type, out of four."""
      kernels = jnp.array(
        [[p[pattern.format(r, s)]["kernel"] for s in names] for r in names]
      )
      return kernels[types[receivers], types[senders]]

    gains = jnp.array(
      [
        [
          p[f"{r}_over_{s}_gain"] if round_number else jnp.zeros(HEADS)
          for s in names
        ]
        for r in names
      ]
    )[types[receivers], types[senders]]

    def norm_ends(values, ends, p=p):
      each = [_norm(values, p[f"{name}_edge_norm"]) for name in names]
      return jnp.where((types[ends] == 0)[:, None], *each)

    def update_edge(
      edges, sent, received, _, stack=stack, gains=gains, norm_ends=norm_ends
    ):
      def project(values, kernels):
        out = jnp.einsum("bed,edf->bef", values, kernels)
        return out.reshape(*out.shape[:2], HEADS, -1)

      sent, received = norm_ends(sent, senders), norm_ends(received, receivers)
      query = project(received, stack("{0}_query"))
      key = project(sent, stack("{0}_over_{1}_key"))
      value = project(sent, stack("{0}_over_{1}_value"))
      score = gains * edges["score"] + (query * key).sum(-1) / jnp.sqrt(2)
      return {"score": score, "value": value}

    def update_node(nodes, incoming, shared, p=p):
      new = []
      for name, x, message in zip(
        names, _by_type(nodes), _by_type(incoming), strict=True
      ):
        message = message.reshape(x.shape)
        x = x + message @ p[f"{name}_from_edges"]["kernel"]
        x = x + (
          _norm(shared, p["global_norm"]) @ p[f"{name}_from_global"]["kernel"]
        )
        mlp = p[f"{name}_mlp"]
        h = _norm(x, p[f"{name}_mlp_norm"]) @ mlp["hidden"]["kernel"]
        h = jax.nn.relu(h + mlp["hidden"]["bias"])
        new.append(x + h @ mlp["out"]["kernel"] + mlp["out"]["bias"])
      return jnp.concatenate(new, axis=1)

    context = graph.globals
    for name, x, mask in zip(names, _by_type(graph.nodes), masks, strict=True):
      x = _norm(x, p[f"{name}_edge_norm"]) * mask[..., None]
      mean = x.sum(1) / jnp.maximum(mask.sum(1), 1)[:, None]
      context = context + mean @ p[f"global_from_{name}"]["kernel"]
    block = graph_network(
      update_edge, update_node, aggregate=aggregate_attention
    )
    graph = block(graph.replace(globals=context))
  return jnp.concatenate(
    [
      _norm(x, params[f"{name}_norm"])
      for name, x in zip(names, _by_type(graph.nodes), strict=True)
    ],
    axis=1,
  )


def test_fusion_equals_the_network_over_a_list_of_edges():
  rng = np.random.default_rng(0)
  tokens = {
    m: Tokens(
      jnp.asarray(rng.normal(size=(2, n, 7)), jnp.float32),
      jnp.arange(n) < jnp.array([[n], [n - 1]]),
    )
    for m, n in SIZES.items()
  }
  module = GraphFusion(WIDTH, num_heads=HEADS, mlp_dim=11)
  params = jax.jit(lambda key: module.init(key, tokens, train=False)["params"])(
    jax.random.key(0)
  )
  params = jax.tree.map(
    lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), params
  )
  out = jax.jit(lambda p: module.apply({"params": p}, tokens, train=False))(
    params
  )
  expected = jax.jit(_network_over_a_list_of_edges)(params, tokens)
  mask = np.asarray(out.mask)
  np.testing.assert_allclose(out.values[mask], expected[mask], atol=2e-5)


def test_edges_live_on_through_the_rounds():
  query = jnp.array([[[[1.0, 2.0, 0.0, 0.0]]]])
  key = jnp.array([[[[3.0, -1.0, 5.0, 0.0]], [[2.0, 2.0, 0.0, 0.0]]]])
  first = update_edges(None, None, query, key)
  np.testing.assert_allclose(first, [[[[0.5, 3.0]]]], atol=1e-6)
  gain = jnp.array([[0.5, 2.0]])
  second = update_edges(first, gain, query, key)
  np.testing.assert_allclose(second, [[[[0.75, 9.0]]]], atol=1e-6)


def test_round_uses_the_edges_of_the_round_before():
  """Without its gains the second round gives another answer."""
  tokens = {
    m: Tokens(
      jax.random.normal(jax.random.key(n), (2, n, WIDTH)),
      jnp.ones((2, n), bool),
    )
    for m, n in SIZES.items()
  }
  module = GraphFusion(WIDTH, num_heads=HEADS, mlp_dim=11)
  params = jax.jit(lambda key: module.init(key, tokens, train=False)["params"])(
    jax.random.key(0)
  )
  assert not any("gain" in name for name in params["round_0"])
  cut = jax.tree_util.tree_map_with_path(
    lambda path, x: 0 * x if "gain" in jax.tree_util.keystr(path) else x,
    params,
  )
  apply_fn = jax.jit(lambda p: module.apply({"params": p}, tokens, train=False))
  out, other = apply_fn(params), apply_fn(cut)
  assert np.abs(out.values - other.values).max() > 1e-3
