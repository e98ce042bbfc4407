"""The page as a browser reads it: numbers, cards, escaping, no network."""

import base64
import dataclasses
import html.parser
import io

import numpy as np
import pytest
from PIL import Image

from mmjax.report.examples import ExampleView
from mmjax.report.graph_view import make_graph, make_walk
from mmjax.report.intervals import Interval
from mmjax.report.node_sets import NodeSet, frame_nodes, grid_nodes, word_nodes
from mmjax.report.page import Report, most_confused, render_page, write_page


class _Reader(html.parser.HTMLParser):
  """Collects tags, addresses and text."""

  def __init__(self, page):
    super().__init__()
    self.tags, self.addresses, self.text, self.styles = [], [], [], []
    self.classes = []
    self.feed(page)
    self.body = " ".join(" ".join(self.text).split())

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    for name, value in attrs:
      if name in ("src", "href", "srcset", "action", "data", "poster"):
        self.addresses.append(value)
      if name == "class":
        self.classes.extend(value.split())
      if name == "style":
        self.styles.append(value)

  def handle_data(self, data):
    self.text.append(data)


def _view(number=0, attention=None, text="is a red shape there?", **changes):
  image = np.full((64, 64, 3), 230, np.uint8)
  image[8:16, 40:48] = [255, 0, number]
  fields = {
    "image": image,
    "words": ["is", "a", "red", "shape", "there"],
    "text": text,
    "answer": "yes",
    "top": [("no" if number % 2 else "yes", 0.8125), ("red", 0.1)],
    "type": "yes/no",
    "record_id": f"test/{number}/1",
    "attention": attention or {},
    "grid": (8, 8),
  }
  return ExampleView(**{**fields, **changes})


def _attention(*, graph=False):
  rng = np.random.default_rng(0)
  sizes = {"image": 64, "text": 7}
  return {
    f"{q}_over_{k}": rng.random((2, 4, sizes[q], sizes[k])) / 64
    for q in sizes
    for k in sizes
    if graph or q != k
  }


def _edges(words=("is", "a", "red", "shape", "there"), attention=None):
  attention = attention or _attention(graph=True)
  sets = {
    "image": grid_nodes((8, 8)),
    "text": word_nodes(words, np.ones(7, bool)),
  }
  weights = {
    tuple(name.split("_over_")): each[-1].mean(axis=0)
    for name, each in attention.items()
  }
  return make_graph("Strongest edges", sets, weights, {})


def _walk(labels=("red", "blue")):
  objects = NodeSet(
    list(labels), np.ones(2, bool), np.array([[0.2, 0.3], [0.7, 0.8]])
  )
  shares = [np.array([1.0, 0.0]), np.array([0.25, 0.75])]
  gates = [np.array([[0, 0], [0.5, 0]])]
  return make_walk("Steps of reasoning", "objects", objects, shares, gates)


def _report(**changes):
  report = Report(
    experiment="easy_vqa_tiny",
    split="test",
    step=1234,
    accuracy=Interval(0.9958, 0.9941, 0.997, 9673),
    baselines={
      "question only": Interval(0.6694, 0.6599, 0.6787, 9673),
      "majority answer": Interval(0.3733, 0.3637, 0.383, 9673),
    },
    num_images=1000,
    by_type={"yes/no": Interval(0.98765, 0.98, 0.99, 7000)},
    by_answer={"red": Interval(0.91, 0.9, 0.92, 200)},
    labels=["no", "red", "yes"],
    confusion=[[50, 0, 3], [0, 20, 0], [7, 1, 40]],
    calibration=[
      {"count": 0, "confidence": None, "accuracy": None},
      {"count": 99, "confidence": 0.97, "accuracy": 0.98},
    ],
    ece=0.0123,
    history=[
      {"kind": "train", "step": 1, "loss": 2.0, "accuracy": 0.1},
      {"kind": "eval", "step": 1, "accuracy": 0.2},
    ],
    examples=[_view(0), _view(1)],
    config={"model.fusion.width": 64, "seed": 0},
    command="python -m experiments.evaluate --report",
  )
  return dataclasses.replace(report, **changes)


def test_the_numbers_are_on_the_page():
  body = _Reader(render_page(_report())).body
  for number in (
    "99.58 %", "99.41 %", "99.70 %", "66.94 %", "37.33 %", "98.77 %", "91.00 %",
    "1.23 %", "1,234", "9,673", "1,000", "81.25 %", "model.fusion.width",
  ):  # fmt: skip
    assert number in body, number
  assert "99.58 % 99.41 % to 99.70 % 9,673" in body  # one row of the table


