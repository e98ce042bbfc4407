"""What the steps of a reasoner are told."""

import jax
import numpy as np
import pytest

from mmjax.losses.guidance import Guided, guidance_loss

PLACES = np.array([[[-0.5, 0.1], [0.3, 0.2], [0.9, -0.4], [0.0, 0.0]]])


def make_batch():
  """Two questions about a scene of three objects, and a place that is none."""
  kinds = np.zeros((1, 4, 3))
  return {
    "objects": np.concatenate([kinds, PLACES], axis=-1),
    "objects_index": np.array([0, 0]),
    "path": np.array([[2, 0, 0], [1, 2, 0]]),
    "path_mask": np.array([[True, False, False], [True, True, True]]),
  }


def make_outputs(order=(0, 1, 2, 3)):
  order = list(order)
  rng = np.random.default_rng(0)
  return {
    "step_scores": rng.normal(size=(2, 4, 4)).astype(np.float32)[..., order],
    "node_places": PLACES[:, order],
    "node_mask": np.array([[True, True, True, False]])[:, order],
  }


def by_hand(goals, outputs):
  powers = np.exp(outputs["step_scores"])
  shares = powers / powers.sum(axis=-1, keepdims=True)
  return [
    np.mean([-np.log(shares[row, step, goal]) for step, goal in enumerate(way)])
    for row, way in enumerate(goals)
  ]


def test_each_step_is_told_its_object_and_stays_at_the_last():
  outputs = make_outputs()
  goals = [[2, 2, 2, 2], [1, 2, 0, 0]]
  np.testing.assert_allclose(
    guidance_loss(outputs, make_batch()), by_hand(goals, outputs), rtol=1e-5
  )


def test_found_objects_may_come_in_any_order_and_a_little_off():
  batch, given = make_batch(), guidance_loss(make_outputs(), make_batch())
  found = make_outputs(order=(3, 1, 0, 2))
  found["node_places"] = found["node_places"] + 0.02
  np.testing.assert_allclose(guidance_loss(found, batch), given, rtol=1e-6)


def test_an_object_that_was_not_found_counts_nothing():
  outputs = make_outputs()
  outputs["node_mask"] = np.array([[True, True, False, False]])
  loss = guidance_loss(outputs, make_batch())
  assert loss[0] == 0
  whole = by_hand([[2, 2, 2, 2], [1, 2, 0, 0]], outputs)[1]
  powers = np.exp(outputs["step_scores"][1, 1])
  missing = -np.log(powers[2] / powers.sum())
  np.testing.assert_allclose(loss[1], whole - missing / 4, rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_guidance_is_added_by_its_weight(weight):
  outputs, batch = make_outputs(), make_batch()
  loss = Guided(lambda outputs, batch: np.array([1.0, 2.0]), weight)
  expected = np.array([1.0, 2.0]) + weight * guidance_loss(outputs, batch)
  np.testing.assert_allclose(loss(outputs, batch), expected, rtol=1e-6)


def test_places_are_not_taught():
  """Whether an object is near is no reason to move it."""

  def total(places):
    outputs = make_outputs() | {"node_places": places}
    return guidance_loss(outputs, make_batch()).sum()

  assert not np.any(jax.grad(total)(PLACES.astype(np.float32)))
