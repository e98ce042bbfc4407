import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import random_variables

from mmjax.nn.transformer import MlpBlock, TransformerBlock


@pytest.fixture(scope="module")
def block():
  rng = np.random.default_rng(0)
  values = rng.normal(size=(2, 5, 6)).astype(np.float32)
  mask = np.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool)
  module = TransformerBlock(6, 3, 11, dropout_rate=0.5)
  variables = random_variables(module.init, values, mask, train=False)
  return module, variables, values, mask


def test_mlp_by_numpy():
  module = MlpBlock(3, width=2)
  values = np.array([[0.5, -1.0, 2.0, 0.0]], np.float32)
  variables = random_variables(module.init, values, train=False)
  params = jax.tree.map(np.asarray, variables["params"])
  hidden = values @ params["hidden"]["kernel"] + params["hidden"]["bias"]
  hidden = np.maximum(hidden, 0)
  np.testing.assert_allclose(
    module.apply(variables, values, train=False),
    hidden @ params["out"]["kernel"] + params["out"]["bias"],
    atol=1e-6,
  )


def test_a_block_with_zero_outputs_is_the_identity(block):
  module, variables, values, mask = block
  params = dict(variables["params"])
  params["attention"] = dict(params["attention"])
  params["mlp"] = dict(params["mlp"])
  for part in ("attention", "mlp"):
    params[part]["out"] = jax.tree.map(jnp.zeros_like, params[part]["out"])
  out = module.apply({"params": params}, values, mask, train=False)
  np.testing.assert_array_equal(out, values)


def test_masked_tokens_change_no_other(block):
  module, variables, values, mask = block
  other = np.where(mask[..., None], values, 1e3).astype(np.float32)
  out = module.apply(variables, values, mask, train=False)
  other_out = module.apply(variables, other, mask, train=False)
  np.testing.assert_allclose(out[mask], other_out[mask], atol=1e-6)
  everything = module.apply(variables, values, None, train=False)
  assert not np.allclose(out[0], everything[0], atol=1e-3)
  np.testing.assert_allclose(out[1], everything[1], atol=1e-6)


def test_permuting_tokens_permutes_the_output(block):
  module, variables, values, mask = block
  order = np.array([3, 0, 4, 2, 1])
  out = module.apply(variables, values, mask, train=False)
  other = module.apply(variables, values[:, order], mask[:, order], train=False)
  np.testing.assert_allclose(other, out[:, order], atol=1e-5)


def test_attention_is_sown(block):
  module, variables, values, mask = block
  _, state = module.apply(
    variables, values, mask, train=False, mutable=["intermediates"]
  )
  (weights,) = state["intermediates"]["self_attention"]
  assert weights.shape == (2, 3, 5, 5)
  np.testing.assert_allclose(weights.sum(-1), np.ones((2, 3, 5)), atol=1e-6)
  np.testing.assert_array_equal(weights[0, :, :, [2, 4]], 0)


def test_dropout_is_on_only_in_training(block):
  module, variables, values, mask = block
  plain = module.apply(variables, values, mask, train=False)
  dropped = module.apply(
    variables, values, mask, train=True, rngs={"dropout": jax.random.key(0)}
  )
  assert not np.allclose(plain, dropped)


def test_another_width_is_named(block):
  module, variables, values, mask = block
  with pytest.raises(ValueError, match=r"width 6 needs.*got \[2, 5, 5\]"):
    module.apply(variables, values[..., :5], mask, train=False)
