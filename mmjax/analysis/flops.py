"""Floating-point operations of a function, counted from its JAX program.

XLA's own cost analysis counts the body of a loop once, however often it runs,
so that an LSTM over 37 frames would seem to cost one. Here loops count as often
as they run, and nothing is compiled.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

# One operation for each number that comes out ...
_ELEMENTWISE_NAMES = """
  abs add add_any atan2 cbrt ceil clamp cos cosh div erf erf_inv erfc exp exp2
  expm1 floor integer_pow lgamma log log1p logistic max min mul neg nextafter
  pow rem round rsqrt sign sin sinh sqrt square sub tan tanh
"""
# ... or for each number that goes in.
_REDUCTION_NAMES = """
  argmax argmin cumlogsumexp cummax cummin cumprod cumsum reduce_max reduce_min
  reduce_prod reduce_sum reduce_window_max reduce_window_sum scatter-add
"""
_ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())
_REDUCTIONS = frozenset(_REDUCTION_NAMES.split())


def count_flops(fn: Callable[..., Any], *args: Any) -> int:
  """Counts the floating-point operations of one call.

  A product of matrices [n, k] and [k, m] counts 2 n k m, as does a convolution
  for its kernel, a Fourier transform 5 n log2 n (half of it for real numbers),
  a reduction one for each number that goes in, arithmetic and functions one for
  each that comes out. Comparisons, selections, copies, sorting, random numbers
  and arithmetic of integers count nothing. Of two branches the dearer counts.

  Args:
    fn: the function; it is traced, not run.
    *args: its arguments, arrays or `jax.ShapeDtypeStruct`.

  Returns:
    The number.

  Raises:
    ValueError: a loop whose number of rounds depends on the data.

  >>> x = jnp.ones((3, 5))
  >>> count_flops(lambda x: jnp.tanh(x @ x.T), x)
  99
  """
  return _count(jax.make_jaxpr(fn)(*args).jaxpr)


def inner_programs(equation: Any) -> Iterator[Any]:
  """Yields the programs that an equation of a JAX program calls."""
  for value in equation.params.values():
    for inner in value if isinstance(value, tuple | list) else (value,):
      inner = getattr(inner, "jaxpr", inner)
      if hasattr(inner, "eqns"):
        yield inner


def _count(program: Any) -> int:
  return sum(map(_count_equation, program.eqns))


def _count_equation(equation: Any) -> int:
  name = equation.primitive.name
  inner = [_count(program) for program in inner_programs(equation)]
  if name == "while":
    raise ValueError(
      "a while loop runs as often as the data say, so its operations cannot be"
      " counted; use jax.lax.scan or a fori_loop of fixed length"
    )
  if name == "scan":
    return equation.params["length"] * sum(inner)
  if name == "cond":
    return max(inner)
  if name in _ELEMENTWISE:
    return _size(equation.outvars[0])
  if name in _REDUCTIONS:
    return _size(equation.invars[-1 if name == "scatter-add" else 0])
  if name in _PRODUCTS:
    return _PRODUCTS[name](equation)
  return sum(inner)


def _size(variable: Any) -> int:
  """Numbers in an array, 0 if they are not floating-point."""
  inexact = jnp.issubdtype(variable.aval.dtype, jnp.inexact)
  return math.prod(variable.aval.shape) if inexact else 0


def _count_product(equation: Any) -> int:
  (contracted, _), _ = equation.params["dimension_numbers"]
  shape = equation.invars[0].aval.shape
  length = math.prod(shape[axis] for axis in contracted)
  return 2 * _size(equation.outvars[0]) * length


def _count_convolution(equation: Any) -> int:
  features_axis = equation.params["dimension_numbers"].rhs_spec[0]
  kernel = equation.invars[1].aval.shape
  length = math.prod(kernel) // kernel[features_axis]
  return 2 * _size(equation.outvars[0]) * length


def _count_fft(equation: Any) -> int:
  length = math.prod(equation.params["fft_lengths"])
  ends = [v.aval for v in (equation.invars[0], equation.outvars[0])]
  real = not all(jnp.issubdtype(end.dtype, jnp.complexfloating) for end in ends)
  numbers = max(math.prod(end.shape) for end in ends)
  return round((2.5 if real else 5) * numbers * math.log2(length))


_PRODUCTS = {
  "dot_general": _count_product,
  "conv_general_dilated": _count_convolution,
  "fft": _count_fft,
}
