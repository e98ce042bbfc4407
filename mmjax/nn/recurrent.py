r"""LSTM and GRU over masked sequences, in one or both directions.

Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735;
Gers et al. 2000, https://doi.org/10.1162/089976600300015015 (forget gate);
Cho et al. 2014, https://arxiv.org/abs/1406.1078 (GRU); Schuster and Paliwal
1997, https://doi.org/10.1109/78.650093 (both directions).

Differs from the papers: the GRU applies its reset gate after the recurrent
product, which is what cuDNN and PyTorch compute; a masked step leaves the
state alone and gives zeros, wherever in the sequence it stands; forget gates
start with a bias of 1 (Jozefowicz et al. 2015).
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.nn.dense import Dense

# (state, projected inputs of one step) -> (new state, output)
StepFn = Callable[[Any, Array], tuple[Any, Array]]


def lstm_step(
  state: tuple[Array, Array], inputs: Array, kernel: Array
) -> tuple[tuple[Array, Array], Array]:
  r"""One step of an LSTM.

  .. math:: c' = \sigma(f) c + \sigma(i) \tanh(g), \quad
     h' = \sigma(o) \tanh(c'), \quad (i, f, g, o) = x + h W

  Args:
    state: h and c, each [B, D].
    inputs: [B, 4 D], the projected input x, bias included.
    kernel: [D, 4 D], W.

  Returns:
    The new state, and h' [B, D].
  """
  hidden, cell = state
  i, f, g, o = jnp.split(inputs + hidden @ kernel, 4, axis=-1)
  cell = nn.sigmoid(f) * cell + nn.sigmoid(i) * nn.tanh(g)
  hidden = nn.sigmoid(o) * nn.tanh(cell)
  return (hidden, cell), hidden


def gru_step(
  state: Array, inputs: Array, kernel: Array, bias: Array
) -> tuple[Array, Array]:
  r"""One step of a GRU.

  .. math:: r = \sigma(x_r + h W_r), \quad z = \sigma(x_z + h W_z), \quad
     n = \tanh(x_n + r (h W_n + b)), \quad h' = (1 - z) n + z h

  Args:
    state: h [B, D].
    inputs: [B, 3 D], the projected input x (r, z, n), bias included.
    kernel: [D, 3 D], W.
    bias: [D], b.

  Returns:
    h' [B, D], twice: as the state and as the output.
  """
  x_r, x_z, x_n = jnp.split(inputs, 3, axis=-1)
  h_r, h_z, h_n = jnp.split(state @ kernel, 3, axis=-1)
  reset, update = nn.sigmoid(x_r + h_r), nn.sigmoid(x_z + h_z)
  new = nn.tanh(x_n + reset * (h_n + bias))
  state = (1 - update) * new + update * state
  return state, state


def scan_masked(
  step_fn: StepFn,
  state: Any,
  inputs: Array,
  mask: Array,
  *,
  reverse: bool = False,
) -> tuple[Any, Array]:
  """Runs a step over the present steps of each sequence.

  Args:
    step_fn: (state, inputs [B, ...]) -> (state, output [B, D]).
    state: the state before the first step, arrays [B, D].
    inputs: [B, T, ...].
    mask: bool [B, T], True = present, in any pattern.
    reverse: whether to run from the last step to the first.

  Returns:
    The state after the last present step, and the outputs [B, T, D] in the
    order of the inputs, zeros where masked.
  """

  def masked_step(state: Any, step: tuple[Array, Array]) -> tuple[Any, Array]:
    inputs, present = step
    present = present[:, None]
    new_state, output = step_fn(state, inputs)
    new_state = jax.tree.map(
      lambda new, old: jnp.where(present, new, old), new_state, state
    )
    return new_state, jnp.where(present, output, 0)

  state, outputs = jax.lax.scan(
    masked_step, state, (inputs.swapaxes(0, 1), mask.T), reverse=reverse
  )
  return state, outputs.swapaxes(0, 1)


class RecurrentDirection(nn.Module):
  """An LSTM or GRU layer that reads in one direction.

  Gates stand in the order i, f, g, o (LSTM) and r, z, n (GRU).

  Attributes:
    width: features of the state.
    cell: "lstm" or "gru".
    reverse: whether to read from the end to the start.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  cell: str = "lstm"
  reverse: bool = False
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, values: Array, mask: Array) -> tuple[Array, Array]:
    """Reads sequences.

    Args:
      values: [B, T, D].
      mask: bool [B, T], True = present, in any pattern.

    Returns:
      The outputs [B, T, width], zeros where masked, and the last [B, width].

    Raises:
      ValueError: `cell` is neither "lstm" nor "gru".
    """
    if self.cell not in ("lstm", "gru"):
      raise ValueError(f"cell must be 'lstm' or 'gru', got {self.cell!r}")
    is_lstm = self.cell == "lstm"
    gates_width = (4 if is_lstm else 3) * self.width
    inputs = Dense(
      gates_width,
      bias_init=_forget_bias if is_lstm else nn.initializers.zeros,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="input",
    )(values)
    param_dtype, dtype = jnp.dtype(self.param_dtype), jnp.dtype(self.dtype)
    kernel = self.param(
      "kernel", _orthogonal_gates, (self.width, gates_width), param_dtype
    ).astype(dtype)
    state = jnp.zeros((values.shape[0], self.width), dtype)
    if is_lstm:
      state = (state, state)
      step_fn = functools.partial(lstm_step, kernel=kernel)
    else:
      bias = self.param(
        "bias", nn.initializers.zeros, (self.width,), param_dtype
      ).astype(dtype)
      step_fn = functools.partial(gru_step, kernel=kernel, bias=bias)
    state, outputs = scan_masked(
      step_fn, state, inputs, mask, reverse=self.reverse
    )
    return outputs, state[0] if is_lstm else state