def test_units_that_share_nothing_are_not_said_to():
  shared = _Reader(render_page(_report())).body
  assert "images 1,000" in shared
  assert "allows for questions that share an image, and for few" in shared
  apart = render_page(_report(unit="clips", num_images=9673))
  body = _Reader(apart).body
  assert "clips 9,673" in body
  assert "The interval allows for few mistakes" in body
  assert "share" not in body.replace("shares of the row", "")
  few = _Reader(render_page(_report(unit="clips", num_images=10))).body
  assert "sources 10" in few
  assert "allows for clips that share a source" in few


@pytest.mark.parametrize("graph", [False, True])
def test_nothing_is_fetched(graph):
  graphs = [_edges(), _walk()] if graph else []
  view = _view(0, _attention(graph=graph), graphs=graphs)
  page = render_page(_report(examples=[view]))
  reader = _Reader(page)
  assert len(reader.addresses) > 15
  assert all(a.startswith("data:image/") for a in reader.addresses)
  assert not {"script", "link", "iframe", "object"} & set(reader.tags)
  assert "@import" not in page
  assert "url(" not in page
  assert "default-src 'none'; img-src data:" in page


def test_every_picture_opens():
  view = _view(0, _attention(graph=True), graphs=[_edges()])
  page = render_page(_report(examples=[view]))
  kinds = {"svg": 0, "pixels": 0}
  for address in _Reader(page).addresses:
    head, _, tail = address.partition(",")
    content = base64.b64decode(tail, validate=True)
    if head == "data:image/svg+xml;base64":
      assert content.rstrip().endswith(b"</svg>")
      kinds["svg"] += 1
    else:
      Image.open(io.BytesIO(content)).load()
      kinds["pixels"] += 1
  # 6 charts and the edges in two themes; image, all words and five words.
  assert kinds == {"svg": 14, "pixels": 7}


def test_each_example_has_a_card_that_says_right_or_wrong():
  views = [_view(number, _attention()) for number in range(24)]
  reader = _Reader(render_page(_report(examples=views)))
  assert reader.tags.count("article") == 24
  assert reader.classes.count("wrong") == reader.classes.count("right") == 12
  assert "24 examples" in reader.body
  assert "12 of them answered wrongly" in reader.body


def test_the_map_of_a_card_is_clear_where_the_word_looks():
  weights = np.zeros((1, 1, 7, 64))
  weights[..., 0, 8 * 1 + 5] = 0.5  # the red square, rows 8-15, columns 40-47
  view = _view(0, {"text_over_image": weights})
  page = render_page(_report(examples=[view]))
  pixels = [
    np.asarray(Image.open(io.BytesIO(base64.b64decode(a.partition(",")[2]))))
    for a in _Reader(page).addresses
    if not a.startswith("data:image/svg")
  ]
  word = pixels[2]  # after the image and the mean
  assert word.shape == (192, 192, 3)
  assert word[36, 132].tolist() == [255, 0, 0]
  assert word[36, 20].max() < 100


def test_words_are_shaded_by_their_weight():
  weights = np.zeros((1, 1, 64, 7))
  weights[..., 2], weights[..., 3] = 0.6, 0.15
  page = render_page(_report(examples=[_view(0, {"image_over_text": weights})]))
  reader = _Reader(page)
  shades = [s for s in reader.styles if s.startswith("--shade")]
  assert shades == [
    f"--shade: {x}" for x in ("0.000", "0.000", "1.000", "0.250", "0.000")
  ]
  assert "red 80 %" in reader.body
  assert "shape 20 %" in reader.body


def test_edges_are_described_for_who_cannot_see_them():
  weights = np.zeros((1, 1, 64, 64))
  weights[..., 3, 17] = 0.5
  across = np.zeros((1, 1, 64, 7))
  across[..., 9, 2] = 0.5
  attention = {"image_over_image": weights, "image_over_text": across}
  view = _view(0, graphs=[_edges(attention=attention), _walk()])
  page = render_page(_report(examples=[view]))
  assert "cell 3/2 to cell 1/4; red to cell 2/2" in page
  assert "Step 1: red 100 %. Step 2: blue 75 %, red 25 %; red to blue" in page
  reader = _Reader(page)
  assert "Strongest edges" in reader.body
  assert "Steps of reasoning" in reader.body
  assert "The only edge before a step" in reader.body
  assert reader.classes.count("graph") == 2


