"""Detections against what a loop over cells says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.array_types import Tokens
from mmjax.data.synthetic import scene_pictures, scenes
from mmjax.losses.detection import detection_loss
from mmjax.metrics.detection import DetectionMetrics, count_detections
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


def show(batch):
  """Adds the pictures, whose content does not matter."""
  number = len(batch["objects"])
  image = np.zeros((number, SIZE, SIZE, 3), np.uint8)
  return {**batch, "image": image, "image_mask": np.ones(number, bool)}


def test_quality_of_detections_is_counted_by_hand(batch):
  batch = show(batch)
  truth = detect_truth(batch)
  objects = int(batch["objects_mask"].sum())
  counts = count_detections(truth, batch)
  assert counts["objects"].tolist() == [objects, objects, 0, *[objects] * 4]
  np.testing.assert_allclose(counts["distance"], 0, atol=1e-3)

  # In the first picture one object is missed, another has a wrong colour, a
  # third is 3 pixels off; two cells claim objects that are not there.
  presence, offsets = truth.presence.copy(), truth.offsets.copy()
  colours = truth.kinds[0].copy()
  missed, wrong, off = np.flatnonzero(presence[0] > 0)[:3]
  presence[0, missed] = -1
  presence[0, np.flatnonzero(presence[0] < -2)[[0, 50]]] = 0.5
  colours[0, wrong] = -colours[0, wrong] - 1
  offsets[0, off, 1] += 3 * SIDE / SIZE
  found = Detections(presence, (colours, *truth.kinds[1:]), offsets)
  counts = count_detections(found, batch)
  seen = objects - 1
  assert counts["objects"].tolist() == [
    *(objects, seen, 2, seen - 1, seen, seen, seen - 1)
  ]
  np.testing.assert_allclose(counts["distance"], 3, atol=1e-3)

  # Pictures that are padding do not count, whatever is claimed of them.
  padded = {**batch, "image_mask": np.arange(5) > 0}
  counts = count_detections(found, padded)
  others = int(batch["objects_mask"][1:].sum())
  assert counts["objects"].tolist() == [others, others, 0, *[others] * 4]

  metrics = DetectionMetrics(num_classes=2)
  answers = {"label": np.array([0, 1]), "example_mask": np.ones(2, bool)}
  counts = metrics.update(
    {"logits": np.eye(2, dtype=np.float32), "detections": found},
    {**batch, **answers},
  )
  scores = metrics.compute(jax.device_get(counts))
  assert scores["accuracy"] == 1.0
  assert scores["detection"] == {
    "objects": objects,
    "found": seen / objects,
    "spurious": 2 / (seen + 2),
    "colour": (seen - 1) / seen,
    "shape": 1.0,
    "size": 1.0,
    "all_kinds": (seen - 1) / seen,
    "distance": pytest.approx(3 / seen, abs=1e-3),
  }
