"""What bilinear fusions are made of: products, sketches, signed roots.

Count sketch: Charikar et al. 2002, "Finding Frequent Items in Data Streams",
https://doi.org/10.1007/3-540-45465-9_59. Signed root and norm after a bilinear
pooling: Perronnin et al. 2010, "Improving the Fisher Kernel for Large-Scale
Image Classification", https://doi.org/10.1007/978-3-642-15561-1_11.

Differs from the papers: the root has a finite slope at zero, and so has the
norm.
"""

import functools
from collections.abc import Mapping

import jax.numpy as jnp

from mmjax.array_types import Array


def check_sizes(owner: str, sizes: Mapping[str, int]) -> None:
  """Raises ValueError unless all sizes, by their names, are at least one."""
  for name, size in sizes.items():
    if size < 1:
      raise ValueError(f"{owner} needs {name} of at least 1, got {size}")


def check_norm(owner: str, name: str, size: int) -> None:
  """Raises ValueError if a norm of one would leave nothing but a sign.

  A number over its own size is 1 or -1, whatever the number, and its gradient
  is zero: no parameter that made it would learn.
  """
  if size < 2:
    raise ValueError(
      f"{owner} needs {name} of at least 2, got {size}: it brings that many"
      " numbers to norm one, and of a single one the sign would be left and"
      f" nothing would learn; make {name} larger"
    )


def append_one(vector: Array) -> Array:
  """Makes [B, D] the vector [B, D + 1] that ends in a one.

  A product with it keeps the terms of lower order, too.
  """
  return jnp.concatenate([vector, jnp.ones_like(vector[:, :1])], axis=1)


def multiply_present(
  factors: Mapping[str, Array], present: Mapping[str, Array]
) -> Array:
  """Multiplies the modalities that are there; a missing one is a factor of 1.

  Args:
    factors: [B, ...] of each modality, all of one shape.
    present: bool [B] of each modality.

  Returns:
    [B, ...]; ones where every modality is missing.
  """
  kept = []
  for m in sorted(factors):
    ndim = factors[m].ndim
    there = present[m].reshape(-1, *[1] * (ndim - 1))
    kept.append(jnp.where(there, factors[m], 1))
  return functools.reduce(jnp.multiply, kept)


def signed_sqrt(values: Array, epsilon: float = 1e-8) -> Array:
  r"""Takes the square root of the size and keeps the sign.

  .. math:: x / \sqrt{|x| + \epsilon}

  Far from zero it is the signed root; at zero the root would have an infinite
  slope, and this has :math:`\epsilon^{-1/2}`. Computed in float32.

  Args:
    values: any shape.
    epsilon: what counts as zero.

  Returns:
    An array of the same shape and dtype.
  """
  wide = values.astype(jnp.float32)
  return (wide / jnp.sqrt(jnp.abs(wide) + epsilon)).astype(values.dtype)


def l2_normalize(values: Array, epsilon: float = 1e-6) -> Array:
  """Divides by the Euclidean norm of the last axis.

  Computed in float32.

  Args:
    values: [..., D].
    epsilon: a norm below it is taken for it, so that zeros stay zeros and
      their gradient is finite.

  Returns:
    The shape and dtype of `values`.
  """
  wide = values.astype(jnp.float32)
  squares = jnp.square(wide).sum(axis=-1, keepdims=True)
  norm = jnp.sqrt(jnp.maximum(squares, epsilon**2))
  return (wide / norm).astype(values.dtype)


def count_sketch(
  values: Array, hashes: Array, signs: Array, sketch_dim: int
) -> Array:
  r"""Adds each feature, with its sign, to the place that its hash names.

  .. math:: \Psi(x)_j = \sum_{i : h(i) = j} s(i) \, x_i

  Over random hashes and signs the inner product of two sketches is that of the
  vectors, in expectation.

  Args:
    values: [B, D].
    hashes: int [D], each in [0, sketch_dim).
    signs: [D], each 1 or -1.
    sketch_dim: places of the sketch.

  Returns:
    [B, sketch_dim] in the dtype of `values`.
  """
  signed = values * jnp.asarray(signs, values.dtype)
  empty = jnp.zeros((values.shape[0], sketch_dim), values.dtype)
  return empty.at[:, hashes].add(signed)