def test_a_model_without_graph_has_no_empty_part():
  reader = _Reader(render_page(_report(examples=[_view(0, _attention())])))
  assert "graph" not in reader.classes
  assert "In the graphs" not in reader.body


def test_a_clip_gets_the_width_that_its_frames_need():
  matrix = {("video", "video"): np.eye(16, k=1)}
  nodes = {"video": frame_nodes(np.ones(16, bool))}
  view = _view(
    0, graphs=[make_graph("Strongest edges", nodes, matrix, {})], image=None,
    frames=np.zeros((16, 9, 9, 3), np.uint8),
  )  # fmt: skip
  reader = _Reader(render_page(_report(examples=[view, _view(1)])))
  assert reader.classes.count("wide") == 1


def test_a_model_without_attention_says_so():
  page = render_page(_report(examples=[_view(0)]))
  assert "no attention to draw" in page
  page = render_page(_report(examples=[_view(0, _attention())]))
  assert "no attention to draw" not in page


def test_an_example_may_lack_image_and_answer():
  view = _view(0, _attention(), image=None, grid=None, answer=None)
  reader = _Reader(render_page(_report(examples=[view])))
  assert "Predicted yes" in reader.body
  assert "Image over words" in reader.body


_HOSTILE = "<script>alert('x')</script>\"><img src=http://x.example>"


def test_text_from_outside_is_escaped_everywhere():
  hostile = _HOSTILE
  view = _view(
    0, _attention(graph=True), text=hostile, words=[hostile] * 5,
    top=[(hostile, 0.9)], answer=hostile, type=hostile, record_id=hostile,
    graphs=[_edges([hostile] * 5), _walk([hostile, "$x$"])],
  )  # fmt: skip
  interval = Interval(0.5, 0.4, 0.6, 10)
  page = render_page(
    _report(
      experiment=hostile, split=hostile, summary=hostile, command=hostile,
      examples=[view], baselines={hostile: interval},
      by_type={hostile: interval}, by_answer={hostile: interval},
      labels=["a", hostile, "b"], config={hostile: hostile},
      facts={hostile: hostile},
    )
  )  # fmt: skip
  reader = _Reader(page)
  assert "script" not in reader.tags
  assert all(a.startswith("data:image/") for a in reader.addresses)
  # In the charts names are cut, beside them they are whole.
  assert reader.body.count("<script>alert('x')</script>") > 10
  for address in reader.addresses:
    if address.startswith("data:image/svg"):
      content = base64.b64decode(address.partition(",")[2])
      assert b"<script" not in content


def test_parts_without_data_are_left_out():
  reader = _Reader(
    render_page(
      _report(
        examples=[], history=[], by_type={}, by_answer={}, config={}, command=""
      )
    )
  )
  assert "holds no history" in reader.body
  for absent in (
    "By question type",
    "By true answer",
    "Examples",
    "How it was",
  ):
    assert absent not in reader.body


def test_commonest_mistakes_come_first():
  confusion = [[50, 0, 3], [0, 20, 0], [7, 1, 40]]
  assert most_confused(confusion, ["no", "red", "yes"], limit=2) == [
    ("yes", "no", 7),
    ("no", "yes", 3),
  ]
  assert most_confused(np.eye(3, dtype=int), ["no", "red", "yes"]) == []


def test_labels_and_confusion_must_agree():
  with pytest.raises(ValueError, match=r"3 labels.*\[3, 3\], got \[2, 2\]"):
    render_page(_report(confusion=np.eye(2)))


def test_the_page_is_small_whole_and_the_same_every_time(tmp_path):
  noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
  photo = np.kron(noise[::100, ::100], np.ones((100, 100, 1), np.uint8))
  views = [
    _view(number, _attention(graph=True), image=photo, graphs=[_edges()])
    for number in range(24)
  ]
  path = tmp_path / "new" / "report.html"
  write_page(path, _report(examples=views))
  assert path.stat().st_size < 5e6
  assert [p.name for p in path.parent.iterdir()] == ["report.html"]
  text = path.read_text(encoding="utf-8")
  assert text.rstrip().endswith("</html>")
  assert text.count("<article") == 24
  small = _report(examples=views[:1])
  assert render_page(small) == render_page(small)
