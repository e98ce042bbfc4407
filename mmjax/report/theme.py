"""The look of every figure: colours for light and dark pages, sizes, output.

One blue accent, and one vermilion for what went wrong: a pair from the palette
of Okabe and Ito 2008, https://jfly.uni-koeln.de/color, that people with any
kind of colour vision can tell apart. Nothing is told by colour alone.
"""

import contextlib
import dataclasses
import io
import re
import warnings
from collections.abc import Iterator

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Theme:
  """Colours of one page mode, as `#rrggbb`.

  Attributes:
    surface: the page itself; figures are transparent.
    ink: text.
    muted: lesser text, baselines.
    line: axes and grids.
    accent: the model and its weights.
    contrast: what the model got wrong; edges to words.
  """

  surface: str
  ink: str
  muted: str
  line: str
  accent: str
  contrast: str


LIGHT = Theme("#ffffff", "#1c2128", "#5f6875", "#d8dde3", "#0068ad", "#c24a00")
DARK = Theme("#15191f", "#e4e8ed", "#98a2af", "#343c47", "#5cb3ee", "#f08a4b")

_STYLE = {
  "font.size": 9.0,
  "font.family": "DejaVu Sans",  # comes with matplotlib: same layout anywhere
  "svg.fonttype": "none",
  "svg.hashsalt": "mmjax",  # the same figure gives the same bytes
}


def new_figure(width: float, height: float) -> Figure:
  """Makes an empty transparent figure of `width` by `height` inches."""
  figure = Figure(figsize=(width, height), layout="constrained")
  figure.patch.set_alpha(0.0)
  return figure


def clean_axes(axes: Axes, theme: Theme, *, grid: str = "both") -> None:
  """Leaves of the frame only a light grid; `grid` is x, y, both or none."""
  axes.patch.set_alpha(0.0)
  for spine in axes.spines.values():
    spine.set_visible(False)
  axes.tick_params(
    colors=theme.muted, labelcolor=theme.muted, length=0, labelsize=8.5
  )
  if grid != "none":
    axes.grid(axis=grid, color=theme.line, linewidth=0.7)
  axes.set_axisbelow(True)
  axes.xaxis.label.set_color(theme.muted)
  axes.yaxis.label.set_color(theme.muted)


def to_svg(figure: Figure) -> bytes:
  """Renders a figure as SVG whose text uses the reader's system font."""
  buffer = io.BytesIO()
  with _rendering():
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
  text = buffer.getvalue().decode("utf-8")
  # A hundredth of a point is not seen, and a page has many paths.
  text = re.sub(r'<path[^>]* d="[^"]*"', _round_numbers, text)
  # Quotes of one kind inside quotes of the other: attributes stay intact.
  return re.sub(
    r"'DejaVu Sans'(?:, [^;\"]+)?", "system-ui, 'Segoe UI', sans-serif", text
  ).encode("utf-8")


def to_file(figure: Figure, kind: str, surface: str, dpi: int = 160) -> bytes:
  """Renders a figure on a plain surface as `png`, `pdf` or `svg` bytes."""
  buffer = io.BytesIO()
  with _rendering():
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format=kind, dpi=dpi, facecolor=surface)
  return buffer.getvalue()


def _round_numbers(match: re.Match[str]) -> str:
  return re.sub(r"(\.\d\d)\d+", r"\1", match[0])


@contextlib.contextmanager
def style() -> Iterator[None]:
  """The settings under which figures are made; the caller's come back after."""
  with matplotlib.rc_context(_STYLE):
    yield


@contextlib.contextmanager
def _rendering() -> Iterator[None]:
  """Drawing settings; a letter the font lacks is drawn as a box, silently."""
  with style(), warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*[Gg]lyph")
    yield
