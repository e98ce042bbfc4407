"""Word-level tokens: a vocabulary built from texts, and texts as ids."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np

PADDING, UNKNOWN = "<pad>", "<unk>"


class Encoded(NamedTuple):
  """A text as numbers.

  Attributes:
    ids: [T] int32, 0 where there is no word, 1 for an unknown word.
    mask: [T] bool, True for words.
    unknown: the unknown words among the first T, each once, in order.
    num_words: words of the text; those beyond T are not in `ids`.
  """

  ids: np.ndarray
  mask: np.ndarray
  unknown: list[str]
  num_words: int


def split_words(text: str) -> list[str]:
  """Splits a text into lower-case words, without punctuation.

  >>> split_words("What's the BLUE shape?")
  ["what's", 'the', 'blue', 'shape']
  """
  return re.findall(r"\w+(?:['\u2019]\w+)*", text.lower())


@dataclasses.dataclass(frozen=True)
class WordTokenizer:
  """Maps words to ids by a fixed vocabulary.

  Attributes:
    vocabulary: V distinct words, the id of each its place; the first two are
      `<pad>` and `<unk>`. A plain list of strings, it is its own JSON form.
  """

  vocabulary: Sequence[str]

  def __post_init__(self) -> None:
    """Checks the vocabulary.

    Raises:
      ValueError: it does not start with the two special words, or a word
        stands in it twice.
    """
    words = list(self.vocabulary)
    if words[:2] != [PADDING, UNKNOWN]:
      raise ValueError(
        f"a vocabulary starts with {PADDING!r} and {UNKNOWN!r}, got {words[:2]}"
      )
    if len(set(words)) != len(words):
      twice = [word for word, n in collections.Counter(words).items() if n > 1]
      raise ValueError(f"a vocabulary holds each word once, got twice: {twice}")
    ids = {word: index for index, word in enumerate(words)}
    object.__setattr__(self, "_ids", ids)

  @classmethod
  def build(cls, texts: Iterable[str]) -> Self:
    """Builds the vocabulary of all words in `texts`, sorted.

    >>> WordTokenizer.build(["a red one", "a blue one"]).vocabulary
    ('<pad>', '<unk>', 'a', 'blue', 'one', 'red')
    """
    words = sorted({word for text in texts for word in split_words(text)})
    return cls((PADDING, UNKNOWN, *words))

  def encode(self, text: str, max_words: int) -> Encoded:
    """Encodes the first T = `max_words` words of a text; see `Encoded`."""
    words = split_words(text)
    kept = words[:max_words]
    ids = np.zeros(max_words, np.int32)
    ids[: len(kept)] = [self._ids.get(word, 1) for word in kept]
    mask = np.arange(max_words) < len(kept)
    unknown = [word for word in dict.fromkeys(kept) if word not in self._ids]
    return Encoded(ids, mask, unknown, len(words))
