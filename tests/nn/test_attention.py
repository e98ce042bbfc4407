import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import random_variables

from mmjax.nn.attention import MultiHeadAttention, attend, attend_fused


@pytest.fixture
def inputs():
  rng = np.random.default_rng(0)
  query = rng.normal(size=(2, 3, 5, 7)).astype(np.float32)
  key = rng.normal(size=(2, 11, 5, 7)).astype(np.float32)
  value = rng.normal(size=(2, 11, 5, 13)).astype(np.float32)
  mask = rng.random((2, 3, 11)) < 0.5
  mask[1, 2] = False
  return query, key, value, mask


def _attend_in_loops(query, key, value, mask):
  """One query of one head at a time, only over the keys that it may see."""
  batch, num_queries, num_heads, dim = query.shape
  out = np.zeros((batch, num_queries, num_heads, value.shape[-1]))
  weights = np.zeros((batch, num_heads, num_queries, key.shape[1]))
  for b, q, h in np.ndindex(batch, num_queries, num_heads):
    seen = np.flatnonzero(mask[b, q])
    scores = [query[b, q, h] @ key[b, k, h] / np.sqrt(dim) for k in seen]
    chances = np.exp(scores) / np.sum(np.exp(scores))
    for k, chance in zip(seen, chances, strict=True):
      weights[b, h, q, k] = chance
      out[b, q, h] += chance * value[b, k, h]
  return out, weights


def test_attend_equals_loops(inputs):
  query, key, value, mask = inputs
  out, weights = attend(query, key, value, mask)
  expected_out, expected_weights = _attend_in_loops(query, key, value, mask)
  np.testing.assert_allclose(out, expected_out, atol=1e-5)
  np.testing.assert_allclose(weights, expected_weights, atol=1e-6)
  assert not np.any(weights[1, :, 2])  # no key: zeros, not a uniform row


def test_attend_by_hand():
  query = jnp.full((1, 1, 1, 4), 0.5)
  key = jnp.array([0.0, np.log(3), 100.0]).reshape(1, 3, 1, 1)
  key = jnp.broadcast_to(key, (1, 3, 1, 4))  # scores 0, log 3, 100
  value = jnp.array([4.0, 8.0, 1e6]).reshape(1, 3, 1, 1)
  out, weights = attend(query, key, value, jnp.array([[True, True, False]]))
  np.testing.assert_allclose(weights[0, 0, 0], [0.25, 0.75, 0.0], atol=1e-6)
  np.testing.assert_allclose(out[0, 0, 0], [7.0], rtol=1e-6)


def test_attend_without_a_mask_sees_everything(inputs):
  query, key, value, mask = inputs
  out, weights = attend(query, key, value)
  expected = _attend_in_loops(query, key, value, np.ones_like(mask))
  np.testing.assert_allclose(out, expected[0], atol=1e-5)
  np.testing.assert_allclose(weights, expected[1], atol=1e-6)


def test_a_mask_of_keys_serves_all_queries(inputs):
  query, key, value, mask = inputs
  keys_mask = mask[:, 0]
  repeated = np.repeat(keys_mask[:, None], 3, axis=1)
  np.testing.assert_array_equal(
    attend(query, key, value, keys_mask)[0],
    attend(query, key, value, repeated)[0],
  )


def test_masked_keys_change_neither_output_nor_gradient(inputs):
  query, key, value, mask = inputs
  keys_mask = mask[:, 0]
  hidden = ~keys_mask[:, :, None, None]
  other_key, other_value = key + 1e4 * hidden, value - 1e4 * hidden

  def loss_fn(query, key, value):
    return jnp.sum(attend(query, key, value, keys_mask)[0] ** 2)

  for a, b in zip(
    jax.grad(loss_fn, argnums=(0, 1, 2))(query, key, value),
    jax.grad(loss_fn, argnums=(0, 1, 2))(query, other_key, other_value),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)


