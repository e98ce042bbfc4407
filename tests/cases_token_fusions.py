"""Fusions that keep tokens: more rounds, other edges than in the contract."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

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
  "concat_2": (CONCAT, ["image", "text"], UNEQUAL, _count_concat([5, 7])),
  "co_2": (CO_ATTENTION, ["image", "text"], None, _count_co_attention([6, 6])),
  "co_self_2": (
    CO_ATTENTION_SELF,
    ["image", "text"],
    None,
    _count_co_attention([6, 6], True, rounds=1),
  ),
  "graph_2": (GRAPH, ["image", "text"], None, _count_graph([6, 6])),
  "graph_across_3": (
    GRAPH_ACROSS,
    list(SIZES),
    None,
    _count_graph([6, 6, 6], edge_types=6, use_global=False, rounds=1),
  ),
}


def make_tokens(modalities, widths, batch=4):
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
def setup_fusion(name):
  """Module, variables and tokens; no parameter is at its special start."""
  module, modalities, widths, _ = CASES[name]
  tokens = make_tokens(modalities, widths)
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
def apply_fn(name):
  module = CASES[name][0]
  return jax.jit(lambda v, tokens: module.apply(v, tokens, train=False))


@functools.cache
def grad_fn(name):
  module = CASES[name][0]

  def total(variables, tokens):
    out = module.apply(variables, tokens, train=False)
    weights = jax.random.normal(jax.random.key(13), out.values.shape)
    return jnp.where(out.mask[..., None], out.values * weights, 0).sum()

  return jax.jit(jax.grad(total))


def present(out):
  return np.where(np.asarray(out.mask)[..., None], out.values, 0)
