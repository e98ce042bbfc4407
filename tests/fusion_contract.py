"""What the contract tests of all fusions share: tokens, weights, a case.

Each file `cases_*.py` beside this one holds a table `CASES` of one family.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from first_values import compute_first_values

from mmjax.array_types import Array, Tokens

WIDTH = 6
BATCH = 4
EVERY = (1, 2, 3, 4, 5)
# Modalities are added in this order, which is not the sorted one.
SIZES = {"image": 5, "text": 7, "audio": 3, "video": 4, "records": 9}
SLOW = (3, 4)  # between two and five little is new: `pytest -m slow`
ALIGNED_SIZE = 6  # also a grid of three rows and two columns
WIDTHS = {"image": 5, "text": 7, "audio": 11, "video": 3, "records": 2}


@dataclasses.dataclass(frozen=True)
class Case:
  """One fusion of the catalogue.

  Attributes:
    make: from a number of modalities to the module.
    counts: number of parameters by number of modalities, which are one to
      five, unless the case says what there is to prevent it.
    widths: of the tokens by modality.
    aligned: whether token i of all modalities belongs together; they are then
      equally many.
    symmetric: whether the modalities' names and order mean nothing, so that
      renaming them, with their parameters, changes nothing.
    mixes: whether the first group that comes out depends on every modality.
    grid: whether the tokens fill a grid, so that their number is given.
    ranks: of parameters that are a stack of like parts (the terms of a sum,
      latents), by the end of their path: what puts the parts on the first
      axis. Each part has to learn, and what no other one does.
    rounding: largest difference that another order of operations makes.
    not_compared: why the fusion is not in `experiments/comparisons/fusions.py`.
  """

  make: Callable[[int], nn.Module]
  counts: Mapping[int, int]
  widths: Mapping[str, int] = dataclasses.field(default_factory=lambda: WIDTHS)
  aligned: bool = False
  symmetric: bool = False
  mixes: bool = True
  grid: bool = False
  ranks: Mapping[str, Callable[[Array], Array]] = dataclasses.field(
    default_factory=dict
  )
  rounding: float = 1e-5
  not_compared: str | None = None


def parametrize(fixture, pairs):
  """Hands a fixture each (name, number); some numbers only if asked for."""
  return pytest.mark.parametrize(
    fixture,
    [
      pytest.param(
        pair,
        id=f"{pair[0]}-{pair[1]}",
        marks=[pytest.mark.slow] if pair[1] in SLOW else [],
      )
      for pair in pairs
    ],
    indirect=True,
  )


def equal_widths():
  """Widths for fusions that need one and the same from all modalities."""
  return dict.fromkeys(SIZES, WIDTH)


def make_tokens(case, number, batch=BATCH):
  """Random tokens; the last ones masked, at least two there."""
  rng = np.random.default_rng(3)
  tokens = {}
  for m in list(SIZES)[:number]:
    size = ALIGNED_SIZE if case.aligned else SIZES[m]
    values = rng.normal(size=(batch, size, case.widths[m])).astype(np.float32)
    lengths = rng.integers(2, size + 1, batch)
    lengths[-1] = 2
    mask = np.arange(size) < lengths[:, None]
    tokens[m] = Tokens(jnp.asarray(values), jnp.asarray(mask))
  return tokens


def make_variables(module, tokens):
  """Weights of a good size from numpy; none is at its special start."""
  return randomize(
    jax.eval_shape(
      lambda rng: module.init(rng, tokens, train=False), jax.random.key(0)
    )
  )


def randomize(variables):
  """Replaces each parameter, or the shape of one; see `make_variables`."""
  paths, tree = jax.tree_util.tree_flatten_with_path(variables)
  rng = np.random.default_rng(11)
  leaves = []
  for path, leaf in paths:
    fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 100.0
    centre = 1.0 if path[-1].key.endswith(("scale", "gain")) else 0.0
    noise = rng.normal(centre, fan_in**-0.5, leaf.shape)
    leaves.append(jnp.asarray(noise, leaf.dtype))
  return jax.tree.unflatten(tree, leaves)


def make_run_fn(module):
  """Makes (variables, tokens) -> (outputs, gradients), in one program.

  The loss is a regression of the groups' means to random numbers: what reads
  each token by itself would tell latents apart that no head can.
  """

  def compute_loss(variables, tokens):
    out = module.apply(variables, tokens, train=False)
    loss = 0.0
    for number, group in enumerate(out.split_groups()):
      there = group.mask[..., None]
      total = jnp.where(there, group.values.astype(jnp.float32), 0).sum(axis=1)
      mean = total / jnp.maximum(there.sum(axis=1), 1)
      goal = jax.random.normal(jax.random.key(number), mean.shape)
      errors = jnp.where(there.any(axis=1), mean - goal, 0)
      loss += jnp.square(errors).sum(axis=-1).mean()
    return loss, out

  def run(variables, tokens):
    (_, out), grads = jax.value_and_grad(compute_loss, has_aux=True)(
      variables, tokens
    )
    return out, grads

  return jax.jit(run)


class Fixture:
  """A case with a number of modalities, compiled once for all its tests.

  Attributes:
    first: the variables that `init` gives.
    variables: variables of which none is at its special start.
    apply: (variables, tokens) -> outputs.
    run: (variables, tokens) -> (outputs, gradients).
  """

  def __init__(self, case, number):
    self.case, self.number = case, number
    self.module = case.make(number)
    self.tokens = make_tokens(case, number)
    self.apply = jax.jit(
      lambda variables, tokens: self.module.apply(
        variables, tokens, train=False
      )
    )
    self.run = make_run_fn(self.module)

  @functools.cached_property
  def first(self):
    return compute_first_values(
      lambda rng: self.module.init(rng, self.tokens, train=False)
    )

  @functools.cached_property
  def variables(self):
    return randomize(self.first)


def present(out):
  """The values, with zeros where they mean nothing."""
  return np.where(
    np.asarray(out.mask)[..., None], np.asarray(out.values, np.float32), 0
  )


def sizes_by_path(tree):
  """The largest absolute value of each leaf, by its path."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path): float(np.abs(leaf).max())
    for path, leaf in leaves
  }


def rename(tree, names):
  """Renames modalities wherever one is a word of a name in nested dicts."""
  if not isinstance(tree, dict):
    return tree
  return {
    "_".join(names.get(word, word) for word in name.split("_")): rename(
      value, names
    )
    for name, value in tree.items()
  }
