"""What every fusion of the catalogue promises, over one to five modalities.

Families are tables in `tests/cases_*.py`; adding a fusion adds a row there.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases_catalogue import CASES
from fusion_contract import (
  BATCH,
  Fixture,
  make_run_fn,
  parametrize,
  present,
  rename,
  sizes_by_path,
)
from fusion_start import find_idle_ranks, find_still, find_twins, train

from mmjax.array_types import Tokens

EVERY = [
  (name, number) for name, case in CASES.items() for number in case.counts
]
SEVERAL = [(name, number) for name, number in EVERY if number > 1]
SYMMETRIC = [(name, n) for name, n in SEVERAL if CASES[name].symmetric]
# Over one modality a sum of products is a linear map, whose terms are alike.
RANKED = [(name, n) for name, n in SEVERAL if CASES[name].ranks]
# What costs a program of its own is tried with one number of modalities: two
# where that can be, else what can.
ONCE = [
  (name, 2 if 2 in case.counts else min(case.counts))
  for name, case in CASES.items()
]

_made = {}


@pytest.fixture
def fusion(fast_compilation, request):
  """The compiled fixture of a (name, number); kept for the next test."""
  name, number = request.param
  if request.param not in _made:
    _made[request.param] = Fixture(CASES[name], number)
  return _made[request.param]


over = functools.partial(parametrize, "fusion")


@over(EVERY)
def test_shape_dtype_and_number_of_parameters(fusion):
  out, _ = fusion.run(fusion.variables, fusion.tokens)
  assert isinstance(out, Tokens)
  assert out.values.shape[0] == BATCH
  assert out.values.shape[:2] == out.mask.shape
  assert out.values.dtype == jnp.float32
  assert out.mask.dtype == jnp.bool_
  assert sum(out.groups) == out.values.shape[1]
  assert np.isfinite(out.values).all()
  count = sum(x.size for x in jax.tree.leaves(fusion.variables))
  assert count == fusion.case.counts[fusion.number]


@over(EVERY)
def test_every_parameter_gets_a_gradient(fusion):
  _, grads = fusion.run(fusion.variables, fusion.tokens)
  sizes = sizes_by_path(grads)
  assert np.isfinite(list(sizes.values())).all(), sizes
  floor = 1e-5 * np.median(list(sizes.values())) if sizes else 0.0
  assert not {path for path, size in sizes.items() if size <= floor}


@over(EVERY)
def test_every_parameter_leaves_its_start(fusion):
  variables, moved = train(fusion)
  assert not find_still(moved)
  # What starts alike and learns alike is one and the same for ever.
  assert not find_twins(variables)


@over(RANKED)
def test_every_rank_learns_and_no_two_learn_the_same(fusion):
  _, moved = train(fusion)
  assert not find_idle_ranks(fusion.case, moved)


@over(EVERY)
def test_masked_content_changes_no_output_and_no_gradient(fusion):
  changed = {
    m: t.replace(values=jnp.where(t.mask[..., None], t.values, jnp.nan))
    for m, t in fusion.tokens.items()
  }
  assert all(np.isnan(t.values).any() for t in changed.values())
  chex.assert_trees_all_equal(
    fusion.run(fusion.variables, changed),
    fusion.run(fusion.variables, fusion.tokens),
  )


@over(EVERY)
def test_missing_modalities_give_finite_outputs_and_gradients(fusion):
  absent = {
    m: t.replace(mask=jnp.zeros_like(t.mask)) for m, t in fusion.tokens.items()
  }
  some = [{**fusion.tokens, m: absent[m]} for m in fusion.tokens]
  for tokens in [*some, absent]:
    out, grads = fusion.run(fusion.variables, tokens)
    for leaf in out.values, *jax.tree.leaves(grads):
      assert np.isfinite(leaf).all()
  # The last output is that of nothing at all: nothing is there.
  assert not np.asarray(out.mask).any()


@over(SEVERAL)
def test_what_is_left_counts_when_a_modality_is_missing(fusion):
  """The output still follows every modality that is there."""
  gone, *rest = fusion.tokens
  mask = jnp.zeros_like(fusion.tokens[gone].mask)
  tokens = {**fusion.tokens, gone: fusion.tokens[gone].replace(mask=mask)}
  before = present(fusion.run(fusion.variables, tokens)[0])
  for m in rest:
    moved = tokens[m].replace(values=tokens[m].values[::-1])
    after = present(fusion.run(fusion.variables, {**tokens, m: moved})[0])
    assert np.abs(after - before).max() > 1e-5, m


@over(SEVERAL)
def test_every_modality_matters(fusion):
  out, _ = fusion.run(fusion.variables, fusion.tokens)
  start = fusion.case.mixes and slice(0, out.groups[0])
  for m, t in fusion.tokens.items():
    moved = {**fusion.tokens, m: t.replace(values=t.values[::-1])}
    new, _ = fusion.run(fusion.variables, moved)
    change = np.abs(present(new) - present(out))
    if fusion.case.mixes:
      change = change[:, start]
    assert change.max() > 1e-5, m


@over(ONCE)
def test_jit_equals_eager(fusion):
  apply_fn = jax.jit(lambda v, t: fusion.module.apply(v, t, train=False))
  out = apply_fn(fusion.variables, fusion.tokens)
  eager = fusion.module.apply(fusion.variables, fusion.tokens, train=False)
  np.testing.assert_allclose(
    present(out), present(eager), atol=fusion.case.rounding
  )
  np.testing.assert_array_equal(out.mask, eager.mask)


@over(ONCE)
def test_batch_of_one_is_that_row_of_the_batch(fusion):
  out, _ = fusion.run(fusion.variables, fusion.tokens)
  one = jax.tree.map(lambda leaf: leaf[2:3], fusion.tokens)
  new = fusion.apply(fusion.variables, one)
  np.testing.assert_allclose(
    present(new), present(out)[2:3], atol=fusion.case.rounding
  )


@over([pair for pair in ONCE if not CASES[pair[0]].grid])
def test_padding_changes_nothing(fusion):
  """Masked tokens weigh nothing either, as if they were not there."""
  before, _ = fusion.run(fusion.variables, fusion.tokens)
  padded = jax.tree.map(
    lambda x: jnp.pad(x, [(0, 0), (0, 2)] + [(0, 0)] * (x.ndim - 2)),
    fusion.tokens,
  )
  after = fusion.apply(fusion.variables, padded)
  for old, new in zip(before.split_groups(), after.split_groups(), strict=True):
    size = old.mask.shape[1]
    assert not np.asarray(new.mask[:, size:]).any()
    np.testing.assert_allclose(
      present(new)[:, :size], present(old), atol=fusion.case.rounding
    )


@over(ONCE)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_kept_finite_and_near(fusion, dtype):
  """Forward and backward, from parameters of full precision."""
  run = make_run_fn(fusion.module.clone(dtype=dtype))
  half, grads = run(fusion.variables, fusion.tokens)
  assert half.values.dtype == jnp.dtype(dtype)
  assert np.isfinite(np.asarray(half.values, np.float32)).all()
  for leaf in jax.tree.leaves(grads):
    assert leaf.dtype == jnp.float32
    assert np.isfinite(leaf).all()
  # Norms, means and softmaxes must not overflow on the way to a fair size.
  large = jax.tree.map(
    lambda x: x if x.dtype == jnp.bool_ else 100 * x, fusion.tokens
  )
  out, _ = run(fusion.variables, large)
  assert np.isfinite(np.asarray(out.values, np.float32)).all()
  out, _ = fusion.run(fusion.variables, fusion.tokens)
  full = present(out)
  scale = max(np.abs(full).mean(), 1e-3)
  assert np.abs(present(half) - full).mean() < 0.1 * scale


@over(SYMMETRIC)
def test_names_of_modalities_mean_nothing(fusion):
  """Renamed so that the sorted order turns round, with their parameters."""
  names = dict(zip(sorted(fusion.tokens), "zyxwv", strict=False))
  out, _ = fusion.run(fusion.variables, fusion.tokens)
  new = fusion.apply(
    rename(fusion.variables, names), rename(fusion.tokens, names)
  )
  pieces, others = out.split_groups(), new.split_groups()
  if len(pieces) == len(fusion.tokens):  # a group each, now the other way
    others = others[::-1]
  for a, b in zip(pieces, others, strict=True):
    np.testing.assert_allclose(
      present(a), present(b), atol=fusion.case.rounding
    )


@over(ONCE)
def test_dropout_is_on_in_training_only(fusion):
  if not hasattr(fusion.module, "dropout_rate"):
    return
  module = fusion.module.clone(dropout_rate=0.5)
  dropped = jax.jit(
    lambda rng: module.apply(
      fusion.variables, fusion.tokens, train=True, rngs={"dropout": rng}
    )
  )
  a, b = dropped(jax.random.key(1)), dropped(jax.random.key(2))
  assert np.isfinite(a.values).all()
  assert np.abs(present(a) - present(b)).max() > 1e-3
