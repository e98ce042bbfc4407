"""Questions about scenes, answered by steps of reasoning over a scene graph.

The objects and their relations are given, or a detector finds them in the
picture. Edges have the type of a relation and the distance of their ends.

Hudson and Manning 2019, "Learning by Abstraction: The Neural State Machine",
https://arxiv.org/abs/1907.03950, reasons in steps over a graph that a detector
predicts.

Differs from the paper: relations of predicted objects are read off their
places; see `mmjax.nn.graph_reasoning` and `mmjax.nn.detection` for the parts.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from mmjax.array_types import Array, Batch, Tokens
from mmjax.models.encode import encode_modalities
from mmjax.nn.dense import Dense
from mmjax.nn.dense_graph import DenseGraph
from mmjax.nn.detection import (
  CellDetector,
  measure_distances,
  pick_objects,
  relate_places,
)
from mmjax.nn.graph_reasoning import GraphReasoning
from mmjax.nn.pooling import masked_mean

NUM_RELATIONS = 4


def read_triples(batch: Batch, num_objects: int) -> Array:
  """Makes the adjacency of the triples that a batch gives.

  Args:
    batch: holds `graph_senders`, `graph_receivers`, `graph_relations` and
      `graph_mask`, [I, E].
    num_objects: K.

  Returns:
    bool [I, 4, K, K] at [relation, receiver, sender].
  """
  mask = batch["graph_mask"]
  row = jnp.arange(mask.shape[0])[:, None]
  # What is masked goes beyond the end, and is dropped there.
  relation = jnp.where(mask, batch["graph_relations"], NUM_RELATIONS)
  shape = (mask.shape[0], NUM_RELATIONS, num_objects, num_objects)
  return (
    jnp.zeros(shape, bool)
    .at[row, relation, batch["graph_receivers"], batch["graph_senders"]]
    .set(True, mode="drop")
  )


class SceneReasoning(nn.Module):
  """A question is answered over the graph of a scene.

  Of a batch it reads `text`, `text_mask` and `objects_index`; without a
  detector `objects`, `objects_mask` and the triples, see `read_triples`; with
  one `image` and `image_mask`. The last two numbers of an object are its x and
  y. The graph of a scene is made once for all of its questions.

  The answer trains neither the detector nor the encoder of its image: objects
  are passed on as they are.
  Sows where it found them, for the report: `places_objects` [I, K, 2], in
  shares of the picture, and `mask_objects` [I, K].

  Attributes:
    encoders: of "text" and, with a detector, of "image", into the tokens of a
      square grid: modules (values, mask, *, train) -> Tokens.
    reasoning: the steps.
    head: a module (tokens, *, train) -> outputs; it is given the memory and the
      question, two groups of one token.
    detector: finds the objects in the tokens of the image; None if objects are
      given.
    num_objects: K, objects that are looked for at most.
  """

  encoders: Mapping[str, nn.Module]
  reasoning: GraphReasoning
  head: nn.Module
  detector: CellDetector | None = None
  num_objects: int = 8

  def __post_init__(self) -> None:
    """Freezes the encoders: a plain dict would make the module unhashable."""
    object.__setattr__(self, "encoders", FrozenDict(self.encoders))
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Batch, *, train: bool) -> dict[str, Any]:
    """Answers questions.

    Args:
      batch: see above.
      train: whether dropout is on.

    Returns:
      What the head returns, for instance {"logits": [B, C]}; `step_scores`
      float32 [B, S, K], whose softmax is where each step looked; `node_places`
      [I, K, 2] and `node_mask` [I, K] of the objects; with a detector also
      `detections` of I pictures.

    Raises:
      ValueError: other encoders than those that are needed; see
        `encode_modalities`.
    """
    needed = ["text"] if self.detector is None else ["image", "text"]
    if sorted(self.encoders) != needed:
      raise ValueError(
        f"scene reasoning {'with' if self.detector else 'without'} a detector"
        f" needs encoders of {', '.join(needed)}, got"
        f" {', '.join(sorted(self.encoders))}"
      )
    text = {"text": self.encoders["text"]}
    words = encode_modalities(text, batch, train=train)["text"]
    objects, adjacency, extra = self._find_objects(batch, train)
    distances = measure_distances(objects.values[..., -2:])
    index = jnp.asarray(batch["objects_index"])
    graph = DenseGraph(
      objects.values[index],
      distances[index],
      None,
      adjacency[index],
      objects.mask[index],
    )
    query = self._read_question(words)
    walk = self.reasoning.walk(graph, query, words=words, train=train)
    asked = Dense(
      self.reasoning.width,
      dtype=self.reasoning.dtype,
      param_dtype=self.reasoning.param_dtype,
      name="asked",
    )(query)
    tokens = jnp.stack([walk.memory, asked], axis=1)
    there = jnp.ones(tokens.shape[:2], bool)
    found = Tokens(tokens, there, group_sizes=(1, 1))
    return {
      **self.head(found, train=train),
      "step_scores": walk.scores,
      "node_places": objects.values[..., -2:],
      "node_mask": objects.mask,
      **extra,
    }

  def _find_objects(
    self, batch: Batch, train: bool
  ) -> tuple[Tokens, Array, Mapping[str, Any]]:
    """Returns objects [I, K, F], adjacency [I, 4, K, K], and outputs."""
    if self.detector is None:
      objects = Tokens(
        jnp.asarray(batch["objects"]), jnp.asarray(batch["objects_mask"])
      )
      return objects, read_triples(batch, objects.mask.shape[1]), {}
    cells = self.encoders["image"](
      batch["image"], batch["image_mask"], train=train
    )
    detections = self.detector(cells)
    objects = pick_objects(
      detections, self.num_objects, batch["image"].shape[1]
    )
    objects = jax.lax.stop_gradient(objects)
    size = batch["image"].shape[1]
    pixels = (objects.values[..., -2:] + 1) / 2 * (size - 1) + 0.5
    self.sow("intermediates", "places_objects", pixels / size)
    self.sow("intermediates", "mask_objects", objects.mask)
    adjacency = relate_places(objects.values[..., -2:], objects.mask)
    return objects, adjacency, {"detections": detections}

  def _read_question(self, words: Tokens) -> Array:
    """Joins the mean of the words, the first and the last: [B, 3 D]."""
    values, mask = words.values, words.mask
    last = jnp.maximum(mask.sum(axis=1) - 1, 0)
    final = jnp.take_along_axis(values, last[:, None, None], axis=1)[:, 0]
    parts = [masked_mean(values, mask), values[:, 0], final]
    return jnp.concatenate(parts, axis=-1)
