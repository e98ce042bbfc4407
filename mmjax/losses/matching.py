r"""Contrast of each pair with other captions, other pictures, and a false one.

.. math::
  \ell_i = -\log \frac{e^{s_{ii}}}{e^{s_{ii}} + \sum_j e^{s_{ij}}
    + e^{s_{i-}}} - \log \frac{e^{s_{ii}}}{e^{s_{ii}} + \sum_j e^{s_{ji}}}

Radford et al. 2021 (CLIP), https://arxiv.org/abs/2103.00020; a false caption
among the candidates as in Yuksekgonul et al. 2023, "When and why
vision-language models behave like bags-of-words",
https://arxiv.org/abs/2210.01936.

Differs from the papers: pairs that are true by chance are nobody's negatives;
only the first R captions after an example's own are compared.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mmjax.array_types import Array, Batch

_LOWEST = jnp.finfo(jnp.float32).min


def roll_to_captions(values: Array) -> Array:
  """Turns [B, R] of picture i and caption (i + r) mod B to rows of captions.

  Returns:
    [B, R], of caption i and picture (i - r) mod B.
  """
  columns = [
    jnp.roll(values[:, shift], shift) for shift in range(values.shape[1])
  ]
  return jnp.stack(columns, axis=1)


def find_negatives(outputs: Mapping[str, Array], batch: Batch) -> Array:
  """Tells which candidates are wrong, [B, R]: neither true nor padding."""
  false = ~outputs["pair_is_true"]
  there = batch["example_mask"]
  shifts = range(false.shape[1])
  captions = jnp.stack([jnp.roll(there, -shift) for shift in shifts], axis=1)
  return (false & captions & there[:, None]).at[:, 0].set(False)


@dataclasses.dataclass(frozen=True)
class Matching:
  """The two contrasts of each example, in nats.

  Attributes:
    use_false_caption: whether the caption that is false by a word is among
      the candidates of its picture.
  """

  use_false_caption: bool = True

  def __call__(self, outputs: Mapping[str, Array], batch: Batch) -> Array:
    """Computes the loss of each example.

    Args:
      outputs: holds `pair_scores` and `pair_is_true` [B, R], and `logits`
        [B, 2]; see `mmjax.models.matching`.
      batch: holds `example_mask` bool [B].

    Returns:
      float32 [B].
    """
    scores = outputs["pair_scores"].astype(jnp.float32)
    wrong = find_negatives(outputs, batch)
    kept = wrong.at[:, 0].set(True)
    of_picture = jnp.where(kept, scores, _LOWEST)
    of_caption = jnp.where(
      roll_to_captions(kept), roll_to_captions(scores), _LOWEST
    )
    if self.use_false_caption:
      false = outputs["logits"][:, :1].astype(jnp.float32)
      of_picture = jnp.concatenate([of_picture, false], axis=1)
    return -(
      jax.nn.log_softmax(of_picture)[:, 0]
      + jax.nn.log_softmax(of_caption)[:, 0]
    )
