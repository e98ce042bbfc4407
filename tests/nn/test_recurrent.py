import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import random_variables

from mmjax.nn.recurrent import Recurrent, scan_masked

MASK = np.array(
  [[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool
)
VALUES = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)

cells = pytest.mark.parametrize("cell", ["lstm", "gru"])


@functools.cache
def _build(cell, **changes):
  module = Recurrent(3, cell=cell, **changes)
  return module, random_variables(module.init, VALUES, MASK)


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _read_in_loops(cell, params, values, mask, reverse):
  """Reads each sequence as if its masked steps did not exist."""
  params = jax.tree.map(np.asarray, params)
  outputs = np.zeros((*mask.shape, 3))
  last = np.zeros((len(mask), 3))
  for b in range(len(mask)):
    h, c = np.zeros(3), np.zeros(3)
    steps = list(np.flatnonzero(mask[b]))
    for t in reversed(steps) if reverse else steps:
      x = values[b, t] @ params["input"]["kernel"] + params["input"]["bias"]
      u = h @ params["kernel"]
      if cell == "lstm":
        i, f, g, o = (x + u).reshape(4, 3)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
      else:
        r = _sigmoid(x[0:3] + u[0:3])
        z = _sigmoid(x[3:6] + u[3:6])
        n = np.tanh(x[6:9] + r * (u[6:9] + params["bias"]))
        h = (1 - z) * n + z * h
      outputs[b, t] = h
    last[b] = h
  return outputs, last


@cells
def test_both_directions_equal_loops(cell):
  module, variables = _build(cell, bidirectional=True)
  outputs, last = module.apply(variables, VALUES, MASK)
  expected = [
    _read_in_loops(cell, variables["params"][name], VALUES, MASK, reverse)
    for name, reverse in (("forward", False), ("backward", True))
  ]
  np.testing.assert_allclose(
    outputs, np.concatenate([x[0] for x in expected], -1), atol=1e-5
  )
  np.testing.assert_allclose(
    last, np.concatenate([x[1] for x in expected], -1), atol=1e-5
  )


@cells
def test_one_direction_is_the_forward_one(cell):
  module, variables = _build(cell)
  outputs, last = module.apply(variables, VALUES, MASK)
  expected = _read_in_loops(
    cell, variables["params"]["forward"], VALUES, MASK, False
  )
  np.testing.assert_allclose(outputs, expected[0], atol=1e-5)
  np.testing.assert_allclose(last, expected[1], atol=1e-5)


@cells
def test_masked_steps_change_neither_outputs_nor_gradients(cell):
  module, variables = _build(cell, bidirectional=True)
  other = np.where(MASK[..., None], VALUES, np.nan).astype(np.float32)

  @jax.jit
  @jax.value_and_grad
  def loss_fn(variables, values):
    outputs, last = module.apply(variables, values, MASK)
    return jnp.sum(jnp.sin(outputs)) + jnp.sum(last)

  value, grads = loss_fn(variables, VALUES)
  other_value, other_grads = loss_fn(variables, other)
  assert value == other_value
  jax.tree.map(np.testing.assert_array_equal, grads, other_grads)
  outputs, _ = module.apply(variables, VALUES, MASK)
  np.testing.assert_array_equal(outputs[~MASK], 0)


def test_the_forget_gate_starts_open():
  params = jax.jit(Recurrent(3).init)(jax.random.key(0), VALUES, MASK)["params"]
  np.testing.assert_array_equal(
    params["forward"]["input"]["bias"], [0] * 3 + [1] * 3 + [0] * 6
  )
  for gate in np.split(params["forward"]["kernel"], 4, axis=1):
    np.testing.assert_allclose(gate @ gate.T, np.eye(3), atol=1e-5)


def test_scan_masked_sums_what_is_present():
  values = jnp.arange(10.0).reshape(2, 5, 1)
  mask = jnp.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1]], bool)
  step_fn = lambda total, x: (total + x, total + x)  # noqa: E731
  total, sums = scan_masked(step_fn, jnp.zeros((2, 1)), values, mask)
  np.testing.assert_array_equal(total[:, 0], [5, 15])
  np.testing.assert_array_equal(sums[0, :, 0], [0, 0, 2, 5, 0])
  total, sums = scan_masked(
    step_fn, jnp.zeros((2, 1)), values, mask, reverse=True
  )
  np.testing.assert_array_equal(total[:, 0], [5, 15])
  np.testing.assert_array_equal(sums[0, :, 0], [5, 0, 5, 3, 0])


def test_an_unknown_cell_is_named():
  with pytest.raises(ValueError, match="'lstm' or 'gru', got 'rnn'"):
    Recurrent(3, cell="rnn").init(jax.random.key(0), VALUES, MASK)


def test_a_mask_of_another_shape_is_named():
  with pytest.raises(ValueError, match=r"\[4, 5, 7\] and \[4, 3\]"):
    Recurrent(3).init(jax.random.key(0), VALUES, MASK[:, :3])


@cells
def test_parity_with_torch(cell):
  torch = pytest.importorskip("torch")
  module, variables = _build(cell, bidirectional=True)
  layer = getattr(torch.nn, cell.upper())
  peer = layer(7, 3, batch_first=True, bidirectional=True)
  gates = 4 if cell == "lstm" else 3
  for name, suffix in (("forward", ""), ("backward", "_reverse")):
    params = jax.tree.map(np.array, variables["params"][name])
    bias = np.zeros(gates * 3, np.float32)
    bias[2 * 3 :] = params["bias"] if cell == "gru" else 0
    for role, array in {
      "weight_ih": params["input"]["kernel"].T,
      "bias_ih": params["input"]["bias"],
      "weight_hh": params["kernel"].T,
      "bias_hh": bias,
    }.items():
      parameter = getattr(peer, f"{role}_l0{suffix}")
      parameter.data = torch.tensor(np.ascontiguousarray(array))
  outputs, _ = module.apply(variables, VALUES, np.ones_like(MASK))
  with torch.no_grad():
    expected, _ = peer(torch.tensor(VALUES))
  np.testing.assert_allclose(outputs, expected.numpy(), atol=1e-5)
