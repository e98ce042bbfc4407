"""Edges from structure that is known: grids, sequences, pairs, alignments.

Each function gives an `EdgeList` whose shape follows from its arguments' shapes
alone, so all of them work under `jax.jit`; edges at absent nodes are masked.
`make_graph` puts nodes to them, `HeterogeneousGraph` takes them as they are.
Edges by similarity are in `mmjax.nn.similarity_graph`, those of scenes in
`mmjax.nn.scene_graph`.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Array
from mmjax.nn.edges import EdgeList

_DIRECTIONS = ("both", "forward", "backward")


def connect_all(
  mask: Array, receiver_mask: Array | None = None, *, loops: bool = False
) -> EdgeList:
  """Joins all pairs, of one set of nodes or across two.

  Args:
    mask: bool [B, Ns], True = present, of the nodes that edges leave.
    receiver_mask: bool [B, Nr] of another set that they enter, such as the
      tokens of another modality; None is the same set.
    loops: whether a node of one set is joined to itself.

  Returns:
    Ns Nr edges, or Ns (Ns - 1) within one set without loops.
  """
  one_set = receiver_mask is None
  receiver_mask = mask if one_set else receiver_mask
  receivers, senders = np.indices((receiver_mask.shape[1], mask.shape[1]))
  kept = np.ones_like(senders, bool)
  if one_set and not loops:
    kept = senders != receivers
  return fixed_edges(senders[kept], receivers[kept], mask, receiver_mask)


def connect_grid(
  mask: Array, height: int, width: int, neighbours: int = 4
) -> EdgeList:
  """Joins neighbouring cells of a grid, both ways.

  Args:
    mask: bool [B, height * width], True = present, cells row by row.
    height: rows of cells.
    width: cells of a row.
    neighbours: 4, or 8 with those at the corners.

  Raises:
    ValueError: another number of neighbours, or of cells.
  """
  if neighbours not in (4, 8):
    raise ValueError(f"a grid has 4 or 8 neighbours, got {neighbours}")
  if mask.shape[1] != height * width:
    raise ValueError(
      f"a grid of {height} x {width} has {height * width} cells, got a mask"
      f" {list(mask.shape)}"
    )
  rows, columns = np.divmod(np.arange(height * width), width)
  down = np.abs(rows[:, None] - rows)
  right = np.abs(columns[:, None] - columns)
  near = down + right == 1 if neighbours == 4 else np.maximum(down, right) == 1
  receivers, senders = np.nonzero(near)
  return fixed_edges(senders, receivers, mask, mask)


def connect_sequence(
  mask: Array,
  steps: Sequence[int] = (1,),
  *,
  per_step: int = 1,
  direction: str = "both",
) -> EdgeList:
  """Joins what is near in a sequence: words, or frames and their patches.

  Args:
    mask: bool [B, T * per_step], True = present.
    steps: how far apart two joined places are: (1,) is adjacent frames, (1, 2,
      3) a window, (1, 4) has a skip. Places are counted, absent ones too.
    per_step: nodes of a time step, such as the patches of a frame; each is
      joined to the one at the same place.
    direction: "forward": edges go from the earlier to the later node,
      "backward": from the later to the earlier, or "both".

  Raises:
    ValueError: a step below 1 or twice, an unknown direction, or nodes that
      are not T times `per_step`.
  """
  if direction not in _DIRECTIONS:
    raise ValueError(
      f"direction is {direction!r}; it must be one of {', '.join(_DIRECTIONS)}"
    )
  if not steps or min(steps) < 1 or len(set(steps)) < len(steps):
    raise ValueError(
      f"steps must be different numbers of at least 1, got {tuple(steps)}"
    )
  if per_step < 1 or mask.shape[1] % per_step:
    raise ValueError(
      f"{mask.shape[1]} nodes are no sequence of steps with {per_step} nodes"
    )
  nodes = np.arange(mask.shape[1])
  earlier = [nodes[: max(len(nodes) - per_step * s, 0)] for s in steps]
  later = [nodes[per_step * s :] for s in steps]
  earlier, later = np.concatenate(earlier), np.concatenate(later)
  if direction == "forward":
    senders, receivers = earlier, later
  elif direction == "backward":
    senders, receivers = later, earlier
  else:
    senders = np.concatenate([earlier, later])
    receivers = np.concatenate([later, earlier])
  return fixed_edges(senders, receivers, mask, mask)


def connect_given(
  pairs: Array, mask: Array, receiver_mask: Array | None = None
) -> EdgeList:
  """Joins given pairs of nodes, such as words and the regions they name.

  Args:
    pairs: int [B, E, 2], (sender, receiver); a negative number is padding.
    mask: bool [B, Ns], True = present, of the senders.
    receiver_mask: bool [B, Nr] of the receivers; None is the same set.

  Raises:
    ValueError: pairs of another shape.
  """
  if pairs.ndim != 3 or pairs.shape[2] != 2 or len(pairs) != len(mask):
    raise ValueError(
      f"alignments must be [{mask.shape[0]}, E, 2], (sender, receiver) for"
      f" each edge, got {list(pairs.shape)}"
    )
  there = (pairs >= 0).all(axis=-1)
  pairs = jnp.maximum(pairs, 0)
  edges = EdgeList(pairs[..., 0], pairs[..., 1], there)
  return edges.restrict(mask, mask if receiver_mask is None else receiver_mask)


def reverse_edges(edges: EdgeList) -> EdgeList:
  """Turns all edges round; what belongs to them stays."""
  return edges.replace(senders=edges.receivers, receivers=edges.senders)


def shift_edges(
  edges: EdgeList, sender_shift: int, receiver_shift: int
) -> EdgeList:
  """Moves edges between modalities to where these stand in joined tokens."""
  return edges.replace(
    senders=edges.senders + sender_shift,
    receivers=edges.receivers + receiver_shift,
  )


def join_edges(*parts: EdgeList) -> EdgeList:
  """Puts lists of edges of the same graph behind each other.

  The type of an edge is the place of its list among the arguments.

  Raises:
    ValueError: there is no list, one has features or types already, or they
      are of batches of different size.
  """
  if not parts:
    raise ValueError("joining edges needs at least one list, got none")
  if any(p.features is not None or p.types is not None for p in parts):
    raise ValueError(
      "lists of edges that are joined get their types from it and can have no"
      " features; add both afterwards"
    )
  if len({len(p.mask) for p in parts}) > 1:
    shapes = ", ".join(str(list(p.mask.shape)) for p in parts)
    raise ValueError(
      "lists of edges that are joined need the same number of examples, got"
      f" masks {shapes}; build all of them for one batch"
    )

  def join(leaves: Sequence[Array]) -> Array:
    return jnp.concatenate(leaves, axis=1)

  weights = None
  if any(p.weights is not None for p in parts):
    weights = join([p.factors() for p in parts])
  return EdgeList(
    senders=join([p.senders for p in parts]),
    receivers=join([p.receivers for p in parts]),
    mask=join([p.mask for p in parts]),
    weights=weights,
    types=join(
      [jnp.full(p.mask.shape, i, jnp.int32) for i, p in enumerate(parts)]
    ),
  )


def fixed_edges(
  senders: np.ndarray,
  receivers: np.ndarray,
  mask: Array,
  receiver_mask: Array,
) -> EdgeList:
  """Gives every example the same edges, masked at its absent nodes.

  Args:
    senders: int [E].
    receivers: int [E].
    mask: bool [B, Ns] of the senders.
    receiver_mask: bool [B, Nr] of the receivers.
  """
  shape = (mask.shape[0], len(senders))
  return EdgeList(
    senders=jnp.broadcast_to(jnp.asarray(senders, jnp.int32), shape),
    receivers=jnp.broadcast_to(jnp.asarray(receivers, jnp.int32), shape),
    mask=mask[:, senders] & receiver_mask[:, receivers],
  )
