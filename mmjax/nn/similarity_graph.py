"""Edges between what is alike: within a modality, across two, along time.

A receiver is joined to the `k` senders whose vectors have the largest cosine
with its own. The choice has no gradient; the similarity of the chosen has one
where it is kept as a feature of the edge. Vectors of two modalities have to
lie in one space already.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Array, Tokens
from mmjax.nn.edges import EdgeList


def compute_cosines(senders: Tokens, receivers: Tokens) -> Array:
  """Computes the cosines of all pairs: float32 [B, Nr, Ns].

  Zeros stand where a node is absent, or its vector is zero.
  """
  return jnp.einsum("brd,bsd->brs", _direct(receivers), _direct(senders))


def connect_top_k(
  senders: Tokens,
  k: int,
  receivers: Tokens | None = None,
  *,
  allowed: Array | None = None,
  keep_similarity: bool = False,
) -> EdgeList:
  """Joins each receiver to the senders that are most like it.

  Of equal ones the first is taken. Where fewer than `k` senders are there, the
  edges that are left over are masked.

  Args:
    senders: tokens [B, Ns, D].
    k: edges that enter a node.
    receivers: tokens [B, Nr, D] of another set; None is the same set, whose
      nodes are not joined to themselves.
    allowed: bool [Nr, Ns] or [B, Nr, Ns], pairs that may be joined; None is
      all.
    keep_similarity: whether edges have their cosine as feature [B, E, 1].

  Returns:
    Nr k edges, those of a receiver next to each other, most alike first.

  Raises:
    ValueError: `k` that is not between 1 and Ns, vectors of two widths, or
      `allowed` that is not bool or of another shape.
  """
  one_set = receivers is None
  receivers = senders if one_set else receivers
  num_senders, num_receivers = senders.mask.shape[1], receivers.mask.shape[1]
  if not 1 <= k <= num_senders:
    raise ValueError(
      f"k must be between 1 and the {num_senders} nodes that edges can leave,"
      f" got {k}"
    )
  if senders.values.shape[2] != receivers.values.shape[2]:
    raise ValueError(
      "a cosine needs vectors of one width, got senders"
      f" {list(senders.values.shape)} and receivers"
      f" {list(receivers.values.shape)}; project them into one space first"
    )
  shape = (len(senders.mask), num_receivers, num_senders)
  if allowed is not None and (
    allowed.dtype != jnp.bool_ or allowed.shape not in (shape, shape[1:])
  ):
    raise ValueError(
      f"allowed must be bool {list(shape[1:])} or {list(shape)}, receivers"
      f" before senders, got {allowed.dtype} {list(allowed.shape)}"
    )
  cosines = compute_cosines(senders, receivers)
  there = receivers.mask[:, :, None] & senders.mask[:, None]
  if one_set:
    there = there & ~jnp.eye(num_senders, dtype=bool)
  if allowed is not None:
    there = there & allowed
  # Below every cosine, and finite.
  ranked = jax.lax.stop_gradient(jnp.where(there, cosines, -2.0))
  _, chosen = jax.lax.top_k(ranked, k)

  def pick(pairs: Array) -> Array:
    picked = jnp.take_along_axis(pairs, chosen, axis=2)
    return picked.reshape(len(picked), -1)

  nodes = jnp.repeat(jnp.arange(num_receivers, dtype=jnp.int32), k)
  mask = pick(there)
  features = None
  if keep_similarity:
    features = jnp.where(mask, pick(cosines), 0.0)[..., None]
  return EdgeList(
    senders=chosen.reshape(len(chosen), -1),
    receivers=jnp.broadcast_to(nodes, mask.shape),
    mask=mask,
    features=features,
  )


def connect_similar_frames(
  frames: Tokens,
  k: int,
  *,
  per_step: int = 1,
  min_steps: int = 1,
  keep_similarity: bool = False,
) -> EdgeList:
  """Joins each frame, or patch of a frame, to what is like it at other times.

  Args:
    frames: tokens [B, T * per_step, D], time step by time step.
    k: edges that enter a node.
    per_step: nodes of a time step, such as the patches of a frame.
    min_steps: how far apart two joined frames are at least; 2 leaves out what
      `connect_sequence` joins already.
    keep_similarity: whether edges have their cosine as feature [B, E, 1].

  Raises:
    ValueError: `min_steps` below 1, nodes that are not T times `per_step`, or
      `k` that is not between 1 and the number of nodes.
  """
  num_nodes = frames.mask.shape[1]
  if min_steps < 1 or per_step < 1 or num_nodes % per_step:
    raise ValueError(
      f"{num_nodes} nodes with per_step={per_step} and min_steps={min_steps}:"
      " nodes must be a multiple of per_step, and both numbers at least 1"
    )
  time = np.arange(num_nodes) // per_step
  apart = np.abs(time[:, None] - time) >= min_steps
  return connect_top_k(
    frames, k, allowed=jnp.asarray(apart), keep_similarity=keep_similarity
  )


def _direct(tokens: Tokens) -> Array:
  """Divides vectors by their length: float32 [B, N, D], zeros where absent."""
  values = tokens.values.astype(jnp.float32)
  values = jnp.where(tokens.mask[..., None], values, 0.0)
  square = jnp.square(values).sum(axis=-1, keepdims=True)
  # A double `where`: the root of 0 has no gradient.
  length = jnp.sqrt(jnp.where(square > 0, square, 1.0))
  return values / length
