"""Operations counted from the program against counts by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.analysis.flops import count_flops
from mmjax.encoders.features import FeatureEncoder

X = jnp.ones((3, 5))


@pytest.mark.parametrize(
  ("fn", "expected"),
  [
    (lambda x: x @ x.T, 2 * 3 * 5 * 3),
    (lambda x: jnp.einsum("ij,ik->ijk", x, x), 2 * 3 * 5 * 5),
    (lambda x: jnp.exp(x) + 1, 2 * 15),
    (lambda x: x.sum(axis=0), 15),
    (lambda x: jnp.where(x > 0, x, 0).T.reshape(-1)[::2], 0),
    (lambda x: jnp.arange(7) * 3 + x.shape[0], 0),  # integers
    (lambda x: jax.jit(jnp.tanh)(x), 15),
    (lambda x: jax.nn.relu(x), 15),
    (lambda x: jax.ops.segment_sum(x, jnp.array([0, 1, 0]), 2), 15),
    (lambda x: jnp.fft.fft(x[:2, :4]), 5 * 2 * 4 * 2),
    (lambda x: jnp.fft.rfft(x[:2, :4]), 5 / 2 * 2 * 4 * 2),
    (lambda x: jax.lax.fori_loop(0, 11, lambda _, c: c * 2, x), 11 * 15),
    (
      lambda x: jax.lax.cond(x[0, 0] > 0, jnp.exp, lambda x: x @ X.T @ x, x),
      180,
    ),
    (lambda x: jax.vmap(jnp.dot, (0, None))(x, x[0]), 2 * 3 * 5),
  ],
)
def test_by_hand(fn, expected):
  assert count_flops(fn, X) == expected


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(groups):
  layer = nn.Conv(6, (3, 5), feature_group_count=groups, use_bias=False)
  image = jax.ShapeDtypeStruct((7, 11, 13, 4), jnp.float32)
  variables = jax.eval_shape(
    layer.init, jax.random.key(0), jnp.zeros(image.shape)
  )
  products = 7 * 11 * 13 * 6 * (3 * 5 * 4 // groups)
  assert count_flops(layer.apply, variables, image) == 2 * products


@pytest.mark.parametrize("steps", [3, 7])
def test_a_loop_counts_as_the_same_steps_written_out(steps):
  cell = nn.OptimizedLSTMCell(5)
  xs = jnp.ones((steps, 2, 3))
  carry = cell.initialize_carry(jax.random.key(0), xs[0].shape)
  variables = cell.init(jax.random.key(1), carry, xs[0])

  def loop(xs):
    return jax.lax.scan(lambda c, x: cell.apply(variables, c, x), carry, xs)

  def written_out(xs):
    state, outs = carry, []
    for i in range(steps):
      state, out = cell.apply(variables, state, xs[i])
      outs.append(out)
    return state, outs

  one = count_flops(lambda x: cell.apply(variables, carry, x), xs[0])
  assert count_flops(loop, xs) == count_flops(written_out, xs) == steps * one
  # Four gates, from 3 inputs and from 5 units of the state.
  assert one > 2 * 2 * 4 * 5 * (3 + 5)


def test_an_encoder_over_twice_the_frames_costs_twice_as_much():
  encoder = FeatureEncoder(8, body="lstm")

  def count(steps):
    values, mask = np.ones((1, steps, 5), np.float32), np.ones((1, steps), bool)
    variables = encoder.init(jax.random.key(0), values, mask, train=False)
    return count_flops(
      lambda v: encoder.apply(variables, v, mask, train=False).values, values
    )

  assert count(22) == pytest.approx(2 * count(11), rel=0.01)


def test_near_what_xla_counts_where_nothing_loops():
  layer = nn.Sequential([nn.Dense(64), jnp.tanh, nn.Dense(32)])
  x = jnp.ones((16, 48))
  variables = layer.init(jax.random.key(0), x)
  compiled = jax.jit(layer.apply).lower(variables, x).compile()
  assert count_flops(layer.apply, variables, x) == pytest.approx(
    compiled.cost_analysis()["flops"], rel=0.05
  )


def test_a_loop_of_unknown_length_is_refused():
  with pytest.raises(ValueError, match="as often as the data say"):
    count_flops(
      lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, jnp.exp, x), X
    )