class Recurrent(nn.Module):
  """One recurrent layer, in one or both directions.

  Attributes:
    width: features of the state of each direction.
    cell: "lstm" or "gru".
    bidirectional: whether a second state runs from the end to the start.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  cell: str = "lstm"
  bidirectional: bool = False
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, values: Array, mask: Array) -> tuple[Array, Array]:
    """Reads sequences.

    Args:
      values: [B, T, D].
      mask: bool [B, T], True = present, in any pattern.

    Returns:
      The outputs [B, T, W], zeros where masked, and the last outputs [B, W] of
      each direction. W is `width`, or twice that with both directions.

    Raises:
      ValueError: `cell` is unknown, or the mask has another shape.
    """
    if values.ndim != 3 or mask.shape != values.shape[:2]:
      raise ValueError(
        "a recurrent layer needs values [B, T, D] and a mask [B, T], got"
        f" {list(values.shape)} and {list(mask.shape)}"
      )
    values = jnp.where(mask[..., None], values.astype(self.dtype), 0)
    names = ("forward", "backward") if self.bidirectional else ("forward",)
    runs = [
      RecurrentDirection(
        self.width,
        cell=self.cell,
        reverse=name == "backward",
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=name,
      )(values, mask)
      for name in names
    ]
    outputs, last = zip(*runs, strict=True)
    return jnp.concatenate(outputs, -1), jnp.concatenate(last, -1)


def _forget_bias(rng: Array, shape: tuple[int], dtype: Any) -> Array:
  """Zeros, but ones for the forget gate of an LSTM."""
  del rng
  gates = jnp.array([0.0, 1.0, 0.0, 0.0], dtype)
  return jnp.repeat(gates, shape[0] // 4)


def _orthogonal_gates(rng: Array, shape: tuple[int, int], dtype: Any) -> Array:
  """An orthogonal square matrix for each gate, side by side."""
  width, num_gates = shape[0], shape[1] // shape[0]
  init = nn.initializers.orthogonal()
  rngs = jax.random.split(rng, num_gates)
  gates = [init(rng, (width, width), dtype) for rng in rngs]
  return jnp.concatenate(gates, axis=1)
