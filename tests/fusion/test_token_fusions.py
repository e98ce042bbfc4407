"""What fusions that keep tokens promise beyond the contract."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases_token_fusions import (
  CASES,
  SIZES,
  WIDTH,
  apply_fn,
  grad_fn,
  present,
  setup_fusion,
)

from mmjax.array_types import Tokens

every = pytest.mark.parametrize("name", CASES)


@every
def test_shapes_dtype_and_number_of_parameters(name):
  _, variables, tokens = setup_fusion(name)
  out = apply_fn(name)(variables, tokens)
  modalities = sorted(tokens)
  sizes = tuple(SIZES[m] for m in modalities)
  chex.assert_shape(out.values, (4, sum(sizes), WIDTH))
  assert out.values.dtype == jnp.float32
  assert out.group_sizes == sizes
  mask = np.concatenate([tokens[m].mask for m in modalities], axis=1)
  np.testing.assert_array_equal(out.mask, mask)
  assert sum(x.size for x in jax.tree.leaves(variables)) == CASES[name][3]


@every
def test_masked_content_changes_no_output_and_no_gradient(name):
  _, variables, tokens = setup_fusion(name)
  changed = {
    m: t.replace(values=jnp.where(t.mask[..., None], t.values, jnp.nan))
    for m, t in tokens.items()
  }
  assert any(np.isnan(t.values).any() for t in changed.values())
  for fn in apply_fn(name), grad_fn(name):
    chex.assert_trees_all_equal(fn(variables, changed), fn(variables, tokens))


@every
def test_padding_tokens_change_nothing(name):
  """More masked tokens of one modality: the present ones stay as they are."""
  _, variables, tokens = setup_fusion(name)
  modality = max(tokens)

  def pad(leaf):
    return jnp.pad(leaf, [(0, 0), (0, 2)] + [(0, 0)] * (leaf.ndim - 2))

  padded = {**tokens, modality: jax.tree.map(pad, tokens[modality])}
  out = present(apply_fn(name)(variables, tokens))
  new = present(apply_fn(name)(variables, padded))
  assert new.shape[1] == out.shape[1] + 2
  np.testing.assert_allclose(new[:, :-2], out, atol=1e-5)
  assert (new[:, -2:] == 0).all()


@every
def test_missing_modality_is_as_if_it_had_never_been_there(name):
  module, variables, tokens = setup_fusion(name)
  missing = "text"
  absent = tokens[missing].replace(mask=jnp.zeros_like(tokens[missing].mask))
  out = apply_fn(name)(variables, {**tokens, missing: absent})
  assert np.isfinite(out.values).all()
  pieces = dict(zip(sorted(tokens), out.split_groups(), strict=True))
  rest = {m: t for m, t in tokens.items() if m != missing}
  alone = jax.jit(lambda v, t: module.apply(v, t, train=False))(variables, rest)
  for m, piece in zip(sorted(rest), alone.split_groups(), strict=True):
    np.testing.assert_allclose(present(pieces[m]), present(piece), atol=1e-5)


@every
def test_missing_everything_is_finite(name):
  _, variables, tokens = setup_fusion(name)
  absent = {
    m: t.replace(mask=jnp.zeros_like(t.mask)) for m, t in tokens.items()
  }
  assert np.isfinite(apply_fn(name)(variables, absent).values).all()


@every
def test_other_modalities_matter_except_to_concat(name):
  _, variables, tokens = setup_fusion(name)
  last = max(tokens)
  moved = tokens[last].replace(values=tokens[last].values[::-1])
  out = apply_fn(name)(variables, tokens).split_groups()[0]
  new = apply_fn(name)(variables, {**tokens, last: moved}).split_groups()[0]
  change = np.abs(present(out) - present(new)).max(axis=(1, 2))
  if name.startswith("concat"):
    assert (change == 0).all()
  else:
    assert (change > 1e-4).all()


@every
def test_permuting_tokens_permutes_the_output(name):
  _, variables, tokens = setup_fusion(name)
  modality = sorted(tokens)[-1]
  order = np.random.default_rng(5).permutation(SIZES[modality])
  moved = Tokens(
    tokens[modality].values[:, order], tokens[modality].mask[:, order]
  )
  out = apply_fn(name)(variables, tokens).split_groups()
  new = apply_fn(name)(variables, {**tokens, modality: moved}).split_groups()
  np.testing.assert_allclose(
    new[-1].values, out[-1].values[:, order], atol=1e-5
  )
  for a, b in zip(new[:-1], out[:-1], strict=True):
    np.testing.assert_allclose(a.values, b.values, atol=1e-5)


@every
def test_order_of_insertion_does_not_matter(name):
  module, variables, tokens = setup_fusion(name)
  turned = {m: tokens[m] for m in reversed(sorted(tokens))}
  shape = jax.eval_shape(
    lambda rng: module.init(rng, turned, train=False), jax.random.key(0)
  )
  chex.assert_trees_all_equal_shapes_and_dtypes(shape, variables)
  # An ordered mapping keeps its order through jit, a dict does not.
  turned_fn = jax.jit(
    lambda v, t: module.apply(v, {m: t[m] for m in turned}, train=False)
  )
  np.testing.assert_array_equal(
    turned_fn(variables, tokens).values,
    apply_fn(name)(variables, tokens).values,
  )


@every
def test_every_parameter_gets_a_gradient(name):
  _, variables, tokens = setup_fusion(name)
  grads = grad_fn(name)(variables, tokens)
  grads = jax.tree_util.tree_leaves_with_path(grads)
  sizes = {jax.tree_util.keystr(p): float(jnp.abs(g).max()) for p, g in grads}
  assert np.isfinite(list(sizes.values())).all()
  floor = 1e-5 * np.median(list(sizes.values()))
  assert not {path for path, size in sizes.items() if size <= floor}
