"""What fusions sow for reports, and how they refuse wrong input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases_token_fusions import (
  CO_ATTENTION,
  CONCAT,
  GRAPH,
  SIZES,
  UNEQUAL,
  make_tokens,
  setup_fusion,
)

from mmjax.array_types import Tokens


@pytest.mark.parametrize("name", ["co_2", "co_self_2", "graph_2"])
def test_sown_weights_are_distributions_over_present_keys(name):
  module, variables, tokens = setup_fusion(name)
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
  good = make_tokens(["image", "text"], None)

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
  tokens = make_tokens(["image", "text"], UNEQUAL)
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
  tokens = make_tokens(["image", "text"], None)
  with pytest.raises(ValueError, match=match):
    GRAPH.clone(**changes).init(jax.random.key(0), tokens, train=False)
