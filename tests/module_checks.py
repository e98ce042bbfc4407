"""What the contract tests of modules share.

Importable from every test: pytest puts the folder of `conftest.py` on the path.
"""

import jax
import numpy as np


def random_variables(init_fn, *args, **kwargs):
  """Variables of the right shapes from numpy: there is no init to compile.

  Biases are not zero, so that a missing one shows.
  """
  noise = np.random.default_rng(7)
  shapes = jax.eval_shape(
    lambda rng: init_fn(rng, *args, **kwargs), jax.random.key(0)
  )
  return jax.tree.map(
    lambda x: np.asarray(0.5 * noise.normal(size=x.shape), x.dtype), shapes
  )


def assert_every_parameter_learns(loss_fn, variables):
  """Checks each gradient: finite, and above rounding noise."""
  assert_gradients_are_there(jax.jit(jax.grad(loss_fn))(variables))


def assert_gradients_are_there(grads):
  """Checks gradients that are known already."""
  grads = jax.tree_util.tree_leaves_with_path(grads)
  norms = {jax.tree_util.keystr(p): np.linalg.norm(g) for p, g in grads}
  median = np.median(list(norms.values()))
  assert np.isfinite(median), norms
  assert all(norm > 1e-5 * median for norm in norms.values()), norms


def assert_near(found, expected, share):
  """Checks two trees of arrays, the first of which may be of half precision.

  Every value is finite, and off by no more than a share of the largest one of
  its array, or of what that is for the median of the arrays.
  """
  found = jax.tree_util.tree_leaves_with_path(found)
  expected = [np.asarray(x, np.float32) for x in jax.tree.leaves(expected)]
  sizes = [np.abs(leaf).max() for leaf in expected]
  median = np.median(sizes)
  for (path, leaf), goal, size in zip(found, expected, sizes, strict=True):
    error = np.abs(np.asarray(leaf, np.float32) - goal).max()
    assert error <= share * max(size, median), jax.tree_util.keystr(path)


def find_equations(jaxpr, *primitives):
  """Yields the equations of some primitives, those of inner jaxprs included."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name in primitives:
      yield eqn
    for value in eqn.params.values():
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        yield from find_equations(inner, *primitives)


def product_dtypes(jaxpr):
  """Yields the dtypes that enter each matrix product and convolution."""
  for eqn in find_equations(jaxpr, "dot_general", "conv_general_dilated"):
    yield {var.aval.dtype for var in eqn.invars}
