"""Encoders in stages: their parts are the whole, and tokens go in between."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases_video import CASES as CLIP_CASES
from module_checks import random_variables
from test_encoders_contract import CASES as OTHER_CASES

from mmjax.array_types import Tokens
from mmjax.encoders.extended import (
  ConvolutionStage,
  ExtendedEncoder,
  TransformerStage,
)
from mmjax.encoders.features import FeatureEncoder
from mmjax.encoders.staged import Stage, StagedEncoder

pytestmark = pytest.mark.usefixtures("fast_compilation")

# How often each can be stopped behind its beginning.
NUM_STAGES = {
  "grid": 2,
  "grid_stem": 1,
  "patch": 2,
  "lstm": 1,
  "gru_two_layers": 2,
  "transformer": 2,
  "spectrogram": 2,
  "spectrogram_wave": 1,
  "frames_lstm": 1,
  "frames_gru_wave": 1,
  "conv_transformer": 2 + 1,
  "record_transformer": 1,
  "record_mlp": 1,
  "features_vector": 0,
  "features_mlp_without_norm": 1,
  "features_lstm": 1,
  "features_transformer": 1,
  "bag_of_words": 0,
  "clips_resnet": 4,
  "clips_conv3d": 2,
  "clips_conv3d_lstm": 2 + 1,
  "clips_two_stream": 0,
  "clips_two_stream_flow": 0,
  "clips_frames_lstm": 1 + 1,
  "clips_frames_transformer": 1 + 1,
  "clips_graph": 1 + 2,
  "clips_graph_tokens": 2 + 1,
  "clips_tubelet_joint": 1,
  "clips_tubelet_factorised": 1 + 1,
}
CASES = {name: case[:2] for name, case in OTHER_CASES.items()} | {
  f"clips_{name}": (case.make("float32"), (case.values, case.mask))
  for name, case in CLIP_CASES.items()
}

names = pytest.mark.parametrize("name", CASES)


class InParts(nn.Module):
  """Runs an encoder part by part, and takes every stage apart in between."""

  encoder: StagedEncoder
  through_tokens: bool

  @nn.compact
  def __call__(self, values, mask, *, train):
    """Returns the tokens, and those behind each stage."""
    seen = []
    for depth in range(self.encoder.num_stages + 1):
      if depth == 0:
        stage = self.encoder.begin(values, mask, train=train)
      else:
        stage = self.encoder.run_stage(depth - 1, stage, train=train)
      seen.append(stage.to_tokens())
      if self.through_tokens:
        stage = stage.with_tokens(seen[-1])
    return self.encoder.finish(stage, train=train), seen


@functools.cache
def _run(name):
  """Of each encoder the tokens as a whole, in parts, and through tokens."""
  module, inputs = CASES[name]
  variables = random_variables(module.init, *inputs, train=False)
  inner = {"params": {"encoder": variables["params"]}}

  @jax.jit
  def run(variables, inner, values, mask):
    whole = module.apply(variables, values, mask, train=False)
    parts = [
      InParts(module, through).apply(inner, values, mask, train=False)
      for through in (False, True)
    ]
    return whole, *parts

  return run(variables, inner, *inputs)


@names
def test_the_parts_are_the_whole(name):
  whole, (parts, seen), _ = _run(name)
  chex.assert_trees_all_equal(parts, whole)
  assert len(seen) == NUM_STAGES[name] + 1


@names
def test_stages_are_tokens_with_zeros_where_masked(name):
  whole, (_, seen), (through, _) = _run(name)
  for tokens in seen:
    assert tokens.values.ndim == 3
    assert tokens.mask.shape == tokens.values.shape[:2]
    np.testing.assert_array_equal(tokens.values[~tokens.mask], 0)
    np.testing.assert_array_equal(tokens.mask.any(1), whole.mask.any(1))
  np.testing.assert_array_equal(through.mask, whole.mask)
  np.testing.assert_allclose(through.values, whole.values, atol=1e-5)


def test_a_grid_becomes_tokens_and_a_grid_again():
  values = np.arange(2 * 3 * 5 * 7.0).reshape(2, 3, 5, 7).astype(np.float32)
  mask = np.array([[True, False, True], [False, False, True]])
  stage = Stage(jnp.asarray(values), jnp.asarray(mask))
  tokens = stage.to_tokens()
  np.testing.assert_array_equal(tokens.mask, np.repeat(mask, 5, axis=1))
  expected = np.where(mask[..., None, None], values, 0)
  np.testing.assert_array_equal(tokens.values, expected.reshape(2, 15, 7))
  again = stage.with_tokens(tokens)
  np.testing.assert_array_equal(again.values, expected)
  np.testing.assert_array_equal(again.mask, mask)
  rows = Stage(jnp.asarray(values), jnp.array([True, False]))
  np.testing.assert_array_equal(
    rows.to_tokens().mask, np.repeat([[True], [False]], 15, axis=1)
  )
  half = Stage(jnp.asarray(values, jnp.bfloat16), jnp.asarray(mask))
  assert half.with_tokens(tokens).values.dtype == jnp.bfloat16


def test_stages_can_be_added_behind_any_encoder():
  added = (
    ConvolutionStage(mlp_dim=5),
    TransformerStage(6, num_heads=3, mlp_dim=5, num_layers=2),
  )
  module = ExtendedEncoder(FeatureEncoder(6, body="lstm"), added)
  assert module.num_stages == 2
  _, inputs = CASES["features_lstm"]
  variables = random_variables(module.init, *inputs, train=False)
  params = variables["params"]
  assert set(params) == {"stem", "stages_0", "stages_1"}
  run = jax.jit(
    lambda module, params, *args: module.apply(
      {"params": params}, *args, train=False
    ),
    static_argnums=0,
  )
  tokens = run(module.stem, params["stem"], *inputs)
  for i, stage in enumerate(added):
    tokens = run(stage, params[f"stages_{i}"], tokens)
  found = run(module, params, *inputs)
  chex.assert_trees_all_close(found, tokens, atol=1e-5)
  np.testing.assert_array_equal(found.values[~found.mask], 0)


def test_a_stage_that_does_not_fill_its_grid_is_named():
  stage = ConvolutionStage(mlp_dim=3, grid=(2, 2))
  tokens = Tokens(jnp.zeros([1, 5, 3]), jnp.ones([1, 5], bool))
  with pytest.raises(ValueError, match=r"needs 4 tokens, got \[1, 5, 3\]"):
    stage.init(jax.random.key(0), tokens, train=False)
