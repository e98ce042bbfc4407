"""The report: everything known of one checkpoint, as one HTML file.

The file needs no network, no script and no folder beside it: every image is a
`data:` address, and its content policy forbids anything else. All text from
data and configuration is escaped.
"""

import dataclasses
import importlib.resources
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jinja2
import numpy as np
from matplotlib.figure import Figure

from mmjax.report import figures, overlays
from mmjax.report.drawing import graph_pictures
from mmjax.report.examples import ExampleView, mark_differences
from mmjax.report.graph_drawing import plot_graph
from mmjax.report.graph_layout import is_wide
from mmjax.report.graph_view import GraphView, describe_graph
from mmjax.report.intervals import Interval
from mmjax.report.theme import DARK, LIGHT, Theme, to_svg


@dataclasses.dataclass(frozen=True)
class Report:
  """What the page tells, in the order in which it tells it.

  Attributes:
    experiment: name of the experiment.
    split: the split that was scored.
    step: of the checkpoint.
    accuracy: the headline, see `intervals.accuracy_interval`.
    baselines: `{name: interval}` on the same examples.
    num_images: how many images the examples share.
    by_type: `{question type: interval}`; empty leaves the chart out.
    by_answer: `{answer: interval}`.
    labels: the C answers, in the order of `confusion`.
    confusion: int [C, C] counts (true, predicted), an array or lists.
    calibration: `count`, mean `confidence` and `accuracy` of each bin, as
      `ClassificationMetrics.compute` gives them.
    ece: expected calibration error, 0 to 1.
    history: events of `metrics.jsonl`.
    examples: those to show, see `examples.choose_examples`.
    config: `{path: value}`, as `mmjax.config.flatten` returns it.
    unit: what people call the examples, in the plural.
    summary: one sentence on the experiment, e.g. its docstring's first line.
    command: the command that makes this page again.
    origin: one sentence on versions, machine, seed and time.
    facts: further `{name: text}` for the head of the page, e.g. parameters.
  """

  experiment: str
  split: str
  step: int
  accuracy: Interval
  baselines: Mapping[str, Interval]
  num_images: int
  by_type: Mapping[str, Interval]
  by_answer: Mapping[str, Interval]
  labels: Sequence[str]
  confusion: np.ndarray | Sequence[Sequence[int]]
  calibration: Sequence[Mapping[str, float | None]]
  ece: float
  history: Sequence[Mapping[str, object]] = ()
  examples: Sequence[ExampleView] = ()
  config: Mapping[str, object] = dataclasses.field(default_factory=dict)
  unit: str = "questions"
  summary: str = ""
  command: str = ""
  origin: str = ""
  facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write_page(path: str | pathlib.Path, report: Report) -> None:
  """Writes the report to `path`, whole or not at all.

  Raises:
    ValueError: the confusion matrix does not fit the labels.
  """
  path = pathlib.Path(path)
  page = render_page(report)
  path.parent.mkdir(parents=True, exist_ok=True)
  scratch = path.with_name(f".{path.name}.{os.getpid()}")
  scratch.write_text(page, encoding="utf-8")
  os.replace(scratch, path)


def render_page(report: Report) -> str:
  """Returns the page as HTML; the same report gives the same text."""
  classes = len(report.labels)
  if np.shape(report.confusion) != (classes, classes):
    raise ValueError(
      f"the report has {classes} labels, so its confusion matrix must be "
      f"[{classes}, {classes}], got {list(np.shape(report.confusion))}"
    )
  environment = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters["percent"] = figures.percent
  template = environment.from_string(
    importlib.resources.files("mmjax.report")
    .joinpath("page.html")
    .read_text(encoding="utf-8")
  )
  cards = [_card(view) for view in report.examples]
  return template.render(
    report=report,
    light=LIGHT,
    few=figures.FEW,
    dark=DARK,
    charts=_charts(report),
    cards=cards,
    num_mistakes=sum(view.correct is False for view in report.examples),
    confused=most_confused(report.confusion, report.labels),
  )


