"""What is drawn of a graph: edges between nodes, labels, legend, escaping."""

import numpy as np
import pytest
from matplotlib.patches import Circle, Polygon, Rectangle

from mmjax.report.graph_drawing import graph_size, plot_graph
from mmjax.report.graph_labels import place_labels
from mmjax.report.graph_layout import edge_outline, is_wide, lay_out
from mmjax.report.graph_view import make_graph, make_walk
from mmjax.report.node_sets import (
  NodeSet,
  frame_nodes,
  grid_nodes,
  word_nodes,
)
from mmjax.report.theme import DARK, LIGHT, to_svg

_IMAGE = np.full((30, 50, 3), 200, np.uint8)
_FRAMES = [np.zeros((20, 20, 3), np.uint8)] * 16


def _objects(labels=("red", "green", "blue"), mask=(True, True, True)):
  places = np.array([[0.1, 0.2], [0.5, 0.5], [0.9, 0.3]])
  return NodeSet(list(labels), np.array(mask), places)


def _pair_graph(matrix, nodes, name="objects", shares=None):
  shares = {} if shares is None else {name: np.array(shares)}
  return make_graph("edges", {name: nodes}, {(name, name): matrix}, shares)


def _one_edge(number, receiver, sender):
  matrix = np.zeros((number, number))
  matrix[receiver, sender] = 0.5
  return matrix


def _texts(figure):
  return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def _patches(figure, kind):
  return [p for p in figure.axes[0].patches if type(p) is kind]


def _wedges(figure, rows):
  """The outlines of the edges, without the samples of the legend."""
  return [p.get_xy() for p in _patches(figure, Polygon)][: -rows or None]


def _middle(panel, end):
  return np.array(panel.places[end])


def test_a_wedge_runs_from_its_sender_to_its_receiver():
  view = _pair_graph(_one_edge(3, 2, 0), _objects())
  (panel,) = lay_out(view, 5 / 3).panels
  left, top, width, height = panel.pictures[0]
  assert width / height == pytest.approx(5 / 3)
  sender, receiver = (
    _middle(panel, ("objects", 0)),
    _middle(panel, ("objects", 2)),
  )
  np.testing.assert_allclose(sender, [left + 0.1 * width, top + 0.2 * height])
  (edge,) = view.steps[0].edges
  outline = edge_outline(panel, edge, 0.2, 0.02)
  half = len(outline) // 2
  wide, thin = outline[[0, -1]], outline[[half - 1, half]]
  np.testing.assert_allclose(wide.mean(axis=0), sender, atol=1e-9)
  np.testing.assert_allclose(thin.mean(axis=0), receiver, atol=1e-9)
  assert np.linalg.norm(wide[0] - wide[1]) == pytest.approx(0.2)
  assert np.linalg.norm(thin[0] - thin[1]) == pytest.approx(0.02)
  assert len(_wedges(plot_graph(view, [_IMAGE]), 1)) == 1


def test_stronger_edges_are_wider_and_darker_and_lie_on_top():
  matrix = _one_edge(3, 1, 0) + _one_edge(3, 2, 1) / 5
  figure = plot_graph(_pair_graph(matrix, _objects()), [_IMAGE])
  weak, strong, _ = _patches(figure, Polygon)
  assert strong.get_alpha() > weak.get_alpha()

  def width(patch):
    xy = patch.get_xy()
    return np.linalg.norm(xy[0] - xy[-2])  # the last point closes it

  assert width(strong) > 2 * width(weak)


def test_a_masked_node_is_not_drawn():
  matrix = np.ones((3, 3))
  few = _pair_graph(matrix, _objects(mask=(True, False, True)))
  figure = plot_graph(few, [_IMAGE])
  assert len(_wedges(figure, 1)) == 1
  assert "green" not in _texts(figure)
  assert {"red", "blue"} <= set(_texts(figure))
  assert len(_patches(figure, Circle)) == 2