def test_gradients_are_finite_where_no_key_is_seen(inputs):
  query, key, value, _ = inputs
  mask = np.zeros((2, 11), bool)
  grads = jax.grad(
    lambda *args: jnp.sum(attend(*args, mask)[0]), argnums=(0, 1, 2)
  )(query, key, value)
  for grad in grads:
    np.testing.assert_array_equal(grad, np.zeros_like(grad))


def test_permuting_keys_permutes_weights(inputs):
  query, key, value, mask = inputs
  order = np.random.default_rng(1).permutation(11)
  out, weights = attend(query, key, value, mask)
  other_out, other_weights = attend(
    query, key[:, order], value[:, order], mask[:, :, order]
  )
  np.testing.assert_allclose(other_out, out, atol=1e-5)
  np.testing.assert_allclose(other_weights, weights[..., order], atol=1e-6)


def test_softmax_runs_in_float32(inputs):
  query, key, value, mask = (jnp.asarray(x) for x in inputs)
  half = [x.astype(jnp.bfloat16) for x in (query, key, value)]
  out, weights = attend(*half, mask)
  assert out.dtype == jnp.bfloat16
  assert weights.dtype == jnp.float32
  sums = weights.sum(-1)[0]
  np.testing.assert_allclose(sums, np.ones_like(sums), atol=1e-6)


def test_dropout_keeps_the_mean_and_needs_a_key():
  query = key = jnp.zeros((1, 1, 1, 2))
  key, value = jnp.zeros((1, 9973, 1, 2)), jnp.ones((1, 9973, 1, 1))
  rng = jax.random.key(0)
  out, weights = attend(query, key, value, dropout_rate=0.25, dropout_rng=rng)
  np.testing.assert_allclose(out, 1.0, atol=0.02)
  assert out[0, 0, 0, 0] != 1.0
  np.testing.assert_allclose(weights, 1 / 9973, rtol=1e-5)  # before dropout
  out, _ = attend(query, key, value, dropout_rate=0.25)
  np.testing.assert_allclose(out, 1.0, rtol=1e-5)


def test_dropout_zeroes_its_share_of_the_weights():
  num_keys = 997
  query, key = jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, num_keys, 1, 2))
  value = jnp.eye(num_keys)[None, :, None]  # the output is the weights
  out, _ = attend(
    query, key, value, dropout_rate=0.3, dropout_rng=jax.random.key(1)
  )
  out = np.asarray(out).ravel() * num_keys
  assert abs(np.mean(out == 0) - 0.3) < 0.05
  np.testing.assert_allclose(out[out != 0], 1 / 0.7, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3), (2, 11, 3), (1, 11), (11,)])
def test_wrong_mask_shapes_are_named(inputs, shape):
  query, key, value, _ = inputs
  with pytest.raises(ValueError, match=r"bool mask \[2, 11\] or \[2, 3, 11\]"):
    attend(query, key, value, jnp.ones(shape, bool))


def test_float_masks_are_refused(inputs):
  query, key, value, mask = inputs
  with pytest.raises(ValueError, match="got float32"):
    attend(query, key, value, mask.astype(np.float32))


@pytest.mark.parametrize("mask_ndim", [None, 2, 3])
def test_attend_fused_equals_attend(inputs, mask_ndim):
  query, key, _, mask = inputs
  value = key[..., ::-1]
  mask = {None: None, 2: mask[:, 0] & [[True], [False]], 3: mask}[mask_ndim]

  def loss_fn(attend_fn):
    return lambda *args: jnp.sum(jnp.sin(attend_fn(*args, mask)))

  plain = loss_fn(lambda *args: attend(*args)[0])
  fused = loss_fn(lambda *args: attend_fused(*args, implementation="xla"))
  np.testing.assert_allclose(
    attend_fused(query, key, value, mask, implementation="xla"),
    attend(query, key, value, mask)[0],
    atol=1e-6,
  )
  for a, b in zip(
    jax.grad(plain, argnums=(0, 1, 2))(query, key, value),
    jax.grad(fused, argnums=(0, 1, 2))(query, key, value),
    strict=True,
  ):
    np.testing.assert_allclose(b, a, atol=1e-5)


