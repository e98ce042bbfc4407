"""A real model's intermediates, from its last layer to the card."""

import jax
import numpy as np

from mmjax.encoders.image import GridEncoder
from mmjax.encoders.text import RecurrentEncoder
from mmjax.fusion.graph import GraphFusion
from mmjax.heads.classifier import Classifier
from mmjax.models.multimodal import MultimodalModel
from mmjax.report.attention import (
  collect_attention,
  collect_grids,
  select_example,
)
from mmjax.report.examples import ExampleView
from mmjax.report.graph_view import describe_graph
from mmjax.report.node_sets import grid_nodes, word_nodes
from mmjax.report.overlays import word_maps, word_weights
from mmjax.report.sown_graphs import find_graphs


def test_what_a_graph_model_sows_can_be_drawn():
  model = MultimodalModel(
    encoders={
      "image": GridEncoder(features=(3, 5), width=8),
      "text": RecurrentEncoder(vocabulary_size=11, embedding_dim=5, width=8),
    },
    fusion=GraphFusion(width=8, num_heads=2, num_rounds=2, mlp_dim=8),
    head=Classifier(num_classes=3, hidden=7, pooling="attention"),
  )
  text_mask = np.ones((3, 5), bool)
  text_mask[1, 3:] = False
  rng = np.random.default_rng(0)
  batch = {
    "image": rng.integers(0, 256, (2, 24, 12, 3), np.uint8),
    "image_mask": np.ones(2, bool),
    "image_index": np.array([0, 1, 1], np.int32),
    "text": np.where(text_mask, 3, 0).astype(np.int32),
    "text_mask": text_mask,
    "label": np.zeros(3, np.int32),
    "example_mask": np.ones(3, bool),
  }
  kept = ["params", "intermediates"]
  init = jax.jit(lambda rng: model.init(rng, batch, train=False, mutable=kept))
  sown = jax.device_get(init(jax.random.key(0))["intermediates"])

  assert collect_grids(sown, ("image", "text")) == {"image": (6, 3)}
  attention = collect_attention(sown, ("image", "text"))
  assert {name: weights.shape for name, weights in attention.items()} == {
    "image_over_image": (3, 2, 2, 18, 18),
    "image_over_text": (3, 2, 2, 18, 5),
    "pool_image": (3, 18),
    "pool_text": (3, 5),
    "text_over_image": (3, 2, 2, 5, 18),
    "text_over_text": (3, 2, 2, 5, 5),
  }
  view = ExampleView(
    image=batch["image"][1],
    words=["any", "red", "shape"],
    text="any red shape?",
    answer=None,
    top=[("no", 1.0)],
    attention=select_example(attention, 1),
    grid=(6, 3),
  )
  names = [name for name, _ in word_maps(view)]
  assert names == ["all words", "any", "red", "shape", "pooling"]
  for _, shares in word_weights(view):
    np.testing.assert_allclose(shares.sum(), 1.0, rtol=1e-6)
  one = jax.tree.map(lambda leaf: leaf[1:2], sown)  # each pair is of its own
  one["encoders_image"] = sown["encoders_image"]
  sets = {
    "image": grid_nodes((6, 3)),
    "text": word_nodes(view.words, text_mask[1]),
  }
  (graph,) = find_graphs(one, sets, view.attention)
  assert len(graph.steps[0].edges) == 20
  assert len(graph.steps[0].shares) == 18  # of the cells, by the head's pooling
  assert "cell" in describe_graph(graph)
  assert len(graph.nodes) == 18 + 3