def most_confused(
  confusion: np.ndarray, labels: Sequence[str], limit: int = 5
) -> list[tuple[str, str, int]]:
  """The commonest mistakes, as (true, predicted, count)."""
  errors = np.array(confusion)
  np.fill_diagonal(errors, 0)
  order = np.argsort(-errors, axis=None, kind="stable")[:limit]
  cells = (np.unravel_index(index, errors.shape) for index in order)
  return [
    (labels[true], labels[predicted], int(errors[true, predicted]))
    for true, predicted in cells
    if errors[true, predicted] > 0
  ]


def _charts(report: Report) -> dict[str, dict[str, str]]:
  """Each chart as `{"light": uri, "dark": uri}`; absent where it is empty."""
  rows = [(report.experiment, report.accuracy), *report.baselines.items()]
  charts = {
    "scores": lambda theme: figures.plot_scores(
      rows, theme, num_highlighted=1, from_zero=True
    ),
    "confusion": lambda theme: figures.plot_confusion(
      report.confusion, report.labels, theme
    ),
    "calibration": lambda theme: figures.plot_calibration(
      report.calibration, theme
    ),
  }
  for name, scores in (
    ("by_type", report.by_type),
    ("by_answer", report.by_answer),
  ):
    if scores:
      charts[name] = lambda theme, scores=scores: figures.plot_scores(
        list(scores.items()), theme
      )
  if report.history:
    charts["history"] = lambda theme: figures.plot_history(
      report.history, theme
    )
  return {name: _both_themes(plot) for name, plot in charts.items()}


def _both_themes(plot: Callable[[Theme], Figure]) -> dict[str, str]:
  return {
    name: overlays.data_uri("image/svg+xml", to_svg(plot(theme)))
    for name, theme in (("light", LIGHT), ("dark", DARK))
  }


def _card(view: ExampleView) -> dict[str, object]:
  """What the template shows of one example."""
  image = None if view.image is None else overlays.fit_image(view.image)
  view = dataclasses.replace(view, image=image)
  maps = [
    {
      "word": word,
      "peak": float(weights.max()),
      "uri": _image_uri(overlays.map_image(image, weights)),
    }
    for word, weights in overlays.word_maps(view)
  ]
  words = [
    {
      "title": title,
      "words": [
        {"word": word, "share": share, "shade": share / max(shares.max(), 1e-9)}
        for word, share in zip(view.words, shares.tolist(), strict=True)
      ],
    }
    for title, shares in overlays.word_weights(view)
  ]
  marked = mark_differences([label for label, _ in view.top])
  return {
    "view": view,
    "captions": dict(
      zip([label for label, _ in view.top], marked, strict=True)
    ),
    "image": None if image is None else _image_uri(image),
    "frames": [
      {"number": number, "uri": _image_uri(_shrink_frame(frame))}
      for number, frame in view.shown_frames
    ],
    "maps": maps,
    "words": words,
    "graphs": [_graph(view, graph) for graph in view.graphs],
    "wide": any(is_wide(graph) for graph in view.graphs),
  }


def _graph(view: ExampleView, graph: GraphView) -> dict[str, object]:
  """What the template shows of one graph of an example."""
  pictures = graph_pictures(view, graph)
  return {
    "title": graph.title,
    "caption": graph.caption,
    "images": _both_themes(lambda theme: plot_graph(graph, pictures, theme)),
    "text": describe_graph(graph),
  }


def _shrink_frame(frame: np.ndarray) -> np.ndarray:
  """Shrinks a large frame; the page enlarges small ones, pixel by pixel."""
  large = max(frame.shape[:2]) > overlays.MAX_SIDE
  return overlays.fit_image(frame) if large else frame


def _image_uri(image: np.ndarray) -> str:
  return overlays.data_uri(*overlays.encode_image(image))
