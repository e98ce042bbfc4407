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

from mmjax.report.graph_labels import (
  LEGEND_ROW,
  draw_columns,
  draw_frame_numbers,
  draw_labels,
  draw_legend,
  list_legend,
)
from mmjax.report.graph_layout import Panel, edge_outline, lay_out
from mmjax.report.graph_view import Edge, End, GraphView, Node
from mmjax.report.theme import DARK, LIGHT, Theme, new_figure, style

_MARGIN = 0.04  # inches around all
_ABOVE_LEGEND = 0.08
_DIM = 90  # mean of pixels below which pictures are dark
_OVER_CIRCLES, _OVER_EDGES = 1.5, 2.0  # circles and frames are at 1


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
  rows = len(list_legend(view, LIGHT))
  height = layout.height + (_ABOVE_LEGEND + LEGEND_ROW * rows if rows else 0)
  return layout.width + 2 * _MARGIN, height + 2 * _MARGIN


def draw_graph(
  axes: Axes,
  view: GraphView,
  pictures: Sequence[np.ndarray],
  theme: Theme,
) -> None:
  """Draws what `plot_graph` shows into given axes, in inches."""
  layout = lay_out(view, _aspect(pictures))
  ink = _choose_ink(pictures, theme)
  lines = theme if view.has_frame_nodes else ink  # arcs lie beside pictures
  nodes = {node.end: node for node in view.nodes}
  heaviest = max((e.weight for s in view.steps for e in s.edges), default=1.0)
  largest = max((x for s in view.steps for x in s.shares.values()), default=0.0)
  for panel in layout.panels:
    _draw_pictures(axes, panel, pictures, theme, ink)
    for edge in reversed(panel.step.edges):  # the strongest on top
      _draw_edge(axes, panel, edge, edge.weight / heaviest, lines)
    sizes = {
      end: share / largest
      for end, share in panel.step.shares.items()
      if share > 0
    }
    if panel.arcs is not None:
      _draw_frame_nodes(axes, panel, sizes, theme)
    else:
      extents = _draw_nodes(axes, panel, nodes, sizes, ink)
      draw_labels(axes, panel, nodes, extents, ink)
    if view.num_frames:
      draw_frame_numbers(axes, panel, ink)
    draw_columns(axes, panel, nodes, layout, theme)
    x, y = panel.title_place
    axes.text(x, y, panel.title, color=theme.ink, fontsize=8, va="bottom")
  rows = list_legend(view, lines)
  draw_legend(axes, layout.height + _ABOVE_LEGEND, rows, theme)
  width, height = graph_size(view, pictures)
  axes.set_xlim(-_MARGIN, width - _MARGIN)
  axes.set_ylim(height - _MARGIN, -_MARGIN)
  axes.set_aspect("equal")
  axes.set_axis_off()


def _draw_pictures(
  axes: Axes,
  panel: Panel,
  pictures: Sequence[np.ndarray],
  theme: Theme,
  ink: Theme,
) -> None:
  """Draws the picture or the frames, paler, so that edges stand out.

  Frames without a node are absent: nothing is in their places.
  """
  shown = set(panel.boxes.values())
  for number, (left, top, width, height) in enumerate(panel.pictures):
    box = (left, top, width, height)
    if box not in shown and len(panel.pictures) > 1:
      continue
    if number < len(pictures):
      pale = 0.6 * pictures[number] + 0.4 * (16 if ink is DARK else 255)
      axes.imshow(
        pale.astype(np.uint8),
        extent=(left, left + width, top + height, top),
        interpolation="nearest",
      )
    border = Rectangle((left, top), width, height, fill=False, lw=0.7)
    border.set_edgecolor(theme.line)
    axes.add_patch(border)


