"""Trees with every kind of leaf, and bit-exact comparison of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

CONFIG = '{"width": 7}'
ASSETS = {"labels": ["yes", "no"], "vocabulary": ["<pad>", "blå"], "sizes": {}}


def make_params(seed=0):
  draw = np.random.default_rng(seed).normal
  return {
    "encoders_image": {"kernel": jnp.asarray(draw(size=(3, 5, 7)), "float32")},
    "head": {
      "bias": jnp.asarray(draw(size=11), "bfloat16"),
      "scale": jnp.asarray(draw(), "float32"),
      "empty": jnp.zeros((0, 3)),
    },
  }


def make_state(params, step=0):
  """A state as training has it, with every kind of leaf; moments are drawn."""
  draw = np.random.default_rng(step + 17).normal
  tx = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(optax.constant_schedule(1e-3))
  )
  return {
    "step": jnp.int32(step),
    "opt_state": jax.tree.map(
      lambda x: jnp.asarray(np.asarray(draw(size=x.shape)), x.dtype),
      tx.init(params),
    ),
    "rng": jax.random.key(step + 3),
    "rngs": jax.random.split(jax.random.key(5), 2),
    "slow_rng": jax.random.key(5, impl="rbg"),
    "mask": jnp.array([True, False, True]),
    "bytes": np.arange(5, dtype=np.uint8),
    "python": (3, True, 0.1, None),
  }


def abstract(tree):
  """The tree's shapes and dtypes, as `jax.eval_shape` gives them."""
  return jax.tree.map(
    lambda x: (
      jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, jax.Array) else x
    ),
    tree,
  )


def to_bytes(leaf):
  """Type, dtype, shape and content of a leaf."""
  kind = "jax" if isinstance(leaf, jax.Array) else type(leaf).__name__
  dtype = str(getattr(leaf, "dtype", None))
  if jnp.issubdtype(getattr(leaf, "dtype", np.int32), jax.dtypes.prng_key):
    dtype += str(jax.random.key_impl(leaf))
    leaf = jax.random.key_data(leaf)
  array = np.asarray(leaf)
  return kind, dtype, array.dtype.str, array.shape, array.tobytes()


def assert_same(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    assert to_bytes(a) == to_bytes(b)


def save(checkpoints, step, accuracy=None, seed=None, **changes):
  """Saves a step whose content follows from its number; returns the trees."""
  params = make_params(step if seed is None else seed)
  state = make_state(params, step)
  metrics = None if accuracy is None else {"accuracy": accuracy, "ece": 0.125}
  content = {"config": CONFIG, "assets": ASSETS, "metrics": metrics} | changes
  started = checkpoints.save(step, params=params, state=state, **content)
  return params, state, started
