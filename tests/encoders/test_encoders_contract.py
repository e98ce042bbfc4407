"""What every encoder promises, from one table.

Here are image and text; sound, records, features and bags of words stand in
`tests/encoder_cases.py`.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoder_cases import CASES as OTHER_CASES
from encoder_cases import FLOAT32_PRODUCTS
from module_checks import (
  assert_gradients_are_there,
  assert_near,
  product_dtypes,
  random_variables,
)

from mmjax.encoders.image import GridEncoder, PatchEncoder
from mmjax.encoders.text import RecurrentEncoder, TransformerEncoder

pytestmark = pytest.mark.usefixtures("fast_compilation")

_RNG = np.random.default_rng(0)
IMAGES = _RNG.integers(0, 256, (3, 11, 13, 3)).astype(np.uint8)
IMAGES_MASK = np.array([True, False, True])
WORDS = _RNG.integers(0, 11, (3, 7)).astype(np.int32)
WORDS_MASK = np.array(
  [[1, 1, 1, 1, 0, 0, 0], [0] * 7, [1, 0, 1, 0, 1, 1, 1]], bool
)

# name: module, values and mask, tokens, parameters, mask of the tokens if it
# is not that of the values
CASES = {
  "grid": (
    GridEncoder(7, features=(3, 5)),
    (IMAGES, IMAGES_MASK),
    (3, 3 * 4, 7),
    (27 * 3 + 6) + (27 * 5 + 10) + (5 * 7 + 7) + 14,
  ),
  "grid_stem": (
    GridEncoder(7, features=(5,), stem_size=2),
    (IMAGES, IMAGES_MASK),
    (3, 3 * 4, 7),
    (9 * 12 * 5 + 10) + (5 * 7 + 7) + 14,
  ),
  "patch": (
    PatchEncoder(6, 5, num_layers=2, num_heads=3, mlp_dim=11),
    (IMAGES, IMAGES_MASK),
    (3, 3 * 3, 6),
    (75 * 6 + 6) + 12 + 2 * (24 + 162 + 149) + 12,
  ),
  "lstm": (
    RecurrentEncoder(11, 5, 7),  # 4 for each direction
    (WORDS, WORDS_MASK),
    (3, 7, 7),
    11 * 5 + 2 * (5 * 16 + 16 + 4 * 16) + (8 * 7 + 7) + 14,
  ),
  "gru_two_layers": (
    RecurrentEncoder(11, 5, 7, cell="gru", bidirectional=False, num_layers=2),
    (WORDS, WORDS_MASK),
    (3, 7, 7),
    11 * 5
    + (5 * 21 + 21 + 7 * 21 + 7)
    + (7 * 21 + 21 + 7 * 21 + 7)
    + (7 * 7 + 7)
    + 14,
  ),
  "transformer": (
    TransformerEncoder(
      11, 6, num_layers=2, num_heads=3, mlp_dim=11, max_length=7
    ),
    (WORDS, WORDS_MASK),
    (3, 7, 6),
    11 * 6 + 7 * 6 + 2 * (24 + 162 + 149) + 12,
  ),
  **OTHER_CASES,
}

names = pytest.mark.parametrize("name", CASES)


@functools.cache
def _init(name, dtype="float32"):
  module, inputs, *_ = CASES[name]
  module = module.clone(dtype=dtype)
  variables = random_variables(module.init, *inputs, train=False)
  return module, variables, inputs


@functools.cache
def _apply_fn(name):
  module, variables, _ = _init(name)
  return jax.jit(lambda *args: module.apply(variables, *args, train=False))


@names
def test_shapes_dtypes_and_parameter_count(name):
  module, variables, inputs = _init(name)
  tokens = jax.eval_shape(
    lambda variables: module.apply(variables, *inputs, train=False), variables
  )
  assert tokens.values.shape == CASES[name][2]
  assert tokens.values.dtype == jnp.float32
  assert tokens.mask.shape == CASES[name][2][:2]
  assert tokens.mask.dtype == jnp.bool_
  assert tokens.group_sizes is None
  assert set(variables) == {"params"}
  assert sum(x.size for x in jax.tree.leaves(variables)) == CASES[name][3]


@names
def test_masked_tokens_are_zero_and_masks_follow_the_input(name):
  _, _, (values, mask) = _init(name)
  tokens = _apply_fn(name)(values, mask)
  if len(CASES[name]) > 4:
    expected = CASES[name][4]
  elif mask.ndim == 2:
    expected = mask
  else:
    expected = np.repeat(mask[:, None], tokens.mask.shape[1], axis=1)
  np.testing.assert_array_equal(tokens.mask, expected)
  np.testing.assert_array_equal(tokens.values[~expected], 0)
  assert np.all(np.abs(tokens.values[expected]).max(-1) > 0)


@names
def test_masked_content_changes_nothing(name):
  _, _, (values, mask) = _init(name)
  spread = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
  other = np.where(spread, values, 11 - values).astype(values.dtype)
  assert np.any(other != values)
  chex.assert_trees_all_equal(
    _apply_fn(name)(values, mask), _apply_fn(name)(other, mask)
  )


@names
def test_jit_equals_eager_and_rows_stand_alone(name):
  module, variables, inputs = _init(name)
  eager = module.apply(variables, *inputs, train=False)
  chex.assert_trees_all_close(_apply_fn(name)(*inputs), eager, atol=1e-4)
  for row in (0, 2):
    alone = _apply_fn(name)(*[x[row : row + 1] for x in inputs])
    chex.assert_trees_all_close(
      alone, jax.tree.map(lambda x, r=row: x[r : r + 1], eager), atol=1e-4
    )


@functools.cache
def _run(name, dtype="float32"):
  """The gradients and the tokens of a case, by one program."""
  module, variables, inputs = _init(name, dtype)
  out_weights = np.random.default_rng(1).normal(size=CASES[name][2])

  def loss_fn(variables):
    tokens = module.apply(variables, *inputs, train=False)
    return jnp.sum(jnp.tanh(tokens.values) * out_weights), tokens

  return jax.jit(jax.grad(loss_fn, has_aux=True))(variables)


@names
def test_every_parameter_has_a_gradient(name):
  assert_gradients_are_there(_run(name)[0])


@names
@pytest.mark.parametrize(
  ("dtype", "share"), [("bfloat16", 0.1), ("float16", 0.02)]
)
def test_half_precision_reaches_every_product(name, dtype, share):
  """It stays finite, forward and backward, and the tokens near float32."""
  module, variables, inputs = _init(name, dtype)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
  grads, tokens = _run(name, dtype)
  assert tokens.values.dtype == jnp.dtype(dtype)
  assert_near(tokens.values, _run(name)[1].values, share)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
  apply_fn = lambda v: module.apply(v, *inputs, train=False)  # noqa: E731
  found = list(product_dtypes(jax.make_jaxpr(apply_fn)(variables).jaxpr))
  others = [dtypes for dtypes in found if dtypes != {jnp.dtype(dtype)}]
  assert others == [{jnp.dtype("float32")}] * FLOAT32_PRODUCTS.get(name, 0)
  assert len(found) > len(others)


@pytest.mark.parametrize(
  "name",
  [name for name, case in CASES.items() if hasattr(case[0], "dropout_rate")],
)
def test_dropout_is_on_only_in_training(name):
  module, variables, inputs = _init(name)
  module = module.clone(dropout_rate=0.5)
  plain = _apply_fn(name)(*inputs)  # without any dropout
  # This kind of key compiles much faster than the default.
  rngs = {"dropout": jax.random.key(0, impl="rbg")}

  @jax.jit
  def run(variables):
    return [
      module.apply(variables, *inputs, train=train, rngs=rngs)
      for train in (False, True)
    ]

  evaluated, dropped = run(variables)
  chex.assert_trees_all_close(evaluated, plain, atol=1e-6)
  assert not np.allclose(plain.values, dropped.values, atol=1e-3)
  np.testing.assert_array_equal(dropped.values[~dropped.mask], 0)