def _draw_edge(
  axes: Axes, panel: Panel, edge: Edge, strength: float, colors: Theme
) -> None:
  """Draws a wedge; `strength` is its weight by the largest one."""
  wide = panel.scale * (0.012 + 0.055 * strength)
  outline = edge_outline(panel, edge, wide, 0.1 * wide)
  if panel.arcs is not None:
    backwards = panel.places[edge.sender] > panel.places[edge.receiver]
    color = colors.contrast if backwards else colors.accent
  else:
    across = edge.receiver[0] != edge.sender[0]
    color = colors.contrast if across else colors.accent
  alpha = 0.3 + 0.55 * strength
  wedge = Polygon(outline, color=color, alpha=alpha, lw=0)
  wedge.set_zorder(_OVER_CIRCLES)
  axes.add_patch(wedge)


def _draw_nodes(
  axes: Axes,
  panel: Panel,
  nodes: Mapping[End, Node],
  sizes: Mapping[End, float],
  ink: Theme,
) -> dict[End, tuple[float, float]]:
  """Draws nodes on pictures.

  Args:
    axes: in inches.
    panel: where they lie.
    nodes: all nodes.
    sizes: shares of attention, by the largest one.
    ink: colours that are seen on the pictures.

  Returns:
    Half of the width and height of each in inches.
  """
  linked, extents = panel.linked, {}
  largest = _largest_ring(panel)
  for end, (x, y) in panel.places.items():
    if end in panel.columns:
      continue
    dot = panel.scale * (0.034 if end in linked else 0.016)
    ring = largest * math.sqrt(sizes.get(end, 0.0))
    extents[end] = (max(dot, ring), max(dot, ring))
    if nodes[end].box is not None:
      width, height = _draw_box(axes, panel, nodes[end], ink)
      extents[end] = max(width / 2, ring), max(height / 2, ring)
    color = ink.ink if end in linked else ink.muted
    middle = Circle((x, y), dot, facecolor=color, edgecolor=ink.surface, lw=0.5)
    middle.set_zorder(_OVER_EDGES)
    axes.add_patch(middle)
    if ring > dot:
      line = min(1.4, 18 * ring)
      for color, width, fill in (
        (ink.surface, line + 1.2, "none"),
        (ink.accent, line, f"{ink.accent}33"),
      ):
        axes.add_patch(
          Circle((x, y), ring, facecolor=fill, edgecolor=color, lw=width)
        )
  return extents


def _largest_ring(panel: Panel) -> float:
  """The radius of the circle of the largest share: circles stay apart."""
  on_pictures = [
    place for end, place in panel.places.items() if end not in panel.columns
  ]
  places = np.array(on_pictures).reshape(-1, 2)
  apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
  nearest = apart[~np.eye(len(places), dtype=bool)].min(initial=np.inf)
  return min(0.16 * panel.scale, max(0.48 * nearest, 0.04))


def _draw_frame_nodes(
  axes: Axes, panel: Panel, sizes: Mapping[End, float], theme: Theme
) -> None:
  """Draws frames that are nodes: borders as thick as their shares."""
  for end, size in sizes.items():
    left, top, width, height = panel.boxes[end]
    border = Rectangle((left, top), width, height, fill=False)
    border.set(edgecolor=theme.accent, linewidth=0.4 + 3.0 * size)
    axes.add_patch(border)


def _draw_box(
  axes: Axes, panel: Panel, node: Node, ink: Theme
) -> tuple[float, float]:
  """Draws the box of a node; returns its width and height in inches."""
  left, top, width, height = panel.boxes[node.end]
  x0, y0, x1, y1 = node.box
  corner = (left + x0 * width, top + y0 * height)
  size = (x1 - x0) * width, (y1 - y0) * height
  box = Rectangle(corner, *size, fill=False, lw=0.8)
  box.set_edgecolor(ink.ink)
  axes.add_patch(box)
  return size


def _choose_ink(pictures: Sequence[np.ndarray], theme: Theme) -> Theme:
  """Colours that are seen on the pictures: the page's own without any."""
  if not len(pictures):
    return theme
  mean = np.mean([np.mean(picture) for picture in pictures])
  return DARK if mean < _DIM else LIGHT


def _aspect(pictures: Sequence[np.ndarray]) -> float:
  return pictures[0].shape[1] / pictures[0].shape[0] if len(pictures) else 1.0
