"""One example as one picture."""

import io

import numpy as np
import pytest
from PIL import Image

from mmjax.report.drawing import draw_attention, plot_attention
from mmjax.report.examples import ExampleView
from mmjax.report.graph_view import make_graph
from mmjax.report.node_sets import grid_nodes, word_nodes


def _view(attention=None, answer="no", graphs=()):
  return ExampleView(
    image=np.full((30, 50, 3), 200, np.uint8),
    words=["any", "$red"],
    text="any $red$ <b>?",
    answer=answer,
    top=[("no", 0.75), ("yes", 0.25)],
    attention=attention or {},
    grid=(3, 5),
    graphs=graphs,
  )


def _edges(attention):
  words = word_nodes(["any", "$red"], np.ones(7, bool))
  weights = {
    tuple(name.split("_over_")): each[-1].mean(axis=0)
    for name, each in attention.items()
  }
  sets = {"image": grid_nodes((3, 5)), "text": words}
  return make_graph("Strongest edges", sets, weights, {}, "mean of $heads$")


def _graph():
  rng = np.random.default_rng(1)
  sizes = {"image": 15, "text": 7}
  return {
    f"{q}_over_{k}": rng.random((2, 3, sizes[q], sizes[k]))
    for q in sizes
    for k in sizes
  }


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_attention_is_drawn_to_a_file(tmp_path, kind):
  path = tmp_path / "new" / f"out.{kind}"
  draw_attention(path, _view(_graph(), graphs=[_edges(_graph())]))
  start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind]
  assert path.read_bytes().startswith(start)


def test_the_picture_shows_question_answers_maps_and_edges():
  view = _view(_graph(), graphs=[_edges(_graph())])
  figure = plot_attention(view)
  head, maps, tail = figure.subfigs
  assert "any $red$ <b>?" in head.get_suptitle()
  assert "no   (true: no)" in head.get_suptitle()
  bars = [bar.get_width() for bar in head.axes[0].patches]
  assert bars == [0.75, 0.25]
  titles = [axes.get_title() for axes in maps.axes]
  assert titles == ["", "all words", "any", "$red"]
  assert tail.get_suptitle() == "Strongest edges"
  assert "12 strongest of 105 edges" in tail.get_supxlabel()
  words = [text.get_text() for text in tail.axes[0].texts]
  assert {"any", "$red"} <= set(words)


def test_a_model_without_attention_says_so(tmp_path):
  figure = plot_attention(_view(answer=None))
  assert "no attention" in figure.subfigs[0].get_supxlabel()
  assert "true" not in figure.subfigs[0].get_suptitle()
  draw_attention(tmp_path / "out.png", _view(answer=None))
  picture = Image.open(io.BytesIO((tmp_path / "out.png").read_bytes()))
  assert min(picture.size) > 300


@pytest.mark.parametrize("name", ["out", "out.txt"])
def test_other_endings_are_refused_in_one_sentence(tmp_path, name):
  with pytest.raises(ValueError, match=r"ends in \.png, \.svg or \.pdf"):
    draw_attention(tmp_path / name, _view())
  assert not list(tmp_path.iterdir())
