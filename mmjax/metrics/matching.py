"""Recall among candidates, beside how often a false caption is seen through.

`accuracy` and `accuracy_by_type` are those of the choice between the true
caption and the false one; with the number of relations as the type, by length.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Array, Batch
from mmjax.metrics.classification import ClassificationMetrics


def count_better(scores: Array, wrong: Array) -> Array:
  """Counts wrong candidates that score no less than the right one.

  Args:
    scores: [B, R], the right one first.
    wrong: bool [B, R], which candidates are wrong.

  Returns:
    int32 [B]; equal scores count against the right one.
  """
  better = scores >= scores[:, :1]
  return (better & wrong).sum(axis=1, dtype=jnp.int32)


@dataclasses.dataclass(frozen=True)
class MatchingMetrics(ClassificationMetrics):
  """Counts and scores of a model of matching; `num_classes` is 2.

  Attributes:
    ranks: the k of recall@k.
  """

  ranks: tuple[int, ...] = (1, 5)

  def update(
    self, outputs: Mapping[str, Array], batch: Batch
  ) -> dict[str, Array]:
    """Counts one batch.

    Args:
      outputs: holds `logits` [B, 2], `pair_scores` and `pair_is_true` [B, R];
        see `mmjax.models.matching`.
      batch: see `ClassificationMetrics.update`.

    Returns:
      What `ClassificationMetrics.update` does, and if there are scores of
      pairs "recalled" int32 [2, G, ranks]: captions found for a picture and
      pictures for a caption, by type, among R candidates; and "candidates"
      int32 [2], how many there were, the right one and the wrong ones.

    Raises:
      ValueError: see `ClassificationMetrics.update`.
    """
    counts = super().update(outputs, batch)
    if "pair_scores" not in outputs:
      return counts
    scores = outputs["pair_scores"]
    there = batch["example_mask"]
    size = scores.shape[1]
    captions = jnp.stack(
      [jnp.roll(there, -shift) for shift in range(size)], axis=1
    )
    wrong = ~outputs["pair_is_true"] & captions & there[:, None]
    wrong = wrong.at[:, 0].set(False)

    def roll(values: Array) -> Array:
      columns = [jnp.roll(values[:, shift], shift) for shift in range(size)]
      return jnp.stack(columns, axis=1)

    kind = jnp.zeros_like(batch["label"])
    if self.type_key is not None:
      kind = batch[self.type_key]
    found, candidates = [], []
    for pair in ((scores, wrong), (roll(scores), roll(wrong))):
      candidates.append(there.sum() + pair[1].sum())
      better = count_better(*pair)[:, None]
      hit = (better < jnp.array(self.ranks)) & there[:, None]
      zeros = jnp.zeros((self.num_types, len(self.ranks)), jnp.int32)
      found.append(zeros.at[kind].add(hit.astype(jnp.int32), mode="drop"))
    return {
      **counts,
      "recalled": jnp.stack(found),
      "candidates": jnp.stack(candidates).astype(jnp.int32),
    }

  def compute(
    self,
    counts: Mapping[str, Any],
    labels: Sequence[str] | None = None,
    types: Sequence[str] | None = None,
  ) -> dict[str, Any]:
    """Turns summed counts into scores that JSON can hold.

    Returns:
      What `ClassificationMetrics.compute` does, and for each rank k
      `caption_recall@k`, from picture to caption, and `picture_recall@k`, from
      caption to picture, and both also `_by_type`; `caption_candidates` and
      `picture_candidates`, among how many on average.

    Raises:
      ValueError: see `ClassificationMetrics.compute`.
    """
    scores = super().compute(counts, labels, types)
    if "recalled" not in counts:
      return scores
    names = list(scores["accuracy_by_type"])
    totals = np.asarray(counts["confusion"], np.int64).sum(axis=(1, 2))
    recalled = np.asarray(counts["recalled"], np.int64)
    candidates = np.asarray(counts["candidates"], np.int64)
    for side, what in enumerate(("caption", "picture")):
      scores[f"{what}_candidates"] = int(candidates[side]) / int(totals.sum())
      for place, rank in enumerate(self.ranks):
        hits = recalled[side, :, place]
        key = f"{what}_recall@{rank}"
        scores[key] = int(hits.sum()) / int(totals.sum())
        scores[f"{key}_by_type"] = {
          name: int(h) / int(n) if n else None
          for name, h, n in zip(names, hits, totals, strict=True)
        }
    return scores
