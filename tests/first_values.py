"""What `init` gives, without the forward pass that it drags along."""

import jax
from jax.extend.core import Literal


def compute_first_values(init_fn, seed=0):
  """Computes `init_fn(rng)`, and of it only what the results need.

  A module's `init` runs the module. Compiling that takes seconds, and so does
  running it step by step; the initializers alone are a handful of programs,
  which all modules share.

  Args:
    init_fn: from an rng to a tree.
    seed: that of the rng.

  Returns:
    The tree, bit for bit as it comes from `init_fn` when it is not compiled.
  """
  rng = jax.random.key(seed)
  closed, shapes = jax.make_jaxpr(init_fn, return_shape=True)(rng)
  jaxpr = closed.jaxpr
  values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
  values[jaxpr.invars[0]] = rng
  for eqn in _needed(jaxpr):
    outputs = eqn.primitive.bind(
      *(_read(values, var) for var in eqn.invars), **eqn.params
    )
    if not eqn.primitive.multiple_results:
      outputs = [outputs]
    values.update(zip(eqn.outvars, outputs, strict=True))
  leaves = [_read(values, var) for var in jaxpr.outvars]
  return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _needed(jaxpr):
  """The equations that the results depend on, in their order."""
  needed = {var for var in jaxpr.outvars if not isinstance(var, Literal)}
  kept = []
  for eqn in reversed(jaxpr.eqns):
    if needed.intersection(eqn.outvars):
      kept.append(eqn)
      needed.update(v for v in eqn.invars if not isinstance(v, Literal))
  return kept[::-1]


def _read(values, var):
  return var.val if isinstance(var, Literal) else values[var]
