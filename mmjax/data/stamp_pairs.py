"""Phrases and lengths of captions written by people; captions that are false.

For matching pictures and captions where nobody has marked phrases or written
false captions: a phrase begins at a preposition, a conjunction or the like, and
the false caption is that of another picture of the same category.
"""

from collections.abc import Sequence

import numpy as np

NUM_PHRASES = 8
# Classes of captions by length; of the stamps each is about a third.
LENGTHS = ("up to 2 words", "3 words", "4 words and more")
# What a batch holds of a true caption, and the key of the same of a false one;
# `mmjax.models.matching` reads it.
FALSE_CAPTION = {
  "text": "negative",
  "text_mask": "negative_mask",
  "phrase_spans": "negative_phrase_spans",
  "phrase_mask": "negative_phrase_mask",
}
_CUTS = (
  *("and", "as", "at", "by", "called", "for", "from", "in", "into", "of"),
  *("on", "or", "over", "that", "to", "toward", "under", "which", "who"),
  "with",
)


def find_phrases(words: Sequence[str]) -> list[tuple[int, int]]:
  """Cuts words into at most `NUM_PHRASES` phrases.

  Returns:
    The first word of each and the word after its last; together they hold every
    word once.

  >>> find_phrases("a quarter of pizza".split())
  [(0, 2), (2, 4)]
  """
  starts = [0] + [
    place for place, word in enumerate(words) if place and word in _CUTS
  ]
  starts = starts[:NUM_PHRASES]
  return [*zip(starts, [*starts[1:], len(words)], strict=True)]


def classify_length(num_words: int) -> str:
  """Returns which of `LENGTHS` a caption of so many words is.

  >>> classify_length(1), classify_length(3), classify_length(32)
  ('up to 2 words', '3 words', '4 words and more')
  """
  return LENGTHS[int(np.clip(num_words - 2, 0, 2))]


def encode_phrases(spans: Sequence[Sequence[tuple[int, int]]]) -> tuple:
  """Pads phrases: int32 [n, P, 2] and a mask bool [n, P]."""
  padded = np.zeros((len(spans), NUM_PHRASES, 2), np.int32)
  mask = np.zeros((len(spans), NUM_PHRASES), bool)
  for row, found in enumerate(spans):
    padded[row, : len(found)] = found
    mask[row, : len(found)] = True
  return padded, mask


def list_others(
  captions: Sequence[str], categories: Sequence[str]
) -> list[np.ndarray]:
  """Lists for each picture those whose captions can be its false ones.

  They have another caption, and are of the same category if any such are.

  Returns:
    n arrays of numbers; a picture's own number if all captions are equal.
  """
  captions, categories = np.array(captions), np.array(categories)
  lists = []
  for row in range(len(captions)):
    others = np.flatnonzero(captions != captions[row])
    alike = others[categories[others] == categories[row]]
    found = alike if len(alike) else others
    lists.append(found if len(found) else np.array([row]))
  return lists


def choose_others(others: Sequence[np.ndarray]) -> np.ndarray:
  """Chooses one of what `list_others` gave for each picture, always the same.

  Returns:
    int [n].
  """
  return np.array(
    [
      found[np.random.default_rng([len(others), row]).integers(len(found))]
      for row, found in enumerate(others)
    ]
  )
