"""What every fusion promises, from one table."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.array_types import Tokens
from mmjax.fusion.co_attention import CoAttention
from mmjax.fusion.concat import Concat
from mmjax.fusion.graph import GraphFusion

WIDTH = 6
SIZES = {"image": 5, "audio": 3, "text": 7}
UNEQUAL = {"image": 5, "audio": 11, "text": 7}
ATTENTION, MLP, NORM = 162, 149, 12  # of width 6, 3 heads, hidden layer 11


def _count_concat(widths):
  return sum(width * 6 + 6 for width in widths)


def _count_co_attention(widths, self_attention=False, rounds=2):
  m = len(widths)
  pairs = m * m if self_attention else m * (m - 1)
  norms = m if pairs else 0
  one = pairs * ATTENTION + (norms + m) * NORM + m * MLP
  return rounds * one + m * NORM


def _count_graph(widths, edge_types=None, use_global=True, rounds=2):
  m = len(widths)
  edge_types = m * m if edge_types is None else edge_types
  one = m * (2 * NORM + MLP) + (2 * m + 2 * edge_types) * 36
  if use_global:
    one += 2 * m * 36 + NORM
  gains = (rounds - 1) * edge_types * 3
  return _count_concat(widths) + rounds * one + gains + m * NORM


CONCAT = Concat(WIDTH)
CO_ATTENTION = CoAttention(WIDTH, num_heads=3, mlp_dim=11)
CO_ATTENTION_SELF = CO_ATTENTION.clone(self_attention=True, num_rounds=1)
GRAPH = GraphFusion(WIDTH, num_heads=3, mlp_dim=11)
GRAPH_ACROSS = GRAPH.clone(within="none", use_global=False, num_rounds=1)

# name: module, modalities, widths, number of parameters
CASES = {
  "concat_1": (CONCAT, ["image"], None, 42),
  "concat_2": (CONCAT, ["image", "text"], UNEQUAL, _count_concat([5, 7])),
  "concat_3": (CONCAT, list(SIZES), UNEQUAL, _count_concat([5, 11, 7])),
  "co_1": (CO_ATTENTION, ["text"], None, _count_co_attention([6])),
  "co_2": (CO_ATTENTION, ["image", "text"], None, _count_co_attention([6, 6])),
  "co_3": (
    CO_ATTENTION.clone(num_rounds=1),
    list(SIZES),
    None,
    _count_co_attention([6, 6, 6], rounds=1),
  ),
  "co_self_2": (
    CO_ATTENTION_SELF,
    ["image", "text"],
    None,
    _count_co_attention([6, 6], True, rounds=1),
  ),
  "graph_1": (GRAPH, ["image"], UNEQUAL, _count_graph([5])),
  "graph_2": (GRAPH, ["image", "text"], None, _count_graph([6, 6])),
  "graph_3": (
    GRAPH.clone(num_rounds=1),
    list(SIZES),
    UNEQUAL,
    _count_graph([5, 11, 7], rounds=1),
  ),
  "graph_across_3": (
    GRAPH_ACROSS,
    list(SIZES),
    None,
    _count_graph([6, 6, 6], edge_types=6, use_global=False, rounds=1),
  ),
}

every = pytest.mark.parametrize("name", CASES)
some = pytest.mark.parametrize("name", ["concat_2", "co_2", "graph_2"])
several = pytest.mark.parametrize(
  "name", [n for n, (_, modalities, *_) in CASES.items() if len(modalities) > 1]
)


def _make_tokens(modalities, widths, batch=4):
  """Random tokens; the last ones masked, in the last example almost all."""
  rng = np.random.default_rng(3)
  tokens = {}
  for m in modalities:
    width = WIDTH if widths is None else widths[m]
    values = rng.normal(size=(batch, SIZES[m], width)).astype(np.float32)
    lengths = rng.integers(2, SIZES[m] + 1, batch)
    lengths[-1] = 2
    mask = np.arange(SIZES[m]) < lengths[:, None]
    tokens[m] = Tokens(jnp.asarray(values), jnp.asarray(mask))
  return tokens


@functools.cache
def _setup(name):
  """Module, variables and tokens; no parameter is at its special start."""
  module, modalities, widths, _ = CASES[name]
  tokens = _make_tokens(modalities, widths)
  shapes = jax.eval_shape(
    lambda rng: module.init(rng, tokens, train=False), jax.random.key(0)
  )
  paths, tree = jax.tree_util.tree_flatten_with_path(shapes)
  rng = np.random.default_rng(11)
  leaves = []
  for path, leaf in paths:
    spread = leaf.shape[0] ** -0.5 if leaf.ndim == 2 else 0.1
    centre = 1.0 if path[-1].key.endswith(("scale", "gain")) else 0.0
    leaves.append(
      jnp.asarray(rng.normal(centre, spread, leaf.shape), leaf.dtype)
    )
  return module, jax.tree.unflatten(tree, leaves), tokens


@functools.cache
def _apply_fn(name):
  module = CASES[name][0]
  return jax.jit(lambda v, tokens: module.apply(v, tokens, train=False))


@functools.cache
def _grad_fn(name):
  module = CASES[name][0]

  def total(variables, tokens):
    out = module.apply(variables, tokens, train=False)
    weights = jax.random.normal(jax.random.key(13), out.values.shape)
    return jnp.where(out.mask[..., None], out.values * weights, 0).sum()

  return jax.jit(jax.grad(total))


def _present(out):
  return np.where(np.asarray(out.mask)[..., None], out.values, 0)


@every
def test_shapes_dtype_and_number_of_parameters(name):
  _, variables, tokens = _setup(name)
  out = _apply_fn(name)(variables, tokens)
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
  _, variables, tokens = _setup(name)
  changed = {
    m: t.replace(values=jnp.where(t.mask[..., None], t.values, jnp.nan))
    for m, t in tokens.items()
  }
  assert any(np.isnan(t.values).any() for t in changed.values())
  for fn in _apply_fn(name), _grad_fn(name):
    chex.assert_trees_all_equal(fn(variables, changed), fn(variables, tokens))


@pytest.mark.parametrize(
  "name", ["concat_2", "co_2", "co_self_2", "graph_1", "graph_2"]
)
def test_padding_tokens_change_nothing(name):
  """More masked tokens of one modality: the present ones stay as they are."""
  _, variables, tokens = _setup(name)
  modality = max(tokens)

  def pad(leaf):
    return jnp.pad(leaf, [(0, 0), (0, 2)] + [(0, 0)] * (leaf.ndim - 2))

  padded = {**tokens, modality: jax.tree.map(pad, tokens[modality])}
  out = _present(_apply_fn(name)(variables, tokens))
  new = _present(_apply_fn(name)(variables, padded))
  assert new.shape[1] == out.shape[1] + 2
  np.testing.assert_allclose(new[:, :-2], out, atol=1e-5)
  assert (new[:, -2:] == 0).all()


@pytest.mark.parametrize(
  "name", ["concat_2", "co_2", "co_3", "graph_2", "graph_across_3"]
)
def test_missing_modality_is_as_if_it_had_never_been_there(name):
  module, variables, tokens = _setup(name)
  missing = "text"
  absent = tokens[missing].replace(mask=jnp.zeros_like(tokens[missing].mask))
  out = _apply_fn(name)(variables, {**tokens, missing: absent})
  assert np.isfinite(out.values).all()
  pieces = dict(zip(sorted(tokens), out.split_groups(), strict=True))
  rest = {m: t for m, t in tokens.items() if m != missing}
  alone = jax.jit(lambda v, t: module.apply(v, t, train=False))(variables, rest)
  for m, piece in zip(sorted(rest), alone.split_groups(), strict=True):
    np.testing.assert_allclose(_present(pieces[m]), _present(piece), atol=1e-5)


@several
def test_missing_everything_is_finite(name):
  _, variables, tokens = _setup(name)
  absent = {
    m: t.replace(mask=jnp.zeros_like(t.mask)) for m, t in tokens.items()
  }
  assert np.isfinite(_apply_fn(name)(variables, absent).values).all()


@several
def test_other_modalities_matter_except_to_concat(name):
  _, variables, tokens = _setup(name)
  last = max(tokens)
  moved = tokens[last].replace(values=tokens[last].values[::-1])
  out = _apply_fn(name)(variables, tokens).split_groups()[0]
  new = _apply_fn(name)(variables, {**tokens, last: moved}).split_groups()[0]
  change = np.abs(_present(out) - _present(new)).max(axis=(1, 2))
  if name.startswith("concat"):
    assert (change == 0).all()
  else:
    assert (change > 1e-4).all()


@every
def test_permuting_tokens_permutes_the_output(name):
  _, variables, tokens = _setup(name)
  modality = sorted(tokens)[-1]
  order = np.random.default_rng(5).permutation(SIZES[modality])
  moved = Tokens(
    tokens[modality].values[:, order], tokens[modality].mask[:, order]
  )
  out = _apply_fn(name)(variables, tokens).split_groups()
  new = _apply_fn(name)(variables, {**tokens, modality: moved}).split_groups()
  np.testing.assert_allclose(
    new[-1].values, out[-1].values[:, order], atol=1e-5
  )
  for a, b in zip(new[:-1], out[:-1], strict=True):
    np.testing.assert_allclose(a.values, b.values, atol=1e-5)


@some
def test_order_of_insertion_does_not_matter(name):
  module, variables, tokens = _setup(name)
  turned = {m: tokens[m] for m in reversed(sorted(tokens))}
  shape = jax.eval_shape(
    lambda rng: module.init(rng, turned, train=False), jax.random.key(0)
  )
  chex.assert_trees_all_equal_shapes_and_dtypes(shape, variables)
  # An ordered mapping keeps its order through jit, a dict does not.
  apply_fn = jax.jit(
    lambda v, t: module.apply(v, {m: t[m] for m in turned}, train=False)
  )
  np.testing.assert_array_equal(
    apply_fn(variables, tokens).values,
    _apply_fn(name)(variables, tokens).values,
  )


@some
def test_jit_equals_eager(name):
  module, variables, tokens = _setup(name)
  out = _apply_fn(name)(variables, tokens)
  eager = module.apply(variables, tokens, train=False)
  np.testing.assert_allclose(out.values, eager.values, atol=1e-5)


@some
def test_batch_of_one_is_that_row_of_the_batch(name):
  _, variables, tokens = _setup(name)
  out = _apply_fn(name)(variables, tokens)
  one = jax.tree.map(lambda leaf: leaf[2:3], tokens)
  np.testing.assert_allclose(
    _apply_fn(name)(variables, one).values, out.values[2:3], atol=1e-5
  )


@every
def test_every_parameter_gets_a_gradient(name):
  _, variables, tokens = _setup(name)
  grads = _grad_fn(name)(variables, tokens)
  grads = jax.tree_util.tree_leaves_with_path(grads)
  sizes = {jax.tree_util.keystr(p): float(jnp.abs(g).max()) for p, g in grads}
  assert np.isfinite(list(sizes.values())).all()
  floor = 1e-5 * np.median(list(sizes.values()))
  assert not {path for path, size in sizes.items() if size <= floor}


@some
def test_bfloat16_is_kept_finite_and_near(name):
  module, variables, tokens = _setup(name)
  half = jax.jit(
    lambda v, t: module.clone(dtype="bfloat16").apply(v, t, train=False)
  )(variables, tokens)
  assert half.values.dtype == jnp.bfloat16
  assert np.isfinite(np.asarray(half.values, np.float32)).all()
  full = _apply_fn(name)(variables, tokens)
  assert (
    np.abs(_present(half).astype(np.float32) - _present(full)).mean() < 0.05
  )


@some
def test_dropout_is_on_in_training_only(name):
  module, variables, tokens = _setup(name)
  module = module.clone(dropout_rate=0.5)
  module.apply(variables, tokens, train=False)  # asks for no rng
  dropped = jax.jit(
    lambda rng: module.apply(
      variables, tokens, train=True, rngs={"dropout": rng}
    )
  )
  a, b = dropped(jax.random.key(1)), dropped(jax.random.key(2))
  assert np.isfinite(a.values).all()
  assert np.abs(a.values - b.values).max() > 1e-3


@pytest.mark.parametrize("name", ["co_2", "co_self_2", "graph_2"])
def test_sown_weights_are_distributions_over_present_keys(name):
  module, variables, tokens = _setup(name)
  _, state = jax.jit(
    lambda v, t: module.apply(v, t, train=False, mutable=["intermediates"])
  )(variables, tokens)
  sown = state["intermediates"]
  pairs = {
    f"{q}_over_{k}" for q in tokens for k in tokens if q != k or name != "co_2"
  }
  assert set(sown) == pairs
  for pair, rounds in sown.items():
    query, key = pair.split("_over_")
    assert len(rounds) == module.num_rounds
    for weights in rounds:
      chex.assert_shape(weights, (4, 3, SIZES[query], SIZES[key]))
      absent = ~np.asarray(tokens[key].mask)[:, None, None]
      assert (
        np.asarray(weights)[np.broadcast_to(absent, weights.shape)] == 0
      ).all()
      if name != "graph_2":
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
  if name == "graph_2":
    for number in range(2):
      for query in tokens:
        total = sum(
          sown[f"{query}_over_{k}"][number].sum(axis=-1) for k in tokens
        )
        np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize("module", [CONCAT, CO_ATTENTION, GRAPH])
def test_wrong_shapes_are_named(module):
  good = _make_tokens(["image", "text"], None)

  def message(tokens):
    with pytest.raises(ValueError, match="fusion") as error:
      jax.eval_shape(
        lambda rng: module.init(rng, tokens, train=False), jax.random.key(0)
      )
    return str(error.value)

  assert "at least one modality" in message({})
  flat = Tokens(good["text"].values[:, 0], good["text"].mask[:, 0])
  assert "text [4, 6]" in message({**good, "text": flat})
  wrong = good["text"].replace(mask=good["text"].mask[:, :3])
  assert "text [4, 7, 6], got bool [4, 3]" in message({**good, "text": wrong})
  wrong = good["text"].replace(mask=good["text"].mask.astype(jnp.float32))
  assert "float32 [4, 7]" in message({**good, "text": wrong})
  short = jax.tree.map(lambda leaf: leaf[:3], good["text"])
  text = message({**good, "text": short})
  assert "image [4, 5, 6]" in text
  assert "text [3, 7, 6]" in text


def test_co_attention_needs_one_width():
  tokens = _make_tokens(["image", "text"], UNEQUAL)
  with pytest.raises(ValueError, match=r"image \[4, 5, 5\], text \[4, 7, 7\]"):
    CO_ATTENTION.init(jax.random.key(0), tokens, train=False)


@pytest.mark.parametrize(
  ("changes", "match"),
  [
    ({"num_heads": 4}, "heads divide"),
    ({"within": "some"}, "within='all' or 'none', got 'some'"),
    ({"within": "none", "across": "none"}, "no edges between image, text"),
  ],
)
def test_graph_names_wrong_attributes(changes, match):
  tokens = _make_tokens(["image", "text"], None)
  with pytest.raises(ValueError, match=match):
    GRAPH.clone(**changes).init(jax.random.key(0), tokens, train=False)