def test_circles_are_as_large_as_shares():
  view = _pair_graph(np.zeros((3, 3)), _objects(), shares=[0.64, 0.16, 0.2])
  figure = plot_graph(view, [_IMAGE])
  radii = {
    tuple(np.round(circle.center, 6)): circle.radius
    for circle in _patches(figure, Circle)
  }  # the rings come last
  (panel,) = lay_out(view, 5 / 3).panels
  first, second = (
    radii[tuple(np.round(panel.places["objects", i], 6))] for i in (0, 1)
  )
  assert first / second == pytest.approx(2)
  assert "red 64 %" in _texts(figure)


def test_steps_stand_in_order_from_left_to_right():
  shares = np.eye(3)
  view = make_walk("steps", "objects", _objects(), shares, np.ones((2, 3, 3)))
  panels = lay_out(view, 1.0).panels
  assert [panel.title for panel in panels] == ["step 1", "step 2", "step 3"]
  lefts = [panel.pictures[0][0] for panel in panels]
  assert lefts == sorted(lefts)
  texts = _texts(plot_graph(view, [_IMAGE]))
  order = [t for t in texts if t.startswith("step") or t.endswith("100 %")]
  assert order[:6] == [
    "red 100 %", "step 1", "green 100 %", "step 2", "blue 100 %", "step 3",
  ]  # fmt: skip
  assert any("at most 100 %" in text for text in texts)


@pytest.mark.parametrize("number", range(2, 8))
def test_pictures_of_steps_do_not_overlap(number):
  shares = np.full((number, 3), 1 / 3)
  view = make_walk("steps", "objects", _objects(), shares, [])
  layout = lay_out(view, 1.0)
  boxes = [panel.pictures[0] for panel in layout.panels]
  for i, (left, top, width, height) in enumerate(boxes):
    assert left + width <= layout.width + 1e-9
    assert top + height <= layout.height + 1e-9
    for other in boxes[i + 1 :]:
      assert (
        left + width <= other[0]
        or other[0] + other[2] <= left
        or top + height + 0.1 <= other[1]
      )


def test_words_stand_beside_the_picture():
  rng = np.random.default_rng(0)
  sets = {
    "image": grid_nodes((5, 5)),
    "text": word_nodes(list("abcdefgh"), np.ones(12, bool)),
  }
  weights = {("text", "image"): rng.random((12, 25))}
  view = make_graph("edges", sets, weights, {})
  layout = lay_out(view, 1.0)
  (panel,) = layout.panels
  left, _, width, _ = panel.pictures[0]
  words = [panel.places["text", i] for i in range(8)]
  assert all(left + width < x < layout.width for x, _ in words)
  rows = np.diff([y for _, y in words])
  assert rows.min() > 0.13  # inches: more than a line of text
  assert ("text", 8) not in panel.places
  assert set("abcdefgh") <= set(_texts(plot_graph(view, [_IMAGE])))


def test_frames_lie_in_a_row_and_time_runs_above():
  matrix = _one_edge(16, 9, 2) + _one_edge(16, 1, 5)
  view = _pair_graph(matrix, frame_nodes(np.ones(16, bool)), "video")
  assert is_wide(view)
  layout = lay_out(view, 1.0)
  (panel,) = layout.panels
  lefts = [box[0] for box in panel.pictures]
  assert np.diff(lefts).min() > panel.pictures[0][2]
  _, top, _, height = panel.pictures[0]
  forwards, backwards = view.steps[0].edges
  if forwards.sender[1] > forwards.receiver[1]:
    forwards, backwards = backwards, forwards
  above = edge_outline(panel, forwards, 0.02, 0.002)
  below = edge_outline(panel, backwards, 0.02, 0.002)
  assert above[:, 1].max() < top + 0.02
  assert above[:, 1].min() > -0.05
  assert below[:, 1].min() > top + height - 0.02
  assert below[:, 1].max() < layout.height + 0.05
  texts = _texts(plot_graph(view, _FRAMES))
  assert [t for t in texts if t.isdigit()] == [str(n) for n in range(1, 17)]
  assert any(text.startswith("forwards") for text in texts)


def test_cells_of_frames_lie_within_their_frame():
  cells = frame_nodes(np.ones(3, bool)).fit(12, "video")
  view = _pair_graph(_one_edge(12, 11, 0), cells, "video")
  (panel,) = lay_out(view, 2.0).panels
  for node in view.nodes:
    left, top, width, height = panel.pictures[node.frame]
    x, y = panel.places[node.end]
    assert left < x < left + width
    assert top < y < top + height
  plot_graph(view, _FRAMES[:3])


