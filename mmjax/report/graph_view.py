"""A graph of one example, as plain data that can be drawn: the graph view.

It has nodes with places and labels, and steps; a step has a share for each node
and edges with weights. A graph that is not walked over has one step.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from mmjax.report.node_sets import NodeSet

End = tuple[str, int]  # the set of a node, and its place in it
Pair = tuple[str, str]  # the sets of receivers and of senders

WITHIN = 12  # edges of a set of nodes that are drawn
ACROSS = 8  # edges between two sets
PER_STEP = 6  # edges between two steps


@dataclasses.dataclass(frozen=True)
class Node:
  """One node.

  Attributes:
    end: its set and its place in it.
    label: its name.
    place: x and y in shares of the picture or frame; None without.
    box: left, top, right and bottom, in the same shares; None without.
    frame: the frame that it is or lies in; None without.
    show_label: whether the label stands in the drawing.
  """

  end: End
  label: str
  place: tuple[float, float] | None = None
  box: tuple[float, float, float, float] | None = None
  frame: int | None = None
  show_label: bool = True


@dataclasses.dataclass(frozen=True)
class Edge:
  """One directed edge.

  Attributes:
    receiver: the node that takes the message.
    sender: the node that gives it.
    weight: how much of it is taken, from 0 to 1.
  """

  receiver: End
  sender: End
  weight: float


@dataclasses.dataclass(frozen=True)
class GraphStep:
  """What happens at once.

  Attributes:
    shares: how much is attended to of each node, from 0 to 1; empty if that is
      not known.
    edges: strongest first.
  """

  shares: Mapping[End, float]
  edges: Sequence[Edge] = ()


@dataclasses.dataclass(frozen=True)
class GraphView:
  """One graph.

  Attributes:
    title: what it is.
    caption: what is left out, and what the numbers are.
    nodes: all that are present.
    steps: in order; at least one.
  """

  title: str
  caption: str
  nodes: Sequence[Node]
  steps: Sequence[GraphStep]

  @property
  def num_frames(self) -> int:
    """Frames that the nodes lie along; 0 on a single picture."""
    frames = [node.frame for node in self.nodes if node.frame is not None]
    return max(frames) + 1 if frames else 0

  @property
  def has_frame_nodes(self) -> bool:
    """Whether whole frames are nodes, rather than places in them."""
    return any(
      node.frame is not None and node.place is None for node in self.nodes
    )


def make_nodes(sets: Mapping[str, NodeSet]) -> list[Node]:
  """Lists the nodes that are present, set by set."""
  return [
    _make_node(nodes, (name, index))
    for name, nodes in sets.items()
    for index in np.flatnonzero(nodes.mask).tolist()
  ]


def strongest_edges(
  weights: Mapping[Pair, np.ndarray],
  nodes: Collection[End],
  num_edges: int,
) -> tuple[list[Edge], int]:
  """Picks the edges that carry most.

  Args:
    weights: [Nr, Ns] by the sets of receivers and of senders.
    nodes: those that are present; no edge leads to or from others.
    num_edges: how many edges to return at most.

  Returns:
    Edges of positive weight, strongest first, and how many there are in all. An
    edge from a node to itself says nothing and is left out; of the two
    directions between two nodes the stronger stands for both.
  """
  best: dict[frozenset[End], Edge] = {}
  for (receiver, sender), matrix in weights.items():
    for row, column in np.argwhere(np.nan_to_num(matrix) > 0).tolist():
      edge = Edge((receiver, row), (sender, column), float(matrix[row, column]))
      if edge.receiver == edge.sender:
        continue
      if edge.receiver not in nodes or edge.sender not in nodes:
        continue
      ends = frozenset((edge.receiver, edge.sender))
      if ends not in best or best[ends].weight < edge.weight:
        best[ends] = edge
  ordered = sorted(
    best.values(), key=lambda edge: (-edge.weight, edge.receiver, edge.sender)
  )
  return ordered[:num_edges], len(ordered)


def make_graph(
  title: str,
  sets: Mapping[str, NodeSet],
  weights: Mapping[Pair, np.ndarray],
  shares: Mapping[str, np.ndarray],
  note: str = "",
) -> GraphView | None:
  """Makes the view of a graph that is not walked over.

  Args:
    title: what it is.
    sets: the sets of nodes, each as large as its weights.
    weights: [Nr, Ns] by the sets of receivers and of senders. Between two sets
      of which neither has a place nothing is drawn.
    shares: [N] by set, how much of each node is attended to.
    note: what the weights are, for the caption.

  Returns:
    The view, or None if nothing of it can be drawn.
  """
  timed = {name for name, nodes in sets.items() if nodes.frames is not None}
  placed = {name for name, nodes in sets.items() if nodes.is_placed}
  # Beside a row of frames there is no room for anything else.
  placed = timed or placed
  weights = {
    pair: matrix
    for pair, matrix in weights.items()
    if (timed >= set(pair) if timed else placed & set(pair))
  }
  nodes = make_nodes(sets)
  ends = {node.end for node in nodes}
  parts = {
    within: {
      pair: matrix
      for pair, matrix in weights.items()
      if (pair[0] == pair[1]) == within
    }
    for within in (True, False)
  }
  within, num_within = strongest_edges(parts[True], ends, WITHIN)
  across, num_across = strongest_edges(parts[False], ends, ACROSS)
  kept = _pick_shares(shares, ends)
  kept = {end: share for end, share in kept.items() if end[0] in placed}
  if not within and not across and not kept:
    return None
  used = {name for pair in weights for name in pair} | {end[0] for end in kept}
  counts = [
    f"{_count(len(drawn), total, 'edge')} {where}"
    for drawn, total, where in (
      (within, num_within, "within a modality"),
      (across, num_across, "across modalities"),
    )
    if drawn
  ]
  caption = ", ".join(filter(None, [" and ".join(counts), note]))
  return GraphView(
    title,
    f"{caption[:1].upper()}{caption[1:]}.",
    [node for node in nodes if node.end[0] in used],
    [GraphStep(kept, [*within, *across])],
  )


def make_walk(
  title: str,
  name: str,
  nodes: NodeSet,
  shares: Sequence[np.ndarray],
  gates: Sequence[np.ndarray],
) -> GraphView:
  """Makes the view of a walk over a graph, in steps.

  Args:
    title: what it is.
    name: of the set of nodes.
    nodes: the N nodes.
    shares: [N] for each step, the attention over the nodes.
    gates: [N, N] after each step but the last, receivers before senders, how
      open the edge from one node to another is.

  Returns:
    A view with a step for each; its edges are those that lead to it. The weight
    of an edge is its gate times the share of its sender in the step before: so
    much of what was attended to was heard at the other end.
  """
  drawn = make_nodes({name: nodes})
  ends = {node.end for node in drawn}
  steps, most, counted = [], 0, 0
  for number, attended in enumerate(shares):
    edges: list[Edge] = []
    if 0 < number <= len(gates):
      passed = gates[number - 1] * shares[number - 1][None]
      edges, total = strongest_edges({(name, name): passed}, ends, PER_STEP)
      most, counted = max(most, total), max(counted, len(edges))
    steps.append(GraphStep(_pick_shares({name: attended}, ends), edges))
  caption = "Where each step attends."
  if counted:
    told = _count(counted, most, "edge")
    caption = (
      f"{told[:1].upper()}{told[1:]} before a step: how open it is times how"
      " much the step before attended to its start."
    )
  return GraphView(title, caption, drawn, steps)


def describe_graph(view: GraphView, limit: int = 5) -> str:
  """Tells a view in words, for who cannot see the picture."""
  names = {node.end: node.label for node in view.nodes}
  told = []
  for number, step in enumerate(view.steps, start=1):
    nodes = [
      f"{names[end]} {100 * share:.0f} %"
      for end, share in sorted(step.shares.items(), key=lambda item: -item[1])
      if share >= 0.05
    ]
    edges = [
      f"{names[edge.sender]} to {names[edge.receiver]}" for edge in step.edges
    ]
    one = "; ".join(filter(None, [", ".join(nodes[:limit]), "; ".join(edges)]))
    told.append(f"Step {number}: {one}" if len(view.steps) > 1 else one)
  return ". ".join(told)


def _count(drawn: int, total: int, thing: str) -> str:
  """How many are drawn, of how many."""
  if drawn < total:
    return f"the {drawn} strongest of {total:,} {thing}s"
  return f"the only {thing}" if total == 1 else f"all {total:,} {thing}s"


def _pick_shares(
  shares: Mapping[str, np.ndarray], ends: Collection[End]
) -> dict[End, float]:
  """Keeps shares [N] of nodes that are there."""
  return {
    (name, index): float(share)
    for name, values in shares.items()
    for index, share in enumerate(np.nan_to_num(values).tolist())
    if (name, index) in ends
  }


def _make_node(nodes: NodeSet, end: End) -> Node:
  place = box = None
  if nodes.places is not None:
    values = [float(value) for value in nodes.places[end[1]]]
    if len(values) == 4:
      box = tuple(values)
      values = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
    place = tuple(values)
  frame = None if nodes.frames is None else int(nodes.frames[end[1]])
  return Node(end, nodes.labels[end[1]], place, box, frame, nodes.show_labels)
