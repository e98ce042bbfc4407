"""Graph layers against loops over nodes and edges, in float64."""

import graph_cases
import jax
import numpy as np
import pytest
from graph_cases import CASES, QUERY, B, E, K, N

pytestmark = pytest.mark.usefixtures("fast_compilation")


def _arrays(name):
  """The graph of a case and its parameters, in float64."""
  graph = CASES[name].graph()
  as_double = lambda x: np.asarray(x, np.float64)  # noqa: E731
  params = jax.tree.map(as_double, graph_cases.make_variables(name)["params"])
  return jax.tree.map(np.asarray, graph), params


def _edges_of(graph, b, loops):
  """(sender, receiver, weight, features, type) of the edges that are there."""
  found = []
  for e in range(E):
    s, r = int(graph.senders[b, e]), int(graph.receivers[b, e])
    there = graph.edge_mask[b, e] and graph.node_mask[b, [s, r]].all()
    if not there or (loops and s == r):
      continue
    weight = 1.0 if graph.weights is None else float(graph.weights[b, e])
    features = None if graph.edges is None else graph.edges[b, e]
    kind = None if graph.types is None else int(graph.types[b, e])
    found.append((s, r, weight, features, kind))
  if loops:
    zeros = None if graph.edges is None else np.zeros(graph.edges.shape[-1])
    for i in range(N):
      if graph.node_mask[b, i]:
        found.append((i, i, 1.0, zeros, 0))
  return found


def _present(graph):
  return [(b, i) for b in range(B) for i in range(N) if graph.node_mask[b, i]]


def _gcn(graph, params):
  out = np.zeros((B, N, 7))
  for b, r in _present(graph):
    edges = _edges_of(graph, b, True)
    degree = lambda i: sum(w for _, to, w, *_ in edges if to == i)  # noqa: B023, E731
    for s, to, weight, *_ in edges:
      if to == r:
        sent = graph.nodes[b, s] @ params["node"]["kernel"]
        out[b, r] += weight * sent / np.sqrt(degree(r) * degree(s))
    out[b, r] += params["bias"]
  return out


def _leaky(x):
  return np.where(x > 0, x, 0.2 * x)


def _attention(graph, params, layer, score_fn, value_name):
  heads = layer.num_heads
  merged = layer.merge == "mean"
  d = layer.width if merged else layer.width // heads
  out = np.zeros((B, N, layer.width))
  for b, r in _present(graph):
    edges = [
      edge for edge in _edges_of(graph, b, layer.self_loops) if edge[1] == r
    ]
    powers, values = [], []
    for s, _, weight, features, _ in edges:
      ends = graph.nodes[b, s], graph.nodes[b, r]
      powers.append(weight * np.exp(score_fn(params, *ends, features, heads)))
      kernel = params[value_name]["kernel"]
      values.append((ends[0] @ kernel).reshape(heads, d))
    if edges:
      shares = np.array(powers) / np.sum(powers, axis=0)
      result = np.einsum("eh,ehd->hd", shares, np.array(values))
      out[b, r] = result.mean(axis=0) if merged else result.reshape(-1)
    out[b, r] += params["bias"]
  return out


def _score_gat(params, sender, receiver, features, heads):
  def side(inputs, kernel, vector):
    return ((inputs @ kernel).reshape(heads, -1) * vector).sum(axis=-1)

  kernel = params["node"]["kernel"]
  score = side(sender, kernel, params["sender_score"])
  score = score + side(receiver, kernel, params["receiver_score"])
  if features is not None:
    score = score + side(
      features, params["edge"]["kernel"], params["edge_score"]
    )
  return _leaky(score)


def _score_gatv2(params, sender, receiver, features, heads):
  hidden = sender @ params["sender"]["kernel"]
  hidden = hidden + receiver @ params["receiver"]["kernel"]
  hidden = hidden + params["receiver"]["bias"]
  if features is not None:
    hidden = hidden + features @ params["edge"]["kernel"]
  return (_leaky(hidden).reshape(heads, -1) * params["score"]).sum(axis=-1)


def _score_dot(params, sender, receiver, features, heads):
  query = receiver @ params["query"]["kernel"] + params["query"]["bias"]
  key = sender @ params["key"]["kernel"]
  if features is not None:
    key = key + features @ params["edge"]["kernel"]
  query, key = query.reshape(heads, -1), key.reshape(heads, -1)
  return (query * key).sum(axis=-1) / np.sqrt(query.shape[-1])


