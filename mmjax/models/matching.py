"""Matching of pictures and captions: one's own, a false one, and others.

A picture is scored with its caption, with one that is false of it, and with the
captions of the next examples of the batch. Which of those are true of it as
well is worked out from what the captions state, or from which are equal.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict

from mmjax.array_types import Array, Batch
from mmjax.models.encode import encode_modalities
from mmjax.nn.matching import Pairs, Phrases

NUM_SHAPES = 4
# What a batch holds of a true caption, and the key of the same of a false one;
# `mmjax.data.stamp_pairs` writes it.
FALSE_CAPTION = {
  "text": "negative",
  "text_mask": "negative_mask",
  "phrase_spans": "negative_phrase_spans",
  "phrase_mask": "negative_phrase_mask",
}


def find_true_candidates(batch: Batch, index: Array) -> Array:
  """Tells which captions are true of which pictures.

  Args:
    batch: holds `caption_id` [B], equal for captions that are true of each
      other's pictures, or what `judge_facts` reads.
    index: int [B, R], the captions that each picture is compared with.

  Returns:
    bool [B, R].
  """
  if "caption_id" in batch:
    own = jnp.asarray(batch["caption_id"])
    return own[:, None] == own[index]
  return judge_facts(batch, index)


def judge_facts(batch: Batch, index: Array) -> Array:
  """Tells which captions state nothing that is false of which scenes.

  Args:
    batch: holds `objects` [B, K, F], whose last two numbers are x and y,
      `objects_mask`, `object_colours` and `object_shapes` [B, K],
      `phrase_facts` and `phrase_mask` [B, P]; see
      `mmjax.data.synthetic.scene_matching`.
    index: int [B, R], the captions that each scene is compared with.

  Returns:
    bool [B, R].
  """
  kinds = batch["object_colours"] * NUM_SHAPES + batch["object_shapes"]
  kinds = jnp.where(batch["objects_mask"], kinds, -1)
  facts, mask = (
    jnp.take(batch[key], index, axis=0)
    for key in ("phrase_facts", "phrase_mask")
  )
  same = kinds[:, None, None, :] == facts[..., ::2, None]  # [B, R, names, K]
  exists = same.any(axis=-1) | ~mask[..., ::2]
  places = batch["objects"][..., -2:]
  named = jnp.where(same[..., None], places[:, None, None], 0).sum(axis=-2)
  first, second = named[..., :-1, :], named[..., 1:, :]
  stated = jnp.stack([first < second, first > second], axis=-1)
  # Left, right, above and below, [B, R, relations, axis * 2 + sense].
  stated = stated.reshape(*stated.shape[:-2], 4)
  relation = jnp.clip(facts[..., 1::2], 0, 3)[..., None]
  holds = jnp.take_along_axis(stated, relation, axis=-1)[..., 0]
  return exists.all(axis=-1) & (holds | ~mask[..., 1::2]).all(axis=-1)


class MatchingModel(nn.Module):
  """Encoders of a picture and of a caption, and a score of each pair.

  Of a batch it reads `text` [B, T], `phrase_spans` [B, P, 2] and their masks;
  the same of a false caption, see `FALSE_CAPTION`; the modality of the encoder
  of regions; and what `find_true_candidates` does.

  Attributes:
    encoders: of "text", and of the regions under their key in the batch, say
      "objects" or "image": modules (values, mask, *, train) -> Tokens.
    matcher: a module of `mmjax.nn.matching` or `mmjax.nn.graph_matching`.
    num_candidates: R in training: captions that a picture is compared with, its
      own and those of the R - 1 next examples; at most B are.
    num_eval_candidates: R otherwise. If it is B, all pairs are scored.
  """

  encoders: Mapping[str, nn.Module]
  matcher: nn.Module
  num_candidates: int = 8
  num_eval_candidates: int = 100

  def __post_init__(self) -> None:
    """Freezes the encoders: a plain dict would make the module unhashable."""
    object.__setattr__(self, "encoders", FrozenDict(self.encoders))
    super().__post_init__()

  def __call__(self, batch: Batch, *, train: bool) -> dict[str, Any]:
    """Scores pairs.

    Args:
      batch: see above.
      train: whether dropout is on, and which number of candidates holds.

    Returns:
      "logits" float32 [B, 2], scores of the false and of the true caption;
      "pair_scores" float32 [B, R], of picture i with the caption of example
      (i + r) mod B; "pair_is_true" bool [B, R], whether it is true of it.

    Raises:
      ValueError: not one encoder of regions beside that of text, a batch
        without false captions, or fewer than one candidate; see
        `encode_modalities`.
    """
    modality = self._check(batch)
    number = len(batch["text"])
    candidates = min(
      self.num_candidates if train else self.num_eval_candidates, number
    )
    regions = encode_modalities(
      {modality: self.encoders[modality]}, batch, train=train
    )[modality]
    captions = {
      true: jnp.concatenate([batch[true], batch[false]])
      for true, false in FALSE_CAPTION.items()
    }
    words = self.encoders["text"](
      captions["text"], captions["text_mask"], train=train
    )
    phrases = Phrases(captions["phrase_spans"], captions["phrase_mask"])
    own = jnp.arange(number)[:, None]
    index = (own + jnp.arange(candidates)) % number
    # The false captions stand behind the true ones.
    caption = jnp.concatenate([index, own + number], axis=1)
    picture = jnp.broadcast_to(own, caption.shape)
    pairs = Pairs(picture.reshape(-1), caption.reshape(-1))
    scores = self.matcher(regions, words, phrases, pairs, train=train)
    scores = scores.reshape(caption.shape)
    return {
      "logits": jnp.stack([scores[:, -1], scores[:, 0]], axis=1),
      "pair_scores": scores[:, :-1],
      "pair_is_true": find_true_candidates(batch, index),
    }

  def _check(self, batch: Batch) -> str:
    """Returns the modality of the regions, or raises ValueError."""
    regions = sorted(set(self.encoders) - {"text"})
    if "text" not in self.encoders or len(regions) != 1:
      raise ValueError(
        "matching needs an encoder of 'text' and one of regions, got"
        f" {', '.join(sorted(self.encoders))}"
      )
    for name in ("num_candidates", "num_eval_candidates"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} is {getattr(self, name)}; it must be at least 1"
        )
    if "negative" not in batch:
      raise ValueError(
        "matching needs batch['negative'], false captions; the batch has"
        f" {', '.join(sorted(batch))}"
      )
    return regions[0]
