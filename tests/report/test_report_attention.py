"""What models sow, gathered and reduced; sizes are odd primes."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.report.attention import (
  collect_attention,
  collect_grids,
  final_weights,
  image_over_words,
  pooled_cells,
  pooled_words,
  select_example,
  words_over_image,
)

_NAMES = ("image", "text")


class _Fusion(nn.Module):
  @nn.compact
  def __call__(self, inputs):
    for number in range(3):
      weights = jnp.full((5, 2, 7, 15), number, jnp.float32)
      self.sow("intermediates", "text_over_image", weights + inputs)
    self.sow("intermediates", "self_attention", inputs)
    return inputs


class _Model(nn.Module):
  @nn.compact
  def __call__(self, inputs):
    return _Fusion(name="fusion")(inputs)


def test_collects_what_a_module_sows_once_a_round():
  _, sown = _Model().apply({}, jnp.zeros(()), mutable=["intermediates"])
  attention = collect_attention(sown["intermediates"], _NAMES)
  assert {k: v.shape for k, v in attention.items()} == {
    "text_over_image": (5, 3, 2, 7, 15)
  }
  np.testing.assert_array_equal(
    attention["text_over_image"][0, :, 0, 0, 0], [0, 1, 2]
  )


def test_rounds_in_submodules_keep_their_order():
  tree = {
    f"round_{number}": {"text_over_image": (np.full((1, 1, 1, 1), number),)}
    for number in (10, 2, 1)
  }
  rounds = collect_attention(tree, _NAMES)["text_over_image"]
  assert rounds.ravel().tolist() == [1, 2, 10]


@pytest.mark.parametrize(
  "names", [("pool_image", "pool_text"), ("image_pool", "text_pool"), "01"]
)
def test_pools_are_named_by_modality_or_place(names):
  first, second = names if len(names[0]) > 1 else ("pooling_0", "pooling_1")
  tree = {
    "head": {
      first: {"pool": (np.ones((3, 15)),)},
      second: {"pool": (np.zeros((3, 7)),)},
      "other": {"pool": (np.zeros((3, 2)),)},
    }
  }
  attention = collect_attention(tree, _NAMES)
  assert {k: v.shape for k, v in attention.items()} == {
    "pool_image": (3, 15),
    "pool_text": (3, 7),
  }
  assert select_example(attention, 2)["pool_text"].shape == (7,)


def test_pools_in_heads_of_one_modality_are_that_modality():
  tree = {
    f"heads_{name}": {"pool_0": {"pool": (np.full((3, size), size),)}}
    for name, size in (("image", 15), ("text", 7))
  }
  attention = collect_attention(tree, _NAMES)
  assert attention["pool_image"].shape == (3, 15)
  assert attention["pool_text"].shape == (3, 7)


def test_a_model_without_attention_gives_nothing():
  assert collect_attention({}, _NAMES) == {}


def test_grids_are_found_under_their_encoder():
  tree = {"encoders_image": {"inner": {"grid": (jnp.array([3, 5]),)}}}
  assert collect_grids(tree, _NAMES) == {"image": (3, 5)}


def _attention(query, key, weights):
  return {f"{query}_over_{key}": np.asarray(weights, np.float32)}


def test_the_last_round_is_averaged_over_heads():
  weights = np.zeros((2, 3, 1, 5))
  weights[0] = 9.0
  weights[1, 0, 0, 2] = 0.6
  reduced = final_weights(_attention("text", "image", weights), "text", "image")
  np.testing.assert_allclose(reduced, [[0, 0, 0.2, 0, 0]], atol=1e-7)


def test_words_look_at_the_cells_of_the_grid_row_by_row():
  weights = np.zeros((1, 2, 7, 15))
  weights[0, :, 1, 7] = 1.0  # row 1, column 2 of a 3 x 5 grid
  maps = words_over_image(_attention("text", "image", weights), 3, (3, 5))
  assert maps.shape == (3, 3, 5)
  assert np.argwhere(maps).tolist() == [[1, 1, 2]]


@pytest.mark.parametrize("grid", [None, (4, 4)])
def test_tokens_that_do_not_fill_the_grid_are_not_drawn(grid):
  attention = _attention("text", "image", np.ones((1, 1, 7, 15)))
  assert words_over_image(attention, 3, grid) is None
  assert pooled_cells({"pool_image": np.ones(15)}, grid) is None


def test_weights_of_words_leave_padding_out_and_sum_to_one():
  weights = np.zeros((1, 1, 2, 5))
  weights[0, 0] = [[0.1, 0.3, 0, 0, 0.6], [0.1, 0.1, 0, 0, 0.8]]
  shares = image_over_words(_attention("image", "text", weights), 3)
  np.testing.assert_allclose(shares, [1 / 3, 2 / 3, 0], atol=1e-6)
  pooled = pooled_words({"pool_text": np.array([0.2, 0.2])}, 3)
  np.testing.assert_allclose(pooled, [0.5, 0.5, 0])  # the third was cut off


def test_a_text_of_one_token_is_not_its_first_word():
  weights = _attention("image", "text", np.ones((1, 1, 15, 1)))
  assert image_over_words(weights, 3) is None
  assert image_over_words(weights, 1).tolist() == [1]
  assert pooled_words({"pool_text": np.ones(1)}, 3) is None


def test_absent_attention_is_none():
  assert words_over_image({}, 3, (3, 5)) is None
  assert image_over_words({}, 3) is None
  assert pooled_words({}, 3) is None
  assert pooled_cells({}, (3, 5)) is None
