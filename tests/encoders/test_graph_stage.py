"""The graph stage against loops over nodes, heads and edges."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fusion_contract import make_variables, sizes_by_path

from mmjax.array_types import Tokens
from mmjax.encoders.extended import ExtendedEncoder
from mmjax.encoders.features import FeatureEncoder
from mmjax.encoders.graph import GraphStage

pytestmark = pytest.mark.usefixtures("fast_compilation")

MASK = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0] * 5], bool)
VALUES = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
NODES = np.where(MASK[..., None], VALUES, 0)
TOKENS = Tokens(jnp.asarray(VALUES), jnp.asarray(MASK))
STAGE = GraphStage(2, num_heads=7, edge_dim=3, mlp_dim=11)


def run(module, tokens):
  """The parameters, as numpy arrays, and what comes out and is sown."""
  variables = make_variables(module, tokens)
  apply_fn = jax.jit(
    lambda v, t: module.apply(v, t, train=False, mutable=["intermediates"])
  )
  params = jax.tree.map(np.asarray, variables["params"])
  return params, apply_fn(variables, tokens)


def dense(params, inputs):
  return inputs @ params["kernel"] + params.get("bias", 0)


def relu(inputs):
  return np.maximum(inputs, 0)


def norm(params, inputs):
  spread = np.sqrt(inputs.var(-1, keepdims=True) + 1e-6)
  centred = (inputs - inputs.mean(-1, keepdims=True)) / spread
  return centred * params["scale"] + params["bias"]


def hear(params, nodes, i, there):
  """What node i hears from those that are there, head by head, in loops."""
  normed = norm(params["edge_norm"], nodes)
  edges = []
  for j in there:
    hidden = dense(params["receiver"], normed[i])
    hidden = relu(hidden + dense(params["sender"], normed[j]))
    edges.append(relu(dense(params["edge"], hidden)))
  scores = np.exp(np.stack([dense(params["score"], e) for e in edges]))
  sent = np.stack([dense(params["message"], e) for e in edges])
  heard, size = [], sent.shape[1] // scores.shape[1]
  for head in range(scores.shape[1]):
    share = scores[:, head] / scores[:, head].sum()
    heard.append(share @ sent[:, head * size : (head + 1) * size])
  return np.concatenate(heard)


def test_a_stage_is_a_loop_over_edges():
  params, (out, sown) = run(STAGE, TOKENS)
  weights = sown["intermediates"]["token_over_token"]
  assert [w.shape for w in weights] == [(3, 7, 5, 5)] * 2
  for example, mask in enumerate(MASK):
    there, nodes = np.flatnonzero(mask), NODES[example]
    for number in range(2 if len(there) else 0):
      p = params[f"round_{number}"]
      new = nodes.copy()
      for i in there:
        new[i] = nodes[i] + hear(p, nodes, i, there)
        hidden = relu(dense(p["mlp"]["hidden"], norm(p["mlp_norm"], new[i])))
        new[i] = new[i] + dense(p["mlp"]["out"], hidden)
      nodes = new
    expected = np.where(mask[:, None], norm(params["out_norm"], nodes), 0)
    np.testing.assert_allclose(out.values[example], expected, atol=2e-5)


def test_what_is_masked_changes_no_output_and_no_gradient():
  variables = make_variables(STAGE, TOKENS)

  @jax.jit
  @jax.value_and_grad
  def compute_loss(variables, values):
    out = STAGE.apply(variables, TOKENS.replace(values=values), train=False)
    goal = jax.random.normal(jax.random.key(1), out.values.shape)
    return jnp.square(out.values - goal).mean()

  dirty = np.where(MASK[..., None], VALUES, np.nan)
  loss, grads = compute_loss(variables, VALUES)
  chex.assert_trees_all_equal(compute_loss(variables, dirty), (loss, grads))
  sizes = sizes_by_path(grads)
  assert min(sizes.values()) > 1e-5 * np.median(list(sizes.values())), sizes


def test_padding_and_order_change_nothing():
  _, (out, _) = run(STAGE, TOKENS)
  padded = jax.tree.map(
    lambda x: jnp.pad(x, [(0, 0), (0, 2)] + [(0, 0)] * (x.ndim - 2)), TOKENS
  )
  _, (longer, _) = run(STAGE, padded)
  np.testing.assert_allclose(longer.values[:, :5], out.values, atol=1e-5)
  order = np.array([3, 0, 4, 2, 1])
  turned = jax.tree.map(lambda x: x[:, order], TOKENS)
  _, (moved, _) = run(STAGE, turned)
  np.testing.assert_allclose(moved.values, out.values[:, order], atol=1e-5)


def test_half_precision_is_kept_and_near():
  _, (full, _) = run(STAGE, TOKENS)
  _, (half, _) = run(STAGE.clone(dtype="bfloat16"), TOKENS)
  assert half.values.dtype == jnp.bfloat16
  assert np.abs(np.float32(half.values) - full.values).mean() < 0.05


def test_it_stands_behind_any_encoder():
  encoder = ExtendedEncoder(FeatureEncoder(6), (GraphStage(1, 3, 5, 11),))
  out = jax.eval_shape(
    lambda rng: encoder.init_with_output(rng, VALUES, MASK, train=False)[0],
    jax.random.key(0),
  )
  assert out.values.shape == (3, 5, 6)


@pytest.mark.parametrize("stage", [GraphStage(0), GraphStage(num_heads=3)])
def test_a_stage_that_cannot_be_is_named(stage):
  with pytest.raises(ValueError, match=r"at least one round.*\[3, 5, 7\]"):
    jax.eval_shape(
      lambda rng: stage.init(rng, TOKENS, train=False), jax.random.key(0)
    )