@pytest.fixture(scope="module")
def module_and_inputs():
  rng = np.random.default_rng(2)
  query = rng.normal(size=(2, 3, 5)).astype(np.float32)
  context = rng.normal(size=(2, 7, 11)).astype(np.float32)
  mask = np.array([[1, 0, 1, 1, 0, 0, 1], [0] * 7], bool)
  module = MultiHeadAttention(3, 6, out_width=5, dropout_rate=0.5)
  variables = random_variables(module.init, query, context, mask, train=False)
  return module, variables, query, context, mask


def test_module_equals_numpy(module_and_inputs):
  module, variables, query, context, mask = module_and_inputs
  params = jax.tree.map(np.asarray, variables["params"])
  q = query @ params["query"]["kernel"] + params["query"]["bias"]
  k = context @ params["key"]["kernel"]
  v = context @ params["value"]["kernel"] + params["value"]["bias"]
  out, weights = _attend_in_loops(
    q.reshape(2, 3, 3, 2),
    k.reshape(2, 7, 3, 2),
    v.reshape(2, 7, 3, 2),
    np.repeat(mask[:, None], 3, axis=1),
  )
  out = out.reshape(2, 3, 6) @ params["out"]["kernel"] + params["out"]["bias"]
  got_out, got_weights = module.apply(
    variables, query, context, mask, train=False
  )
  np.testing.assert_allclose(got_out[0], out[0], atol=1e-5)
  np.testing.assert_allclose(got_weights, weights, atol=1e-6)


def test_keys_have_no_bias(module_and_inputs):
  params = module_and_inputs[1]["params"]
  assert set(params["key"]) == {"kernel"}
  assert set(params["query"]) == {"kernel", "bias"}


@pytest.mark.parametrize("implementation", [None, "xla"])
def test_a_missing_context_adds_nothing(module_and_inputs, implementation):
  module, variables, query, context, mask = module_and_inputs
  module = module.clone(implementation=implementation)
  out, _ = module.apply(variables, query, context, mask, train=False)
  assert np.all(np.abs(out[0]).max(-1) > 0)
  np.testing.assert_array_equal(out[1], np.zeros_like(out[1]))


def test_the_fused_form_gives_weights_only_to_who_collects_them(
  module_and_inputs,
):
  module, variables, query, context, mask = module_and_inputs
  fused = module.clone(implementation="xla")
  args = (variables, query, context, mask)
  out, weights = module.apply(*args, train=False)
  fused_out, none = fused.apply(*args, train=False)
  assert none is None
  np.testing.assert_allclose(fused_out, out, atol=1e-6)
  (_, seen), _ = fused.apply(*args, train=False, mutable=["intermediates"])
  np.testing.assert_array_equal(seen, weights)
  rngs = {"dropout": jax.random.key(3)}
  np.testing.assert_array_equal(  # it cannot drop: the plain form steps in
    fused.apply(*args, train=True, rngs=rngs)[0],
    module.apply(*args, train=True, rngs=rngs)[0],
  )


def test_dropout_is_on_only_in_training(module_and_inputs):
  module, variables, query, context, mask = module_and_inputs
  args = (variables, query, context, mask)
  plain = module.apply(*args, train=False)[0]
  first = module.apply(*args, train=True, rngs={"dropout": jax.random.key(0)})[
    0
  ]
  second = module.apply(*args, train=True, rngs={"dropout": jax.random.key(1)})[
    0
  ]
  assert not np.allclose(first, plain)
  assert not np.allclose(first, second)


def test_heads_must_divide_the_width():
  module = MultiHeadAttention(3, 8)
  tokens = jnp.zeros((1, 2, 5))
  with pytest.raises(ValueError, match="width 8 and 3 heads"):
    module.init(jax.random.key(0), tokens, tokens, None, train=False)
