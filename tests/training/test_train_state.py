import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from training_toys import Toy, make_batch, make_init_fn

from mmjax.training.optimizer import AdamW
from mmjax.training.state import abstract_state, create_state


def test_fresh_state():
  rng = jax.random.key(3)
  init_fn = make_init_fn(Toy(), make_batch())
  state = create_state(init_fn, AdamW()(7), rng)
  assert state.step.dtype == state.bad_step.dtype == jnp.int32
  assert (int(state.step), int(state.bad_step)) == (0, -1)
  num = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  assert num == (3 * 7 + 7) + 11 * 7 + 2 * 7 + (7 * 5 + 5)
  assert jnp.issubdtype(state.rng.dtype, jax.dtypes.prng_key)
  # The caller's key is another buffer, which donation does not delete.
  assert (jax.random.key_data(state.rng) != jax.random.key_data(rng)).any()


def test_abstract_state_has_the_same_shapes():
  arguments = (
    make_init_fn(Toy(), make_batch()),
    AdamW()(7),
    jax.random.key(3),
  )
  state, target = create_state(*arguments), abstract_state(*arguments)
  assert jax.tree.structure(state) == jax.tree.structure(target)
  for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(target), strict=True):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_sown_values_are_dropped_and_batch_statistics_refused():
  class Sowing(nn.Module):
    @nn.compact
    def __call__(self, x):
      self.sow("intermediates", "x", x)
      return nn.Dense(2)(x)

  class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.BatchNorm(use_running_average=False)(x)

  x, rng, tx = jnp.ones((3, 2)), jax.random.key(0), AdamW()(3)
  state = create_state(lambda r: Sowing().init(r, x), tx, rng)
  assert list(state.params) == ["Dense_0"]
  with pytest.raises(ValueError, match="batch_stats"):
    create_state(lambda r: Normed().init(r, x), tx, rng)
