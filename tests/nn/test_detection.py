"""Detections against what a loop over cells says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.array_types import Tokens
from mmjax.data.synthetic import scene_pictures, scenes
from mmjax.losses.detection import detection_loss
from mmjax.nn.detection import (
  CellDetector,
  Detections,
  measure_distances,
  pick_objects,
  relate_places,
)

SIDE, SIZE = 16, 64


@pytest.fixture(scope="module")
def batch():
  settings = scenes.SceneSettings()
  drawn = [
    scenes.draw_scene(settings, scenes.make_row_rng(0, "test", "x", row))
    for row in range(5)
  ]
  return scene_pictures.encode_objects(drawn, settings)


def detect_truth(batch, sure=20.0):
  """What a perfect detector would say, cell by cell."""
  number = len(batch["objects"])
  presence = np.full((number, SIDE * SIDE), -sure, np.float32)
  kinds = [np.zeros((number, SIDE * SIDE, n), np.float32) for n in (6, 4, 2)]
  offsets = np.full((number, SIDE * SIDE, 2), 0.5, np.float32)
  for row in range(number):
    for place in np.flatnonzero(batch["objects_mask"][row]):
      x, y = (batch["objects"][row, place, -2:] + 1) / 2 * (SIZE - 1) + 0.5
      column, line = int(x * SIDE / SIZE), int(y * SIDE / SIZE)
      cell = line * SIDE + column
      assert presence[row, cell] < 0, "one object a cell"
      presence[row, cell] = sure
      offsets[row, cell] = x * SIDE / SIZE - column, y * SIDE / SIZE - line
      for logits, key in zip(
        kinds, ("colours", "shapes", "sizes"), strict=True
      ):
        logits[row, cell, batch[f"object_{key}"][row, place]] = sure
  return Detections(presence, tuple(kinds), offsets)


def test_a_perfect_detector_finds_all_objects_and_has_no_loss(batch):
  detections = detect_truth(batch)
  found = pick_objects(detections, 8, SIZE)
  for row in range(5):
    expected = batch["objects"][row][batch["objects_mask"][row]]
    objects = np.asarray(found.values[row])[np.asarray(found.mask[row])]
    order = np.lexsort(expected.T), np.lexsort(np.round(objects, 4).T)
    np.testing.assert_allclose(objects[order[1]], expected[order[0]], atol=1e-5)
  assert not np.asarray(found.values)[~np.asarray(found.mask)].any()
  np.testing.assert_allclose(detection_loss(detections, batch), 0, atol=1e-4)


def test_the_loss_is_that_of_a_loop(batch):
  rng = np.random.default_rng(0)
  truth = detect_truth(batch)
  said = jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(np.float32), truth
  )
  expected = []
  for row in range(5):
    total = 0.0
    for cell in range(SIDE * SIDE):
      there = truth.presence[row, cell] > 0
      chance = 1 / (1 + np.exp(-said.presence[row, cell]))
      total -= np.log(chance if there else 1 - chance)
      if there:
        difference = said.offsets[row, cell] - truth.offsets[row, cell]
        total += (difference**2).sum()
        for logits, answers in zip(said.kinds, truth.kinds, strict=True):
          powers = np.exp(logits[row, cell])
          total -= np.log(powers[answers[row, cell].argmax()] / powers.sum())
    expected.append(total / batch["objects_mask"][row].sum())
  np.testing.assert_allclose(detection_loss(said, batch), expected, rtol=1e-4)
  changed = dict(batch)
  absent = ~batch["objects_mask"]
  changed["object_boxes"] = batch["object_boxes"] + absent[..., None] * 0.3
  changed["object_colours"] = np.where(absent, 3, batch["object_colours"])
  np.testing.assert_array_equal(
    detection_loss(said, batch), detection_loss(said, changed)
  )


def test_relations_and_distances_are_those_of_a_loop(batch):
  places, mask = batch["objects"][..., -2:], batch["objects_mask"]
  holds = np.asarray(relate_places(places, mask))
  distances = np.asarray(measure_distances(places))
  expected = scenes.relate(places) & mask[:, None, :, None]
  expected = expected & mask[:, None, None]
  np.testing.assert_array_equal(holds, np.swapaxes(expected, 2, 3))
  for a in range(8):
    for b in range(8):
      gap = np.linalg.norm(places[:, a] - places[:, b], axis=-1)
      np.testing.assert_allclose(distances[:, a, b, 0], gap, atol=1e-6)
  slope = jax.grad(lambda x: measure_distances(x).sum())(places)
  assert np.isfinite(np.asarray(slope)).all()


def test_detector_shapes_and_mistakes():
  detector = CellDetector((5, 3), hidden=7)
  tokens = Tokens(jnp.ones((2, 9, 4)), jnp.ones((2, 9), bool))
  variables = detector.init(jax.random.key(0), tokens)
  detections = detector.apply(variables, tokens)
  assert detections.presence.shape == (2, 9)
  assert [k.shape for k in detections.kinds] == [(2, 9, 5), (2, 9, 3)]
  assert detections.offsets.shape == (2, 9, 2)
  assert pick_objects(detections, 4, 32).values.shape == (2, 4, 10)
  with pytest.raises(ValueError, match="square grid, got 8"):
    detector.init(jax.random.key(0), Tokens(jnp.ones((2, 8, 4)), None))
