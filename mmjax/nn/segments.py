r"""Sums and softmaxes over the edges that share a node, for batches of graphs.

Each example has its own list of edges, and index [B, E] says at which node an
edge stands. An index that no node has picks zeros and adds to nothing.

The examples are mapped, not joined to one long list with shifted indices: on a
CPU both take the same time, and here no index can reach another example.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mmjax.array_types import Array

# A finite stand-in for minus infinity: differences of it are no NaN.
_LOWEST = -1e30


def align(mask: Array, leaf: Array) -> Array:
  """Gives a mask trailing axes until it broadcasts against a leaf."""
  return mask.reshape(mask.shape + (1,) * (leaf.ndim - mask.ndim))


def take(features: Any, index: Array) -> Any:
  """Picks rows [B, E, ...] out of a pytree of [B, N, ...] by an index [B, E].

  An index outside of 0 to N - 1 picks zeros.
  """

  def pick(leaf: Array, index: Array) -> Array:
    index = jnp.where(
      index < 0, leaf.shape[0], index
    )  # no counting from the end
    return leaf.at[index].get(mode="fill", fill_value=0)

  return jax.tree.map(lambda leaf: jax.vmap(pick)(leaf, index), features)


def segment_sum(values: Array, index: Array, num_nodes: int) -> Array:
  """Sums [B, E, ...] at the nodes [B, E] to [B, num_nodes, ...]."""
  index = jnp.where(index < 0, num_nodes, index)
  return jax.vmap(lambda v, i: jax.ops.segment_sum(v, i, num_nodes))(
    values, index
  )


def segment_softmax(
  scores: Array, factors: Array, index: Array, num_nodes: int
) -> Array:
  r"""Turns scores into shares of the edges that enter the same node.

  .. math:: a_e = f_e \exp s_e \, / \, \sum_{e'} f_{e'} \exp s_{e'}

  Args:
    scores: [B, E, H]; the softmax runs in float32.
    factors: [B, E], at least 0, how often each edge counts; 0 is absent.
    index: int [B, E], the node.
    num_nodes: how many nodes there are.

  Returns:
    float32 [B, E, H]; zeros for absent edges.
  """
  there = factors[..., None] > 0
  scores = jnp.where(there, scores.astype(jnp.float32), _LOWEST)
  # Of a segment without edges the maximum is minus infinity; nobody takes it.
  largest = jax.vmap(lambda s, i: jax.ops.segment_max(s, i, num_nodes))(
    jax.lax.stop_gradient(scores), index
  )
  powers = jnp.where(there, jnp.exp(scores - take(largest, index)), 0.0)
  powers = powers * factors[..., None]
  total = take(segment_sum(powers, index, num_nodes), index)
  return powers / jnp.where(total > 0, total, 1.0)
