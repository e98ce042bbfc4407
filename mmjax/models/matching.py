"""Matching of pictures and captions: one's own, a false one, and others.

A picture is scored with its caption, with the one that is false by a word, and
with the captions of the next examples of the batch. Which of those are true of
it as well is worked out from what the captions state.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict

from mmjax.array_types import Array, Batch, Tokens
from mmjax.models.encode import encode_modalities
from mmjax.nn.matching import Phrases

NUM_SHAPES = 4


def find_true_candidates(batch: Batch, index: Array) -> Array:
  """Tells which captions are true of which scenes.

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

  Of a batch it reads `text`, `text_mask`, `negative`, the phrases, the modality
  of the encoder of regions, and what `find_true_candidates` does.

  Attributes:
    encoders: of "text", and of the regions under their key in the batch, say
      "objects" or "image": modules (values, mask, *, train) -> Tokens.
    matcher: a module of `mmjax.nn.matching`.
    num_candidates: R, captions that a picture is compared with, its own and
      those of the R - 1 next examples; at most B are.
  """

  encoders: Mapping[str, nn.Module]
  matcher: nn.Module
  num_candidates: int = 8

  def __post_init__(self) -> None:
    """Freezes the encoders: a plain dict would make the module unhashable."""
    object.__setattr__(self, "encoders", FrozenDict(self.encoders))
    super().__post_init__()

  def __call__(self, batch: Batch, *, train: bool) -> dict[str, Any]:
    """Scores pairs.

    Args:
      batch: see above.
      train: whether dropout is on.

    Returns:
      "logits" float32 [B, 2], scores of the false and of the true caption;
      "pair_scores" float32 [B, R], of picture i with the caption of example
      (i + r) mod B; "pair_is_true" bool [B, R], whether it is true of it.

    Raises:
      ValueError: not one encoder of regions beside that of text, or fewer than
        one candidate; see `encode_modalities`.
    """
    regions = sorted(set(self.encoders) - {"text"})
    if "text" not in self.encoders or len(regions) != 1:
      raise ValueError(
        "matching needs an encoder of 'text' and one of regions, got"
        f" {', '.join(sorted(self.encoders))}"
      )
    if self.num_candidates < 1:
      raise ValueError(
        f"num_candidates is {self.num_candidates}; it must be at least 1"
      )
    tokens = encode_modalities(self.encoders, batch, train=train)
    false = self.encoders["text"](
      batch["negative"], batch["text_mask"], train=train
    )
    number = batch["text"].shape[0]
    candidates = min(self.num_candidates, number)
    index = (jnp.arange(number)[:, None] + jnp.arange(candidates)) % number
    scores = self._score(
      tokens[regions[0]], tokens["text"], false, batch, index, train
    )
    return {
      "logits": jnp.stack([scores[:, -1], scores[:, 0]], axis=1),
      "pair_scores": scores[:, :-1],
      "pair_is_true": find_true_candidates(batch, index),
    }

  def _score(
    self,
    regions: Tokens,
    words: Tokens,
    false: Tokens,
    batch: Batch,
    index: Array,
    train: bool,
  ) -> Array:
    """Scores [B, R + 1]: the captions of `index`, then the false one."""
    number, candidates = index.shape
    # The false captions stand behind the true ones, with the same phrases.
    own = jnp.arange(number)[:, None]
    caption = jnp.concatenate([index, own + number], axis=1).reshape(-1)
    picture = own.repeat(candidates + 1, axis=1).reshape(-1)
    both = jnp.concatenate([words.values, false.values])
    phrases = caption % number
    scores = self.matcher(
      Tokens(
        jnp.take(regions.values, picture, axis=0),
        jnp.take(regions.mask, picture, axis=0),
      ),
      Tokens(both[caption], jnp.take(words.mask, phrases, axis=0)),
      Phrases(
        jnp.take(batch["phrase_spans"], phrases, axis=0),
        jnp.take(batch["phrase_mask"], phrases, axis=0),
      ),
      train=train,
    )
    return scores.reshape(number, candidates + 1)
