"""Where the parts of a graph's drawing lie, in inches from the upper left.

Nodes of a picture lie on it, others in columns at its right; frames lie in a
row. A view of several steps gets a picture, or a row, for each.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mmjax.report.graph_view import Edge, End, GraphStep, GraphView

NARROW, WIDE = 3.6, 7.4  # inches
_GAP = 0.12
_TITLE = 0.2  # above a step
_ROW = 0.155  # of a word
_ARCS = 0.62  # above and below a row of frames
_BENDS = 0.1  # the same, where edges run between places in frames

Box = tuple[float, float, float, float]  # left, top, width, height


@dataclasses.dataclass(frozen=True)
class Panel:
  """The place of one step.

  Attributes:
    step: the step.
    title: what stands above; empty for nothing.
    pictures: boxes of the picture, or of each frame.
    places: x and y of each node.
    boxes: the picture, or the frame, that each node lies on.
    columns: the nodes that lie nowhere and stand in columns.
    arcs: room above for the edges between whole frames; None if nodes are not
      whole frames.
  """

  step: GraphStep
  title: str
  pictures: Sequence[Box]
  places: Mapping[End, tuple[float, float]]
  boxes: Mapping[End, Box]
  columns: frozenset[End] = frozenset()
  arcs: float | None = None

  @property
  def linked(self) -> set[End]:
    """The nodes with an edge."""
    edges = self.step.edges
    return {end for edge in edges for end in (edge.receiver, edge.sender)}

  @property
  def scale(self) -> float:
    """How large nodes and edges are, 1 on a picture of two inches."""
    _, _, width, height = self.pictures[0]
    return min(max(math.sqrt(width * height) / 2, 0.5), 1.0)

  @property
  def title_place(self) -> tuple[float, float]:
    """Left and bottom of the title."""
    left, top, *_ = self.pictures[0]
    return left, top - 0.03 - (self.arcs or 0.0)


@dataclasses.dataclass(frozen=True)
class Layout:
  """The panels, and the size of all in inches."""

  width: float
  height: float
  panels: Sequence[Panel]


def is_wide(view: GraphView) -> bool:
  """Whether a view needs the width of a page rather than that of a card."""
  return view.num_frames > (6 if view.has_frame_nodes else 2)


def lay_out(view: GraphView, aspect: float) -> Layout:
  """Places the nodes of all steps.

  Args:
    view: what is drawn.
    aspect: width by height of the picture, or of a frame.
  """
  total = WIDE if is_wide(view) else NARROW
  if view.num_frames:
    return _lay_out_rows(view, aspect, total)
  if len(view.steps) == 1:
    return _lay_out_picture(view, aspect)
  columns = 2 if len(view.steps) == 4 else min(3, len(view.steps))
  width = min((total - _GAP * (columns - 1)) / columns, 1.7)
  width, height = _fit(aspect, width, 1.7)
  panels = []
  for number, step in enumerate(view.steps):
    row, column = divmod(number, columns)
    box = (
      column * (width + _GAP),
      _TITLE + row * (height + _TITLE + _GAP),
      width,
      height,
    )
    panels.append(_make_panel(view, step, [box], f"step {number + 1}"))
  rows = math.ceil(len(view.steps) / columns)
  return Layout(total, rows * (height + _TITLE + _GAP) - _GAP, panels)


def edge_outline(
  panel: Panel, edge: Edge, wide: float, thin: float
) -> np.ndarray:
  """The outline [K, 2] of an edge: wide at its sender, thin at its receiver.

  Edges are bent, so that those in a line do not cover each other. Between whole
  frames they run forwards in time above the row, backwards below.

  Args:
    panel: where the nodes lie.
    edge: whose nodes are in the panel.
    wide: inches at the sender.
    thin: inches at the receiver.
  """
  start, end = (np.array(panel.places[e]) for e in (edge.sender, edge.receiver))
  offset = end - start
  length = float(np.hypot(*offset))
  if length == 0:
    return np.zeros((0, 2))
  normal = np.array([offset[1], -offset[0]]) / length
  if panel.arcs is not None:
    half = panel.pictures[0][3] / 2
    sign = -1.0 if offset[0] > 0 else 1.0
    shift = np.array([0, sign * half])
    start, end = start + shift, end + shift
    # A bend of u reaches u / 2 from the line.
    bend = np.array([0, sign * 2 * _ARCS * _reach(length)])
  elif {edge.sender, edge.receiver} <= panel.columns:
    bend = np.array([-0.25, 0.0])
  else:
    bend = 0.14 * length * normal
  time = np.linspace(0, 1, 13)[:, None]
  middle = (start + end) / 2 + bend
  line = (1 - time) ** 2 * start + 2 * time * (1 - time) * middle
  line = line + time**2 * end
  slope = 2 * (1 - time) * (middle - start) + 2 * time * (end - middle)
  slope /= np.maximum(np.hypot(*slope.T)[:, None], 1e-9)
  across = np.stack([slope[:, 1], -slope[:, 0]], axis=1)
  across = across * (wide + (thin - wide) * time) / 2
  return np.concatenate([line + across, (line - across)[::-1]])


def _lay_out_picture(view: GraphView, aspect: float) -> Layout:
  """One picture, and columns at its right."""
  columns: dict[str, list[End]] = {}
  for node in view.nodes:
    if node.place is None:
      columns.setdefault(node.end[0], []).append(node.end)
  width, height = _fit(aspect, 2.0 if columns else 2.3, 2.0)
  longest = max((len(ends) for ends in columns.values()), default=0)
  total = max(height, _ROW * longest)
  box = (0.0, (total - height) / 2, width, height)
  panel = _make_panel(view, view.steps[0], [box], "")
  places = dict(panel.places)
  room = (NARROW - width) / max(len(columns), 1)
  for number, ends in enumerate(columns.values()):
    for row, end in enumerate(ends):
      y = (row + 0.5) * total / len(ends)
      places[end] = (width + number * room + min(0.3, room / 2), y)
  columned = frozenset(end for ends in columns.values() for end in ends)
  panel = dataclasses.replace(panel, places=places, columns=columned)
  return Layout(NARROW, total, [panel])


def _lay_out_rows(view: GraphView, aspect: float, total: float) -> Layout:
  """A row of frames for each step."""
  number = view.num_frames
  gap = min(0.06, 0.15 * total / number)
  width, height = _fit(aspect, (total - gap * (number - 1)) / number, 1.3)
  title = _TITLE if len(view.steps) > 1 else 0.0
  frames = {node.end: node.frame for node in view.nodes}
  panels, top = [], 0.0
  for row, step in enumerate(view.steps):
    above = below = _BENDS if step.edges else 0.0
    if view.has_frame_nodes:
      above, below = _arc_room(step, frames)
    top += title + above
    boxes = [
      (frame * (width + gap), top, width, height) for frame in range(number)
    ]
    name = f"step {row + 1}" if title else ""
    panel = _make_panel(view, step, boxes, name)
    if view.has_frame_nodes:
      panel = dataclasses.replace(panel, arcs=above)
    panels.append(panel)
    top += height + below + _GAP
  width = number * (width + gap) - gap
  return Layout(max(width, NARROW), top - _GAP, panels)


def _arc_room(
  step: GraphStep, frames: Mapping[End, int | None]
) -> tuple[float, float]:
  """The room for arcs above a row and below, if there are any."""
  pairs = [(frames[e.sender], frames[e.receiver]) for e in step.edges]
  above = any(sender < receiver for sender, receiver in pairs)
  below = any(sender > receiver for sender, receiver in pairs)
  return _ARCS * above, _ARCS * below


def _make_panel(
  view: GraphView, step: GraphStep, boxes: Sequence[Box], title: str
) -> Panel:
  """Places the nodes that lie on the picture, or on frames."""
  places, beneath = {}, {}
  for node in view.nodes:
    if node.place is None and node.frame is None:
      continue
    left, top, width, height = beneath[node.end] = boxes[node.frame or 0]
    x, y = node.place or (0.5, 0.5)
    places[node.end] = (left + x * width, top + y * height)
  return Panel(step, title, boxes, places, beneath)


def _fit(aspect: float, width: float, height: float) -> tuple[float, float]:
  """The largest size of that aspect within a width and a height."""
  scale = min(width / aspect, height)
  return aspect * scale, scale


def _reach(length: float) -> float:
  """How far an arc stands out, a share of the room; longer ones further."""
  return min(1.0, 0.3 + 0.25 * length)
