"""The words in a graph's drawing: names, shares, columns, and the legend."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Circle, Polygon, Rectangle

from mmjax.report.figures import shorten
from mmjax.report.graph_layout import Box, Layout, Panel
from mmjax.report.graph_view import Edge, End, GraphView, Node
from mmjax.report.theme import Theme

MOST_LABELS = 10  # nodes of a picture whose names are all written
LEAST_SHARE = 0.1  # of a node whose share is written
LEGEND_ROW = 0.17  # inches
_SIZE, _SMALL = 7.5, 6.5  # points
_LETTER = 0.061  # inches, of a word in a column

Choice = tuple[int, float, float]  # which of the texts, and where its middle is


def draw_labels(
  axes: Axes,
  panel: Panel,
  nodes: Mapping[End, Node],
  extents: Mapping[End, tuple[float, float]],
  ink: Theme,
) -> None:
  """Writes names and shares beside nodes of pictures, where there is room.

  Args:
    axes: in inches.
    panel: where nodes lie.
    nodes: all nodes.
    extents: half of width and height in inches of those that lie on pictures.
    ink: colours that are seen on the pictures.
  """
  shares, linked = panel.step.shares, panel.linked
  few = sum(nodes[end].show_label for end in extents) <= MOST_LABELS
  few = few and not panel.title  # pictures of steps are small
  ends = sorted(extents, key=lambda end: (-shares.get(end, 0.0), end))
  texts = []
  for end in ends:
    share = shares.get(end, 0.0)
    number = f"{100 * share:.0f} %" if share >= LEAST_SHARE else ""
    shown = few or number or (end in linked and not panel.title)
    name = ""
    if nodes[end].show_label and shown:
      name = shorten(nodes[end].label, 18)
    # Where there is no room for both, the number says more.
    both = [f"{each} {number}".strip() for each in (name, shorten(name, 12))]
    texts.append([text for text in dict.fromkeys((*both, number)) if text])
  left, top = panel.pictures[0][:2]
  last = panel.pictures[-1]
  middles = place_labels(
    [panel.places[end] for end in ends],
    [extents[end] for end in ends],
    [[_text_size(text, _SMALL) for text in each] for each in texts],
    (left, top, last[0] + last[2] - left, last[1] + last[3] - top),
  )
  for each, middle in zip(texts, middles, strict=True):
    if middle is not None:
      choice, x, y = middle
      _write(axes, x, y, each[choice], _SMALL, ink, ha="center", va="center")


def draw_frame_numbers(axes: Axes, panel: Panel, ink: Theme) -> None:
  """Numbers the frames, with the shares of those that are nodes."""
  shares = {end[1]: share for end, share in panel.step.shares.items()}
  present = set(panel.boxes.values())
  for frame, box in enumerate(panel.pictures):
    if box not in present:
      continue
    left, top, _, height = box
    x, bottom = left + 0.03, top + height - 0.025
    _write(axes, x, bottom, str(frame + 1), _SMALL - 1, ink, va="bottom")
    share = shares.get(frame, 0.0) if panel.arcs is not None else 0.0
    if share >= LEAST_SHARE:
      number = f"{100 * share:.0f} %"
      _write(axes, x + 0.02, top + 0.045, number, _SMALL, ink, va="top")


def draw_columns(
  axes: Axes,
  panel: Panel,
  nodes: Mapping[End, Node],
  layout: Layout,
  theme: Theme,
) -> None:
  """Draws nodes that lie nowhere, with their names at their right."""
  linked = panel.linked
  for end in sorted(panel.columns):
    x, y = panel.places[end]
    used = end in linked
    color = theme.contrast if used else theme.line
    axes.add_patch(Circle((x, y), 0.028, color=color, lw=0))
    others = [panel.places[each][0] for each in panel.columns]
    room = min([o for o in others if o > x], default=layout.width) - x - 0.1
    axes.text(
      x + 0.08,
      y,
      shorten(nodes[end].label, max(int(room / _LETTER), 3)),
      color=theme.ink if used else theme.muted,
      fontsize=8,
      va="center",
      parse_math=False,
    )


def place_labels(
  anchors: Sequence[tuple[float, float]],
  extents: Sequence[tuple[float, float]],
  sizes: Sequence[Sequence[tuple[float, float]]],
  bounds: Box,
) -> list[Choice | None]:
  """Finds room for labels beside their nodes, without overlap.

  Args:
    anchors: x and y of the nodes, those that matter most first.
    extents: half of the width and height of each node.
    sizes: width and height of the texts that each may have, the best first.
    bounds: where labels may be.

  Returns:
    Which text it is, and its middle; None where there is no room for any.
  """
  taken = [
    (x - half_x, y - half_y, 2 * half_x, 2 * half_y)
    for (x, y), (half_x, half_y) in zip(anchors, extents, strict=True)
  ]
  found: list[Choice | None] = []
  for anchor, extent, choices in zip(anchors, extents, sizes, strict=True):
    found.append(None)
    for choice, x, y in _candidates(anchor, extent, choices):
      width, height = choices[choice]
      box = (x - width / 2, y - height / 2, width, height)
      if _lies_in(box, bounds) and not any(_overlap(box, t) for t in taken):
        taken.append(box)
        found[-1] = (choice, x, y)
        break
  return found


def list_legend(view: GraphView, ink: Theme) -> list[tuple[str, str, str]]:
  """What colours and sizes mean: a colour, a shape and a text a row."""
  heaviest: dict[str, float] = {}
  for step in view.steps:
    for edge in step.edges:
      kind = _name_edge(view, edge)
      heaviest[kind] = max(heaviest.get(kind, 0.0), edge.weight)
  rows = [
    (
      ink.contrast if kind.startswith(("between", "back")) else ink.accent,
      "wedge",
      f"{kind}, at most {_percent(weight)}",
    )
    for kind, weight in sorted(heaviest.items(), reverse=True)
  ]
  largest = max((s for t in view.steps for s in t.shares.values()), default=0.0)
  if largest > 0:
    what = "border" if view.has_frame_nodes else "circle"
    text = f"{what}: share of attention, at most {_percent(largest)}"
    rows.append((ink.accent, what, text))
  return rows


def draw_legend(
  axes: Axes, top: float, rows: Sequence[tuple[str, str, str]], theme: Theme
) -> None:
  """Draws the legend from a height on."""
  for row, (color, shape, text) in enumerate(rows):
    y = top + (row + 0.5) * LEGEND_ROW
    if shape == "border":
      corner = (0.11, y - 0.05)
      axes.add_patch(Rectangle(corner, 0.12, 0.1, fill=False, ec=color, lw=2))
    elif shape == "circle":
      axes.add_patch(Circle((0.17, y), 0.05, fill=False, ec=color, lw=1.3))
    else:
      corners = [(0, y - 0.03), (0.34, y), (0, y + 0.03)]
      axes.add_patch(Polygon(corners, color=color, alpha=0.85, lw=0))
    axes.text(
      0.42,
      y,
      text,
      color=theme.muted,
      fontsize=_SIZE,
      va="center",
      parse_math=False,
    )


def _percent(share: float) -> str:
  return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def _name_edge(view: GraphView, edge: Edge) -> str:
  """What kind of edge it is, for the legend."""
  if view.has_frame_nodes:
    frames = {node.end: node.frame for node in view.nodes}
    later = frames[edge.sender] < frames[edge.receiver]
    return "forwards in time" if later else "backwards in time"
  if len(view.steps) > 1:
    return "ways that are open"
  ends = sorted({edge.receiver[0], edge.sender[0]})
  if len(ends) == 1:
    return f"within {shorten(ends[0], 16)}"
  return f"between {shorten(ends[0], 16)} and {shorten(ends[1], 16)}"


def _candidates(
  anchor: tuple[float, float],
  extent: tuple[float, float],
  choices: Sequence[tuple[float, float]],
) -> list[Choice]:
  """Where each text may stand: right, left, below or above of its node."""
  x, y = anchor
  found = []
  for choice, (width, height) in enumerate(choices):
    right = extent[0] + width / 2 + 0.02
    below = extent[1] + height / 2 + 0.005
    found += [
      (choice, x + right, y),
      (choice, x - right, y),
      (choice, x, y + below),
      (choice, x, y - below),
    ]
  return found


def _write(
  axes: Axes,
  x: float,
  y: float,
  text: str,
  size: float,
  ink: Theme,
  **alignment: str,
) -> None:
  """Writes on a picture, with paper around the letters."""
  axes.text(
    x,
    y,
    text,
    color=ink.ink,
    fontsize=size,
    parse_math=False,
    bbox={"facecolor": ink.surface, "alpha": 0.7, "lw": 0, "pad": 0.4},
    **alignment,
  )


def _text_size(text: str, points: float) -> tuple[float, float]:
  """Width and height in inches that a text may take."""
  return 0.62 * points / 72 * len(text), 1.2 * points / 72


def _lies_in(box: Box, bounds: Box) -> bool:
  return (
    box[0] >= bounds[0]
    and box[1] >= bounds[1]
    and box[0] + box[2] <= bounds[0] + bounds[2]
    and box[1] + box[3] <= bounds[1] + bounds[3]
  )


def _overlap(one: Box, other: Box) -> bool:
  return (
    one[0] < other[0] + other[2]
    and other[0] < one[0] + one[2]
    and one[1] < other[1] + other[3]
    and other[1] < one[1] + one[3]
  )
