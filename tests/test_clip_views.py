"""Clips: which frames are shown, and the graph of a real encoder along them."""

import types

import fiddle as fdl
import jax
import numpy as np
import pytest

from experiments.configs.digit_motion import digit_motion_graph
from mmjax.config import build_config
from mmjax.explanation import explain_batch
from mmjax.report.drawing import plot_attention
from mmjax.report.graph_drawing import plot_graph

PRESENT = np.array([True, True, False, True, False])

pytestmark = pytest.mark.usefixtures("fast_compilation")


class Data:
  """Knows nothing of places."""

  def place_tokens(self, batch):
    del batch
    return {}


def _explain(*overrides, mask=PRESENT):
  model = fdl.build(
    build_config(digit_motion_graph, ("width=8", *overrides))
  ).model
  rng = np.random.default_rng(0)
  batch = {
    "video": rng.integers(0, 256, (1, len(mask), 8, 8, 1), np.uint8),
    "video_mask": mask[None],
    "label": np.zeros(1, np.int32),
    "example_mask": np.ones(1, bool),
  }
  init = jax.jit(lambda rng: model.init(rng, batch, train=False))
  trained = types.SimpleNamespace(
    experiment=types.SimpleNamespace(model=model, data=Data()),
    params=init(jax.random.key(0))["params"],
    assets={"labels": [*"abcdefgh"]},
  )
  return explain_batch(trained, batch, text="")


@pytest.mark.parametrize("nodes", ["tokens", "frames"])
@pytest.mark.parametrize("rounds", [1, 2])
def test_absent_frames_are_neither_shown_nor_linked(nodes, rounds):
  encoder = "model.encoders.video"
  view = _explain(f"{encoder}.nodes={nodes}", f"{encoder}.num_rounds={rounds}")
  assert [number for number, _ in view.shown_frames] == [1, 2, 4]
  (graph,) = view.graphs
  assert graph.title == "Strongest edges within video"
  assert ("of the last of 2 rounds" in graph.caption) == (rounds == 2)
  assert {node.frame for node in graph.nodes} == {0, 1, 3}
  per_frame = 4 if nodes == "tokens" else 1  # 8 pixels by a stem and a pooling
  assert len(graph.nodes) == 3 * per_frame
  frames = {node.end: node.frame for node in graph.nodes}
  for edge in graph.steps[0].edges:
    assert {frames[edge.sender], frames[edge.receiver]} <= {0, 1, 3}
  figure = plot_graph(graph, list(view.frames))
  (axes,) = figure.axes
  assert len(axes.images) == 3
  written = {text.get_text() for text in axes.texts}
  assert {"1", "2", "4"} <= written
  assert not {"3", "5"} & written


def test_the_picture_of_a_clip_has_its_frames():
  figure = plot_attention(_explain())
  head, strip, _ = figure.subfigs
  assert [a.get_title() for a in strip.axes if a.images] == ["1", "2", "4"]
  assert "\N{RIGHTWARDS ARROW}" not in head.get_suptitle()  # nothing was asked