def test_boxes_are_drawn_around_objects():
  boxes = np.array([[0.1, 0.1, 0.3, 0.5], [0.6, 0.4, 0.9, 0.9]])
  objects = NodeSet(["#1", "#2"], np.ones(2, bool), boxes)
  view = _pair_graph(_one_edge(2, 0, 1), objects)
  figure = plot_graph(view, [_IMAGE])
  (panel,) = lay_out(view, 5 / 3).panels
  left, _, width, _ = panel.pictures[0]
  sizes = {
    (round(r.get_x(), 6), round(r.get_width(), 6))
    for r in _patches(figure, Rectangle)
  }
  assert (round(left + 0.1 * width, 6), round(0.2 * width, 6)) in sizes
  assert {"#1", "#2"} <= set(_texts(figure))


def test_labels_stay_inside_and_apart():
  rng = np.random.default_rng(0)
  anchors = rng.random((9, 2)).tolist()
  sizes = [[(0.3, 0.1), (0.12, 0.1)]] * 9
  bounds = (0.0, 0.0, 1.0, 1.0)
  found = place_labels(anchors, [(0.02, 0.02)] * 9, sizes, bounds)
  boxes = [
    (x - s[c][0] / 2, y - s[c][1] / 2, *s[c])
    for s, (c, x, y) in (
      (s, each) for s, each in zip(sizes, found, strict=True) if each
    )
  ]
  assert len(boxes) >= 6
  for i, (left, top, width, height) in enumerate(boxes):
    assert left >= 0
    assert top >= 0
    assert left + width <= 1
    assert top + height <= 1
    for other in boxes[i + 1 :]:
      apart_x = left + width <= other[0] or other[0] + other[2] <= left
      apart_y = top + height <= other[1] or other[1] + other[3] <= top
      assert apart_x or apart_y


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("pictures", [[], [_IMAGE], [0 * _IMAGE]])
def test_hostile_labels_are_escaped_and_no_mathematics(theme, pictures):
  hostile = "<script>x</script>$a_b$"
  objects = _objects((hostile, "&amp;", "$$$"))
  sets = {"objects": objects, "text": word_nodes([hostile], np.ones(1, bool))}
  weights = {("text", "objects"): np.ones((1, 3))}
  view = make_graph(hostile, sets, weights, {"objects": np.ones(3) / 3})
  content = to_svg(plot_graph(view, pictures, theme))
  assert b"<script" not in content
  assert b"&lt;script" in content
  assert b"$$$" in content


def test_the_drawing_is_as_large_as_it_says():
  view = _pair_graph(_one_edge(3, 2, 0), _objects())
  figure = plot_graph(view, [_IMAGE])
  assert tuple(figure.get_size_inches()) == pytest.approx(
    graph_size(view, [_IMAGE])
  )
  (axes,) = figure.axes
  assert axes.get_xlim()[1] - axes.get_xlim()[0] == pytest.approx(
    figure.get_size_inches()[0]
  )


def test_circles_of_cells_stay_apart_and_absent_frames_are_empty():
  mask = np.array([True, False, True])
  cells = frame_nodes(mask).fit(75, "video")
  view = _pair_graph(np.zeros((75, 75)), cells, "video", np.full(75, 1 / 50))
  figure = plot_graph(view, _FRAMES[:3])
  circles = _patches(figure, Circle)
  places = np.array([circle.center for circle in circles])
  apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
  radius = max(circle.radius for circle in circles)
  assert radius > 0.03
  assert 2 * radius < apart[apart > 1e-9].min()
  assert len(figure.axes[0].images) == 2


def test_a_picture_stands_beneath_even_if_nodes_have_columns():
  sets = {"objects": _objects(), "text": word_nodes(["any"], np.ones(1, bool))}
  view = make_graph("edges", sets, {("text", "objects"): np.ones((1, 3))}, {})
  assert len(plot_graph(view, [_IMAGE]).axes[0].images) == 1
  assert len(plot_graph(view, []).axes[0].images) == 0
