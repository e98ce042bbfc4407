"""Draws graph views: on a picture, on the objects in it, or along frames.

Edges are wedges, wide where a message starts and thin where it arrives: of the
ways to draw directed edges the one that people read best, Holten and van Wijk
2009, https://doi.org/10.1145/1518701.1519054.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle
from matplotlib.patheffects import withStroke

from mmjax.report.figures import shorten
from mmjax.report.graph_layout import (
  Layout,
  Panel,
  edge_outline,
  lay_out,
  place_labels,
)
from mmjax.report.graph_view import Edge, End, GraphView, Node
from mmjax.report.theme import DARK, LIGHT, Theme, new_figure, style

MOST_LABELS = 10  # nodes of a picture whose names are all written
LEAST_SHARE = 0.1  # of a node whose share is written
_LEGEND_ROW = 0.17  # inches
_MARGIN = 0.04
_SIZE, _SMALL = 7.5, 6.5  # points


def plot_graph(
  view: GraphView, pictures: Sequence[np.ndarray], theme: Theme = LIGHT
) -> Figure:
  """Draws a graph.

  Args:
    view: the graph.
    pictures: uint8 [height, width, 3], the picture beneath or each frame; if
      there is none, nodes lie on an empty square.
    theme: colours.

  Returns:
    A figure of the size that it needs, with a legend below.
  """
  with style():
    figure = new_figure(*graph_size(view, pictures))
    figure.set_layout_engine("none")  # all has its place already
    draw_graph(figure.add_axes((0, 0, 1, 1)), view, pictures, theme)
  return figure


def graph_size(
  view: GraphView, pictures: Sequence[np.ndarray]
) -> tuple[float, float]:
  """Width and height in inches of what `draw_graph` draws."""
  layout = lay_out(view, _aspect(pictures))
  rows = len(_legend(view, LIGHT))
  height = layout.height + _LEGEND_ROW * rows + 0.08 * bool(rows)
  return layout.width + 2 * _MARGIN, height + 2 * _MARGIN


def draw_graph(
  axes: Axes,
  view: GraphView,
  pictures: Sequence[np.ndarray],
  theme: Theme,
) -> None:
  """Draws what `plot_graph` shows into given axes, in inches."""
  layout = lay_out(view, _aspect(pictures))
  width, height = graph_size(view, pictures)
  axes.set_xlim(-_MARGIN, width - _MARGIN)
  axes.set_ylim(height - _MARGIN, -_MARGIN)
  axes.set_aspect("equal")
  axes.set_axis_off()
  ink, paper = _choose_ink(pictures, theme)
  nodes = {node.end: node for node in view.nodes}
  heaviest = _heaviest(view)
  largest = _largest(view)
  for panel in layout.panels:
    _draw_backdrop(axes, panel, pictures, theme, ink)
    scale = _scale(panel)
    for edge in reversed(panel.step.edges):  # the strongest on top
      strength = edge.weight / heaviest
      wide = scale * (0.012 + 0.05 * strength)
      axes.add_patch(
        Polygon(
          edge_outline(panel, edge, wide, 0.1 * wide),
          color=_edge_color(panel, edge, nodes, ink),
          alpha=0.25 + 0.65 * strength,
          lw=0,
        )
      )
    radii = _draw_nodes(axes, panel, nodes, largest, ink)
    _draw_labels(axes, panel, nodes, radii, ink, paper)
    _draw_columns(axes, panel, nodes, layout, theme)
    if panel.title:
      left, top, *_ = panel.pictures[0]
      axes.text(left, top - _title_gap(panel), panel.title, color=theme.ink,
                fontsize=8, va="bottom")  # fmt: skip
  for row, (color, shape, text) in enumerate(_legend(view, ink)):
    y = layout.height + 0.08 + (row + 0.5) * _LEGEND_ROW
    _draw_sample(axes, y, color, shape)
    axes.text(0.42, y, text, color=theme.muted, fontsize=_SIZE, va="center",
              parse_math=False)  # fmt: skip


def _draw_backdrop(
  axes: Axes,
  panel: Panel,
  pictures: Sequence[np.ndarray],
  theme: Theme,
  ink: Theme,
) -> None:
  """Draws the picture or the frames, paler, so that edges stand out."""
  for number, (left, top, width, height) in enumerate(panel.pictures):
    if number < len(pictures):
      pale = 0.6 * pictures[number] + 0.4 * (255 if ink is LIGHT else 16)
      axes.imshow(
        pale.astype(np.uint8),
        extent=(left, left + width, top + height, top),
        interpolation="nearest",
        aspect="auto",
      )
    axes.add_patch(
      Rectangle(
        (left, top), width, height, fill=False, color=theme.line, lw=0.7
      )
    )


def _draw_nodes(
  axes: Axes,
  panel: Panel,
  nodes: Mapping[End, Node],
  largest: float,
  ink: Theme,
) -> dict[End, float]:
  """Draws nodes on pictures; returns their radii in inches."""
  linked = _linked(panel)
  scale, radii = _scale(panel), {}
  for end, (x, y) in panel.places.items():
    node = nodes[end]
    if end in panel.columns:
      continue
    share = panel.step.shares.get(end, 0.0)
    if panel.arcs:
      _draw_frame(axes, panel, node, share / largest, ink)
      continue
    if node.box is not None:
      _draw_box(axes, panel, node, ink)
    dot = scale * (0.034 if end in linked else 0.014)
    area = scale * 0.13 * math.sqrt(share / largest)
    radii[end] = max(dot, area)
    if area > dot:
      axes.add_patch(
        Circle((x, y), area, facecolor=ink.accent, alpha=0.3, lw=0)
      )
      axes.add_patch(
        Circle((x, y), area, fill=False, edgecolor=ink.accent, lw=1.0)
      )
    axes.add_patch(
      Circle(
        (x, y),
        min(dot, radii[end]),
        facecolor=ink.ink if end in linked else ink.muted,
        edgecolor=ink.surface,
        lw=0.5,
      )
    )
  return radii


def _draw_frame(
  axes: Axes, panel: Panel, node: Node, share: float, ink: Theme
) -> None:
  """Draws a frame that is one node: a border as thick as its share."""
  left, top, width, height = panel.pictures[node.frame]
  axes.add_patch(
    Rectangle(
      (left, top),
      width,
      height,
      fill=False,
      color=ink.accent if share > 0 else ink.muted,
      lw=0.6 + 2.6 * share,
    )
  )


def _draw_box(axes: Axes, panel: Panel, node: Node, ink: Theme) -> None:
  left, top, width, height = panel.pictures[node.frame or 0]
  x0, y0, x1, y1 = node.box
  axes.add_patch(
    Rectangle(
      (left + x0 * width, top + y0 * height),
      (x1 - x0) * width,
      (y1 - y0) * height,
      fill=False,
      color=ink.ink,
      lw=0.8,
    )
  )


def _draw_labels(
  axes: Axes,
  panel: Panel,
  nodes: Mapping[End, Node],
  radii: Mapping[End, float],
  ink: Theme,
  paper: str,
) -> None:
  """Writes names and shares beside nodes of pictures, where there is room."""
  shares, linked = panel.step.shares, _linked(panel)
  named = [end for end in radii if nodes[end].show_label]
  few = len(named) <= MOST_LABELS
  ends, texts = [], []
  for end in sorted(radii, key=lambda end: (-shares.get(end, 0.0), end)):
    share = shares.get(end, 0.0)
    shown = nodes[end].show_label and (few or end in linked)
    parts = [shorten(nodes[end].label, 12)] if shown else []
    if share >= LEAST_SHARE:
      parts.append(f"{100 * share:.0f} %")
    ends.append(end)
    texts.append(" ".join(parts))
  left, top = panel.pictures[0][:2]
  last = panel.pictures[-1]
  bounds = (left, top, last[0] + last[2] - left, last[1] + last[3] - top)
  middles = place_labels(
    [panel.places[end] for end in ends],
    [radii[end] for end in ends],
    [_text_size(text, _SMALL) for text in texts],
    bounds,
  )
  for text, middle in zip(texts, middles, strict=True):
    if text and middle is not None:
      axes.text(
        *middle,
        text,
        color=ink.ink,
        fontsize=_SMALL,
        ha="center",
        va="center",
        parse_math=False,
        path_effects=[withStroke(linewidth=1.6, foreground=paper, alpha=0.8)],
      )
  if panel.arcs:
    for node in nodes.values():
      left, top, _, height = panel.pictures[node.frame]
      share = shares.get(node.end, 0.0)
      text = str(node.frame + 1)
      if share >= LEAST_SHARE:
        text += f": {100 * share:.0f} %"
      axes.text(
        left + 0.025,
        top + height - 0.02,
        text,
        color=ink.ink,
        fontsize=_SMALL - 1,
        va="bottom",
        path_effects=[withStroke(linewidth=1.4, foreground=paper, alpha=0.8)],
      )


def _draw_columns(
  axes: Axes,
  panel: Panel,
  nodes: Mapping[End, Node],
  layout: Layout,
  theme: Theme,
) -> None:
  """Draws nodes that lie nowhere, with their names at their right."""
  linked = _linked(panel)
  for end in panel.columns:
    x, y = panel.places[end]
    used = end in linked
    axes.add_patch(
      Circle((x, y), 0.028, color=theme.contrast if used else theme.line, lw=0)
    )
    others = [panel.places[e][0] for e in panel.columns]
    room = min([o for o in others if o > x] or [layout.width]) - x - 0.1
    axes.text(
      x + 0.08,
      y,
      shorten(nodes[end].label, max(int(room / 0.075), 3)),
      color=theme.ink if used else theme.muted,
      fontsize=8,
      va="center",
      parse_math=False,
    )


def _legend(view: GraphView, ink: Theme) -> list[tuple[str, str, str]]:
  """What colours and sizes mean: (colour, shape, text) a row."""
  frames = {node.end: node.frame for node in view.nodes}
  arcs = view.has_frame_nodes
  kinds: dict[str, float] = {}
  for step in view.steps:
    for edge in step.edges:
      inside = edge.receiver[0] == edge.sender[0]
      ends = sorted({edge.receiver[0], edge.sender[0]})
      kind = f"within {ends[0]}" if inside else f"between {' and '.join(ends)}"
      if arcs:
        later = frames[edge.sender] < frames[edge.receiver]
        kind = "forwards in time" if later else "backwards in time"
      kinds[kind] = max(kinds.get(kind, 0.0), edge.weight)
  rows = [
    (
      ink.accent if kind.startswith(("within", "forwards")) else ink.contrast,
      "wedge",
      f"{kind}, at most {100 * weight:.2g} %; messages run to the thin end",
    )
    for kind, weight in kinds.items()
  ]
  if any(step.shares for step in view.steps):
    text = "frame: its border is" if arcs else "node: its area is"
    rows.append(
      (
        ink.accent,
        "circle",
        f"{text} its share of attention, at most {100 * _largest(view):.0f} %",
      )
    )
  return rows


def _draw_sample(axes: Axes, y: float, color: str, shape: str) -> None:
  if shape == "circle":
    axes.add_patch(Circle((0.17, y), 0.055, facecolor=color, alpha=0.3, lw=0))
    axes.add_patch(Circle((0.17, y), 0.055, fill=False, edgecolor=color, lw=1))
    return
  corners = [(0, y - 0.03), (0.34, y - 0.004), (0.34, y + 0.004), (0, y + 0.03)]
  axes.add_patch(Polygon(corners, color=color, alpha=0.85, lw=0))


def _edge_color(
  panel: Panel, edge: Edge, nodes: Mapping[End, Node], ink: Theme
) -> str:
  if panel.arcs:
    later = nodes[edge.sender].frame < nodes[edge.receiver].frame
    return ink.accent if later else ink.contrast
  return ink.accent if edge.receiver[0] == edge.sender[0] else ink.contrast


def _choose_ink(
  pictures: Sequence[np.ndarray], theme: Theme
) -> tuple[Theme, str]:
  """Colours that are seen on the pictures, and the colour around letters."""
  if not len(pictures):
    return theme, theme.surface
  dark = np.mean([np.mean(picture) for picture in pictures]) < 90
  ink = DARK if dark else LIGHT
  return ink, ink.surface


def _linked(panel: Panel) -> set[End]:
  edges = panel.step.edges
  return {end for edge in edges for end in (edge.receiver, edge.sender)}


def _scale(panel: Panel) -> float:
  """How large nodes and edges are, 1 on a picture of two inches."""
  _, _, width, height = panel.pictures[0]
  if len(panel.pictures) > 1:
    return 0.7
  return min(max(math.sqrt(width * height) / 2, 0.55), 1.0)


def _title_gap(panel: Panel) -> float:
  return 0.66 if panel.arcs and panel.step.edges else 0.03


def _heaviest(view: GraphView) -> float:
  weights = [edge.weight for step in view.steps for edge in step.edges]
  return max(weights, default=1.0)


def _largest(view: GraphView) -> float:
  shares = [s for step in view.steps for s in step.shares.values() if s > 0]
  return max(shares, default=1.0)


def _text_size(text: str, points: float) -> tuple[float, float]:
  """Width and height in inches that a text may take."""
  return 0.62 * points / 72 * len(text), 1.2 * points / 72


def _aspect(pictures: Sequence[np.ndarray]) -> float:
  return pictures[0].shape[1] / pictures[0].shape[0] if len(pictures) else 1.0
