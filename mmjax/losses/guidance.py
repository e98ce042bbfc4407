r"""What the steps of a reasoner are told in training: which object each needs.

.. math:: \ell = -\frac{1}{S} \sum_t \log a_t(o_t)

for the attention a of step t and the object o that the question leads to in t
hops; once it has arrived, it stays.

Hudson and Manning 2019, "Learning by Abstraction: The Neural State Machine",
https://arxiv.org/abs/1907.03950, learns from answers alone on graphs whose
concepts are given. Attention that is taught: Qiao et al. 2018, "Exploring
Human-like Attention Supervision in Visual Question Answering",
https://arxiv.org/abs/1709.06308.

Differs from the papers: the way is exact, one object a step.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmjax.array_types import Array, Batch

# Centres are at least four pixels of 64 apart in x and in y; -1 to 1 is all.
NEAR = 0.06


def guidance_loss(outputs: Mapping[str, Any], batch: Batch) -> Array:
  """Compares where each step looked with where it should have.

  Objects are told apart by their places, so that it does not matter whether
  they are given or found, and in which order. A step whose object was not found
  counts nothing.

  Args:
    outputs: holds `step_scores` [B, S, K], `node_places` [I, K, 2] and
      `node_mask` [I, K]; see `mmjax.models.scene_reasoning`.
    batch: holds `objects` [I, L, F], whose last two numbers are x and y, `path`
      int [B, P], places in L, `path_mask` [B, P], and `objects_index` [B].

  Returns:
    float32 [B], nats.
  """
  scores = outputs["step_scores"]
  index = jnp.asarray(batch["objects_index"])
  last = jnp.maximum(batch["path_mask"].sum(axis=1) - 1, 0)
  step = jnp.minimum(jnp.arange(scores.shape[1]), last[:, None])
  goal = jnp.take_along_axis(batch["path"], step, axis=1)
  own_places = jnp.asarray(batch["objects"])[..., -2:]
  wanted = own_places[index[:, None], goal]  # [B, S, 2]
  places = jax.lax.stop_gradient(outputs["node_places"])[index]
  apart = abs(wanted[:, :, None] - places[:, None]).max(axis=-1)
  apart = jnp.where(outputs["node_mask"][index][:, None], apart, jnp.inf)
  of_step = optax.softmax_cross_entropy_with_integer_labels(
    scores, apart.argmin(axis=-1)
  )
  found = apart.min(axis=-1) < NEAR
  return jnp.where(found, of_step, 0.0).mean(axis=1)


@dataclasses.dataclass(frozen=True)
class Guided:
  """Another loss, plus what the steps are told.

  Attributes:
    answer: (outputs, batch) -> [B], the loss of the answer.
    weight: of the guidance.
  """

  answer: Callable[..., Array]
  weight: float = 1.0

  def __call__(self, outputs: Mapping[str, Any], batch: Batch) -> Array:
    """Computes the loss of each example, float32 [B]; see `guidance_loss`."""
    told = guidance_loss(outputs, batch)
    return self.answer(outputs, batch) + self.weight * told