def _rgcn(graph, params):
  kernels = params["bases"]
  if "mixture" in params:
    kernels = np.einsum("kb,bio->kio", params["mixture"], kernels)
  out = np.zeros((B, N, 7))
  for b, r in _present(graph):
    out[b, r] = graph.nodes[b, r] @ params["self"]["kernel"]
    out[b, r] += params["self"]["bias"]
    for k in range(K):
      edges = [e for e in _edges_of(graph, b, False) if e[1] == r and e[4] == k]
      total = sum(edge[2] for edge in edges)
      for s, _, weight, *_ in edges:
        out[b, r] += weight / total * (graph.nodes[b, s] @ kernels[k])
  return out


def _gru(params, state, inputs):
  x = inputs @ params["input"]["kernel"] + params["input"]["bias"]
  h = state @ params["kernel"]
  (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(x, 3), np.split(h, 3)
  sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
  reset, update = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
  new = np.tanh(x_n + reset * (h_n + params["bias"]))
  return (1 - update) * new + update * state


def dense(params, inputs):
  return inputs @ params["kernel"] + params.get("bias", 0)


def _hear(params, nodes, shares, edges, control):
  new, drawn = {}, {}
  for r in nodes:
    message, count, drawn[r] = np.zeros(7), 0.0, 0.0
    for s, to, weight, features, kind in edges:
      if to != r:
        continue
      opening = dense(params["sender"], nodes[s])
      opening = opening + dense(params["receiver"], nodes[r])
      opening = opening + dense(params["control"], control)
      if features is not None:
        opening = opening + dense(params["edge"], features)
      hidden = np.tanh(opening)
      gate = 1 / (1 + np.exp(-dense(params["gate"], hidden)[kind or 0]))
      sent = dense(params["send"], nodes[s])
      sent = sent + shares[s] * dense(params["walk"], nodes[s])
      message += weight * gate * sent
      count += weight
      fit = dense(params["draw"], hidden * dense(params["wanted"], control))
      drawn[r] += weight * shares[s] * fit[kind or 0]
    new[r] = _gru(params["update"], nodes[r], message / np.sqrt(1 + count))
  return new, drawn


def _reasoning(graph, params, num_steps):
  out = np.zeros((B, 7))
  read, hear = params["read"], params["hear"]
  for b in range(B):
    present = np.nonzero(graph.node_mask[b])[0]
    edges = _edges_of(graph, b, False)
    nodes = {i: dense(params["node"], graph.nodes[b, i]) for i in present}
    memory, control, shares = params["memory"], None, None
    for step in range(num_steps):
      asked = dense(params[f"control_{step}"], np.asarray(QUERY)[b])
      asked = asked + dense(params["control"], memory)
      if step:
        asked = asked + dense(params["follow"], control)
      control = np.tanh(asked)
      drawn = dict.fromkeys(present, 0.0)
      if step:
        nodes, drawn = _hear(hear, nodes, shares, edges, control)
      wanted = dense(read["control"], control)
      scores = np.array(
        [
          np.tanh(dense(read["node"], nodes[i]) + wanted)
          @ read["score"]["kernel"][:, 0]
          + drawn[i]
          for i in present
        ]
      )
      shares = np.exp(scores - scores.max())
      shares = dict(zip(present, shares / shares.sum(), strict=True))
      seen = sum(shares[i] * nodes[i] for i in present)
      memory = _gru(read["memory"], memory, np.concatenate([seen, control]))
    out[b] = memory
  return out


REFERENCES = {
  "gcn": _gcn,
  "gat": lambda g, p: _attention(g, p, CASES["gat"].module, _score_gat, "node"),
  "gat_mean": lambda g, p: _attention(
    g, p, CASES["gat_mean"].module, _score_gat, "node"
  ),
  "gatv2": lambda g, p: _attention(
    g, p, CASES["gatv2"].module, _score_gatv2, "sender"
  ),
  "gatv2_mean": lambda g, p: _attention(
    g, p, CASES["gatv2_mean"].module, _score_gatv2, "sender"
  ),
  **{
    name: lambda g, p, name=name: _attention(
      g, p, CASES[name].module, _score_dot, "value"
    )
    for name in ("dot", "dot_mean")
  },
  "rgcn": _rgcn,
  "rgcn_bases": _rgcn,
  "reasoning": lambda g, p: _reasoning(g, p, 3),
  "reasoning_plain": lambda g, p: _reasoning(g, p, 2),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_loops_over_nodes_and_edges(name):
  out, _ = graph_cases.run(name, CASES[name].graph())
  expected = REFERENCES[name](*_arrays(name))
  np.testing.assert_allclose(out, expected, atol=2e-5)
