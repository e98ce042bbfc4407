"""How a fusion leaves the start that `init` gives it.

Weights of a good size hide what a start can spoil: zeros that multiply zeros,
or parts that start alike and stay alike. A layer that starts at zero holds
back the gradient of those before it for one step, but for no longer: a few
plain steps bring everything to move that ever will.
"""

import jax
import jax.numpy as jnp
import numpy as np

NUM_STEPS = 3
LEARNING_RATE = 0.01  # products of five diverge with more


def train(fixture):
  """The variables after some steps of gradient descent, and how they moved."""
  variables = fixture.first
  for _ in range(NUM_STEPS):
    _, grads = fixture.run(variables, fixture.tokens)
    variables = jax.tree.map(
      lambda v, g: v - LEARNING_RATE * g, variables, grads
    )
  return variables, jax.tree.map(jnp.subtract, variables, fixture.first)


def flatten(tree):
  """The leaves of a tree, by their paths."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
    for path, leaf in leaves
  }


def find_still(moved):
  """The paths of what has not moved, but for rounding noise.

  Of a stack of matrices, as the taps of a filter are one, each has to move.
  """
  moved = flatten(moved)
  floor = _find_floor(moved)
  still = {path for path, leaf in moved.items() if _size(leaf) <= floor}
  for path, leaf in moved.items():
    for axis in range(leaf.ndim - 2):
      if min(map(_size, np.moveaxis(leaf, axis, 0))) <= floor:
        still.add(f"{path}, along axis {axis}")
  return still


def find_twins(variables):
  """The paths of matrices of which two slices along an axis are alike."""
  return {
    f"{path}, along axis {axis}"
    for path, leaf in flatten(variables).items()
    for axis in range(leaf.ndim)
    if leaf.ndim > 1 and _are_alike(np.moveaxis(leaf, axis, 0))
  }


def find_idle_ranks(case, moved):
  """The paths of stacks with a part that does not learn, or as another does.

  Raises:
    ValueError: the case names a parameter that there is not.
  """
  moved = flatten(moved)
  floor = _find_floor(moved)
  idle = set()
  for end, split_fn in case.ranks.items():
    found = [path for path in moved if path.endswith(end)]
    if not found:
      raise ValueError(f"no parameter ends in {end}: {', '.join(moved)}")
    for path in found:
      parts = np.asarray(split_fn(moved[path]))
      if min(map(_size, parts)) <= floor or _are_alike(parts):
        idle.add(path)
  return idle


def _size(values):
  return np.abs(values).max()


def _find_floor(moved):
  """What is noise beside the median of the parameters."""
  sizes = [_size(leaf) for leaf in moved.values()]
  assert np.isfinite(sizes).all(), "training diverged"
  return 1e-5 * np.median(sizes) if sizes else 0.0


def _are_alike(parts):
  """Whether two of the parts [K, ...] are the same, but for rounding."""
  flat = np.float64(parts).reshape(len(parts), -1)
  rounded = np.round(flat / (np.abs(flat).max() or 1.0), 5)
  return len(np.unique(rounded, axis=0)) < len(parts)
