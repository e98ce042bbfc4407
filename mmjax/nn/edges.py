r"""The edges of a batch of graphs, as a list or as a matrix.

Both forms answer the same questions, so a layer is written once and works on
either. Per-edge arrays have the axes of their form first: [B, E, ...] for a
list, [B, Nr, Ns, ...] for a matrix, written [B, *, ...] here. Receivers stand
before senders, as queries stand before keys. The nodes that edges leave and
those that they enter may be two sets.

A list takes memory for each edge, a matrix for each pair of nodes; on a CPU a
matrix is faster while a good part of the pairs are edges, see
`benchmarks/graph.py`.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.nn.segments import align, segment_softmax, segment_sum, take


@flax.struct.dataclass
class EdgeList:
  """Edges one by one: the sparse form.

  Attributes:
    senders: int32 [B, E], the node that each edge leaves.
    receivers: int32 [B, E], the node that each edge enters.
    mask: bool [B, E], True = present.
    features: pytree of [B, E, ...], or None.
    weights: float [B, E], at least 0, how much each edge counts; None is 1.
    types: int32 [B, E], the type of each edge, or None.
  """

  senders: Array
  receivers: Array
  mask: Array
  features: Any = None
  weights: Array | None = None
  types: Array | None = None

  def restrict(self, sender_mask: Array, receiver_mask: Array) -> "EdgeList":
    """Masks edges at absent nodes [B, Ns], [B, Nr]; clears absent edges.

    Edges at nodes that do not exist are masked, too. Edges of weight 0 are
    absent, but stay in the mask, so that their weight has a gradient.
    """
    mask = self.mask & take(sender_mask, self.senders)
    mask = mask & take(receiver_mask, self.receivers)
    edges = self.replace(mask=mask)
    return edges.replace(features=clear(self.features, edges.factors() > 0))

  def keep_types(self, num_types: int) -> "EdgeList":
    """Masks edges whose type is not among 0 to `num_types` - 1.

    Raises:
      ValueError: a present edge has a type of `num_types` or more. Traced
        types, masks and weights, as under `jax.jit`, cannot be looked at.
    """
    found = jnp.where(self.factors() > 0, self.types, -1).max(initial=-1)
    if not isinstance(found, jax.core.Tracer) and int(found) >= num_types:
      raise ValueError(
        f"there is an edge of type {found}, and num_types={num_types} has types"
        f" 0 to {num_types - 1}; give num_types={found + 1}, or mask such edges"
      )
    known = (self.types >= 0) & (self.types < num_types)
    return self.replace(
      mask=self.mask & known, types=jnp.where(known, self.types, 0)
    )

  def factors(self) -> Array:
    """How much each edge counts, float32 [B, E]: 0 for absent ones."""
    if self.weights is None:
      return self.mask.astype(jnp.float32)
    return jnp.where(self.mask, self.weights.astype(jnp.float32), 0.0)

  def at_senders(self, values: Any) -> Any:
    """What stands at the node that each edge leaves: [B, E, ...]."""
    return take(values, self.senders)

  def at_receivers(self, values: Any) -> Any:
    """What stands at the node that each edge enters: [B, E, ...]."""
    return take(values, self.receivers)

  def at_all(self, values: Any) -> Any:
    """Gives each edge what belongs to its graph, [B, ...]: [B, 1, ...]."""
    return jax.tree.map(lambda leaf: leaf[:, None], values)

  def multiply_ends(self, received: Array, sent: Array) -> Array:
    """Products of vectors [B, Nr, H, d] and [B, Ns, H, d]: [B, E, H]."""
    ends = take(received, self.receivers), take(sent, self.senders)
    return jnp.einsum("behd,behd->beh", *ends)

  def sum_entering(self, values: Array, num_receivers: int) -> Array:
    """Sums [B, E, ...] at the receivers: [B, Nr, ...]."""
    return segment_sum(values, self.receivers, num_receivers)

  def sum_leaving(self, values: Array, num_senders: int) -> Array:
    """Sums [B, E, ...] at the senders: [B, Ns, ...]."""
    return segment_sum(values, self.senders, num_senders)

  def softmax(self, scores: Array, num_receivers: int) -> Array:
    """Shares [B, E, H] of all edges that enter a node, by scores [B, E, H]."""
    return segment_softmax(
      scores, self.factors(), self.receivers, num_receivers
    )

  def collect(self, shares: Array, values: Array, num_receivers: int) -> Array:
    """Sums what senders send, times the share of the edge.

    Args:
      shares: [B, E, H].
      values: [B, Ns, H, d].
      num_receivers: Nr.

    Returns:
      [B, Nr, H, d] in the dtype of the values.
    """
    sent = take(values, self.senders) * shares[..., None].astype(values.dtype)
    return segment_sum(sent, self.receivers, num_receivers)

  def heads_first(self, shares: Array) -> Array:
    """Turns [B, E, H] to [B, H, E], as attention is shown."""
    return jnp.moveaxis(shares, -1, 1)

  def add_loops(self, node_mask: Array) -> "EdgeList":
    """Gives each present node [B, N] one loop, in place of those it had.

    The loops stand behind the other edges. They weigh 1, have features of
    zeros and type 0.
    """
    batch, num_nodes = node_mask.shape
    nodes = jnp.broadcast_to(
      jnp.arange(num_nodes, dtype=self.senders.dtype), (batch, num_nodes)
    )

    def extend(leaf: Array | None, value: float) -> Array | None:
      if leaf is None:
        return None
      shape = (batch, num_nodes, *leaf.shape[2:])
      return jnp.concatenate([leaf, jnp.full(shape, value, leaf.dtype)], axis=1)

    kept = self.mask & (self.senders != self.receivers)
    return EdgeList(
      senders=jnp.concatenate([self.senders, nodes], axis=1),
      receivers=jnp.concatenate([self.receivers, nodes], axis=1),
      mask=jnp.concatenate([kept, node_mask], axis=1),
      features=jax.tree.map(lambda leaf: extend(leaf, 0), self.features),
      weights=extend(self.weights, 1),
      types=extend(self.types, 0),
    )


@flax.struct.dataclass
class EdgeMatrix:
  """Edges as a matrix over all pairs of nodes: the dense form.

  Attributes:
    adjacency: bool or float, at least 0, [B, Nr, Ns] or [B, K, Nr, Ns] for K
      types of edges: how much the edge from a sender to a receiver counts; 0
      or False is no edge.
    features: pytree of [B, Nr, Ns, ...], or None.
  """

  adjacency: Array
  features: Any = None

  def restrict(self, sender_mask: Array, receiver_mask: Array) -> "EdgeMatrix":
    """Drops edges at absent nodes [B, Ns] or [B, Nr], and clears the rest.

    The adjacency stays bool, or becomes float32.
    """
    pairs = receiver_mask[:, :, None] & sender_mask[:, None, :]
    if self.adjacency.ndim == 4:
      pairs = pairs[:, None]
    if self.adjacency.dtype == jnp.bool_:
      edges = EdgeMatrix(self.adjacency & pairs)
    else:
      adjacency = jnp.where(pairs, self.adjacency, 0)
      edges = EdgeMatrix(adjacency.astype(jnp.float32))
    return edges.replace(features=clear(self.features, edges.factors() > 0))

  def factors(self) -> Array:
    """How much each pair counts, all types together: float32 [B, Nr, Ns]."""
    adjacency = self.adjacency.astype(jnp.float32)
    return adjacency.sum(axis=1) if adjacency.ndim == 4 else adjacency

  def at_senders(self, values: Any) -> Any:
    """What stands at the node that each edge leaves: [B, 1, Ns, ...]."""
    return jax.tree.map(lambda leaf: leaf[:, None], values)

  def at_receivers(self, values: Any) -> Any:
    """What stands at the node that each edge enters: [B, Nr, 1, ...]."""
    return jax.tree.map(lambda leaf: leaf[:, :, None], values)

  def at_all(self, values: Any) -> Any:
    """Gives each edge what belongs to its graph, [B, ...]: [B, 1, 1, ...]."""
    return jax.tree.map(lambda leaf: leaf[:, None, None], values)

  def multiply_ends(self, received: Array, sent: Array) -> Array:
    """Products of vectors [B, Nr, H, d] and [B, Ns, H, d]: [B, Nr, Ns, H]."""
    return jnp.einsum("brhd,bshd->brsh", received, sent)

  def sum_entering(self, values: Array, num_receivers: int) -> Array:
    """Sums [B, Nr, Ns, ...] at the receivers: [B, Nr, ...]."""
    del num_receivers
    return values.sum(axis=2)

  def sum_leaving(self, values: Array, num_senders: int) -> Array:
    """Sums [B, Nr, Ns, ...] at the senders: [B, Ns, ...]."""
    del num_senders
    return values.sum(axis=1)

  def softmax(self, scores: Array, num_receivers: int) -> Array:
    """Shares of all edges that enter a node, by scores [B, Nr, Ns, H]."""
    del num_receivers
    factors = self.factors()[..., None]
    there = factors > 0
    lowest = jnp.finfo(jnp.float32).min
    scores = jnp.where(there, scores.astype(jnp.float32), lowest)
    largest = jax.lax.stop_gradient(scores.max(axis=2, keepdims=True))
    powers = jnp.where(there, jnp.exp(scores - largest), 0.0) * factors
    total = powers.sum(axis=2, keepdims=True)
    return powers / jnp.where(total > 0, total, 1.0)

  def collect(self, shares: Array, values: Array, num_receivers: int) -> Array:
    """Sums what senders send, times the share of the edge.

    Args:
      shares: [B, Nr, Ns, H].
      values: [B, Ns, H, d].
      num_receivers: Nr.

    Returns:
      [B, Nr, H, d] in the dtype of the values.
    """
    del num_receivers
    return jnp.einsum("brsh,bshd->brhd", shares.astype(values.dtype), values)

  def heads_first(self, shares: Array) -> Array:
    """Turns [B, Nr, Ns, H] to [B, H, Nr, Ns], as attention is shown."""
    return jnp.moveaxis(shares, -1, 1)

  def add_loops(self, node_mask: Array) -> "EdgeMatrix":
    """Gives each present node [B, N] one loop, in place of those it had.

    They weigh 1, have features of zeros and type 0.
    """
    loops = jnp.eye(node_mask.shape[1], dtype=bool)
    adjacency = jnp.where(loops, 0, self.adjacency.astype(jnp.float32))
    added = (loops & node_mask[:, None]).astype(jnp.float32)
    if adjacency.ndim == 3:
      adjacency = adjacency + added
    else:
      adjacency = adjacency.at[:, 0].add(added)
    mask = ~jnp.broadcast_to(loops, (node_mask.shape[0], *loops.shape))
    return EdgeMatrix(adjacency, clear(self.features, mask))


def clear(features: Any, mask: Array) -> Any:
  """Puts zeros where a mask with the axes of edges is False."""
  return jax.tree.map(
    lambda leaf: jnp.where(align(mask, leaf), leaf, jnp.zeros_like(leaf)),
    features,
  )
