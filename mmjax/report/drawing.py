"""One example as one picture: answers, where each word looks, graphs."""

import math
import pathlib
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmjax.report.examples import ExampleView, star_differences
from mmjax.report.figures import percent, shorten
from mmjax.report.graph_drawing import draw_graph, graph_size
from mmjax.report.graph_view import GraphView
from mmjax.report.overlays import (
  fit_image,
  map_image,
  word_maps,
  word_weights,
)
from mmjax.report.theme import (
  LIGHT,
  Theme,
  clean_axes,
  new_figure,
  style,
  to_file,
)

_LINE = 60  # letters
_FRAMES = 8  # of a clip, in a row


def picture_kind(path: str | pathlib.Path) -> str:
  """Returns the kind of picture that a file name asks for: png, svg or pdf.

  Raises:
    ValueError: the ending is none of the three.
  """
  kind = pathlib.Path(path).suffix.lower().removeprefix(".")
  if kind not in ("png", "svg", "pdf"):
    raise ValueError(
      f"cannot draw attention to {str(path)!r}: name a file that ends in "
      ".png, .svg or .pdf"
    )
  return kind


def draw_attention(path: str | pathlib.Path, view: ExampleView) -> None:
  """Draws one example to a file: answers, where the words look, graphs.

  Args:
    path: a file that ends in .png, .svg or .pdf.
    view: the example; parts that the model has no attention for are left
      out, and the picture says so where nothing is left.

  Raises:
    ValueError: the ending is none of the three.
  """
  kind = picture_kind(path)
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(to_file(plot_attention(view), kind, LIGHT.surface))


def plot_attention(view: ExampleView, theme: Theme = LIGHT) -> Figure:
  """Makes the figure of `draw_attention`."""
  maps = word_maps(view)
  tiles = [] if view.image is None else [("", view.image)]
  tiles += [
    (word, map_image(fit_image(view.image), cells)) for word, cells in maps
  ]
  columns, height = 4, 1.95
  if view.shown_frames and not tiles:
    tiles = [(str(number), frame) for number, frame in view.shown_frames]
    columns, height = _FRAMES, 1.2
  num_rows = math.ceil(len(tiles) / columns)
  with style():
    heights = [1.9, height * num_rows + 0.01]
    for graph in view.graphs:
      heights.append(graph_size(graph, graph_pictures(view, graph))[1] + 0.75)
    figure = new_figure(7.6, sum(heights))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights)
    for part in parts:
      part.patch.set_alpha(0.0)
    _draw_answers(parts[0], view, theme)
    if tiles:
      grid = parts[1].subplots(num_rows, columns, squeeze=False)
      for axes in grid.flat:
        axes.set_axis_off()
      for axes, (name, pixels) in zip(grid.flat, tiles, strict=False):
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(name, color=theme.ink, fontsize=10, parse_math=False)
      if maps:
        _caption(
          parts[1], "where each word looks: bright cells weigh most", theme
        )
    for part, graph in zip(parts[2:], view.graphs, strict=True):
      part.suptitle(graph.title, color=theme.ink, fontsize=10, parse_math=False)
      pictures = graph_pictures(view, graph)
      draw_graph(part.add_subplot(), graph, pictures, theme)
      _caption(part, graph.caption, theme)
  return figure


def graph_pictures(view: ExampleView, graph: GraphView) -> list[np.ndarray]:
  """The pictures that a graph is drawn on: the image, the frames, or none."""
  if graph.num_frames:
    frames = [] if view.frames is None else list(view.frames)
    return [fit_image(frame) for frame in frames[: graph.num_frames]]
  return [] if view.image is None else [fit_image(view.image)]


def _draw_answers(part: Figure, view: ExampleView, theme: Theme) -> None:
  """The question, the five best answers, and the weights of the words."""
  weights = word_weights(view)
  grid = part.subplots(1, 1 + len(weights), squeeze=False)[0]
  part.suptitle(_tell(view), color=theme.ink, fontsize=12, parse_math=False)
  rows = view.top
  if view.choices == "captions":
    names = star_differences([name for name, _ in rows])
    rows = [(name, p) for name, (_, p) in zip(names, rows, strict=True)]
  _draw_bars(grid[0], f"best {view.choices}", rows, theme)
  for axes, (name, shares) in zip(grid[1:], weights, strict=True):
    _draw_bars(
      axes, name, list(zip(view.words, shares.tolist(), strict=True)), theme
    )
  if not weights and not word_maps(view) and not view.graphs:
    _caption(part, "this model has no attention to draw", theme)


def _tell(view: ExampleView) -> str:
  """The question and its answer; of long answers whether it is right."""
  truth = "" if view.answer is None else f"   (true: {view.answer})"
  found = f"{view.predicted}{truth}"
  if len(found) > _LINE and view.correct is not None:
    found = "right" if view.correct else "wrong"
  asked = f"{view.text}  \N{RIGHTWARDS ARROW}  " if view.text else ""
  return textwrap.fill(f"{asked}{found}", _LINE + 10)


def _caption(part: Figure, text: str, theme: Theme) -> None:
  part.supxlabel(textwrap.fill(text, 100), color=theme.muted, fontsize=9)


def _wrap(text: str) -> str:
  """Writes a sentence in lines, whole: two may differ in one word."""
  return textwrap.fill(text, _LINE)


def _draw_bars(
  axes: Axes, title: str, rows: Sequence[tuple[str, float]], theme: Theme
) -> None:
  clean_axes(axes, theme, grid="none")
  values = [value for _, value in rows]
  axes.barh(range(len(rows)), values, color=theme.accent, height=0.62)
  long = max((len(name) for name, _ in rows), default=0) > _LINE
  write = _wrap if long else shorten
  axes.set_yticks(range(len(rows)), [write(name) for name, _ in rows])
  for label in axes.get_yticklabels():
    label.set_parse_math(False)
    label.set_color(theme.ink)
    label.set_fontsize(7 if long else label.get_fontsize())
  for row, value in enumerate(values):
    axes.text(
      value,
      row,
      f" {percent(value)}",
      va="center",
      fontsize=8,
      color=theme.muted,
    )
  axes.set_xlim(0, 1.45 * max([*values, 1e-9]))
  axes.set_ylim(len(rows) - 0.5, -0.5)
  axes.set_xticks([])
  axes.set_title(title, loc="left", color=theme.muted, fontsize=9)
