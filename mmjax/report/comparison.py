"""The picture of a comparison: methods down, a panel for each setting."""

import os
import pathlib
from collections.abc import Sequence

from matplotlib.figure import Figure

from mmjax.comparison.cells import Comparison
from mmjax.comparison.summary import Entry
from mmjax.report.figures import shorten
from mmjax.report.theme import (
  LIGHT,
  Theme,
  clean_axes,
  new_figure,
  style,
  to_svg,
)


def plot_comparison(
  comparison: Comparison, entries: Sequence[Entry], theme: Theme = LIGHT
) -> Figure:
  """Draws accuracies as dots with their intervals, one panel a setting.

  Every seed is a faint dot. A dashed line is the ceiling, a cross what is
  published; methods that differ from the baseline are in the accent colour.

  Args:
    comparison: what was compared.
    entries: its cells, see `summarize`.
    theme: colours.

  Returns:
    The figure.
  """
  settings = list(dict.fromkeys(entry.cell.setting for entry in entries))
  present = {entry.cell.method for entry in entries}
  methods = [method for method in comparison.methods if method in present]
  with style():
    figure = new_figure(
      1.6 + 2.0 * len(settings), 0.9 + 0.26 * max(len(methods), 2)
    )
    panels = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    for axes, setting in zip(panels, settings, strict=True):
      here = [entry for entry in entries if entry.cell.setting == setting]
      for entry in here:
        row = methods.index(entry.cell.method)
        color = theme.accent if entry.differs else theme.muted
        seeds = [100 * seed.accuracy for seed in entry.cell.seeds]
        axes.plot(seeds, [row] * len(seeds), "o", color=color, ms=2, alpha=0.4)
        if len(seeds) > 1:
          ends = [100 * entry.accuracy.low, 100 * entry.accuracy.high]
          axes.plot(ends, [row, row], color=color, lw=1.8)
        axes.plot(100 * entry.accuracy.estimate, row, "o", color=color, ms=4.5)
        if entry.published is not None:
          axes.plot(100 * entry.published, row, "x", color=theme.ink, ms=5)
      ceiling = comparison.ceilings.get(setting)
      if ceiling is not None:
        axes.axvline(100 * ceiling, color=theme.contrast, ls="--", lw=1)
      axes.set_ylim(len(methods) - 0.5, -0.5)
      clean_axes(axes, theme, grid="both")
      axes.set_title(
        setting, loc="left", color=theme.ink, fontsize=9.5, parse_math=False
      )
    names = [shorten(name) for name in methods]
    panels[0].set_yticks(range(len(methods)), names)
    for label in panels[0].get_yticklabels():
      label.set_parse_math(False)
      label.set_color(theme.ink)
    figure.supxlabel("test accuracy, %", color=theme.muted, fontsize=9)
  return figure


def write_plot(
  comparison: Comparison,
  entries: Sequence[Entry],
  path: str | os.PathLike[str],
) -> pathlib.Path:
  """Writes the picture as SVG and returns its path."""
  path = pathlib.Path(path)
  path.write_bytes(to_svg(plot_comparison(comparison, entries)))
  return path
