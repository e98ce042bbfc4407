"""Records of an image with its questions → samples, and what is fitted to them.

A record is a dict of `image_id`, `image` (the bytes of a picture file), perhaps
more, and `questions`, a dict of equally long lists `question_id`, `text`,
`answer` and `type`.
"""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import collation, tokenizers, transforms


def fit_assets(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
  """Fits vocabulary, answers and priors to records; plain JSON values.

  Args:
    records: those of the training split and of no other; without images.

  Returns:
    `labels`, the sorted answers; `vocabulary`, `<pad>` and `<unk>` and the
    sorted words; `question_types`, sorted; `majority_answer`, the most
    frequent answer; `question_prior`, for each question its most frequent
    answer. Ties go to the answer that sorts first.
  """
  answers = collections.defaultdict(collections.Counter)
  types = set()
  for record in records:
    questions = record["questions"]
    for text, answer in zip(
      questions["text"], questions["answer"], strict=True
    ):
      answers[text][answer] += 1
    types.update(questions["type"])
  total = collections.Counter()
  for counts in answers.values():
    total.update(counts)
  return {
    "labels": sorted(total),
    "vocabulary": list(tokenizers.WordTokenizer.build(answers).vocabulary),
    "question_types": sorted(types),
    "majority_answer": _most_frequent(total),
    "question_prior": {
      text: _most_frequent(answers[text]) for text in sorted(answers)
    },
  }


class Encoder:
  """Record → sample: a row, and words, answers and types as numbers.

  The examples of a sample have the keys `text` [n, T] int32, `text_mask`
  [n, T], `label` [n] int32, `question_type` [n] int32, `example_mask` [n];
  its shared row is what `read_row` makes of the record, for instance pixels.
  """

  def __init__(
    self,
    assets: Mapping[str, Any],
    *,
    split: str,
    max_words: int,
    read_row: Callable[[Mapping[str, Any]], np.ndarray],
  ) -> None:
    """Makes an encoder.

    Args:
      assets: what `fit_assets` gave.
      split: starts the record ids, `<split>/<image>/<question>`.
      max_words: T, words of a question that are kept.
      read_row: makes the row that the questions share out of a record.
    """
    self._split = split
    self._max_words = max_words
    self._read_row = read_row
    self._tokenizer = tokenizers.WordTokenizer(assets["vocabulary"])
    self._labels = _number(assets["labels"])
    self._types = _number(assets["question_types"])

  def __call__(self, record: Mapping[str, Any]) -> collation.Sample:
    """Encodes the row and all of its questions.

    Raises:
      RuntimeError: the image is damaged, or an answer or a question type is
        not among the assets; the message names the record.
    """
    questions = record["questions"]
    prefix = f"{self._split}/{record['image_id']}"
    try:
      row = self._read_row(record)
      labels = [self._labels[answer] for answer in questions["answer"]]
      types = [self._types[name] for name in questions["type"]]
    except (ValueError, KeyError) as error:
      raise RuntimeError(
        f"the record {prefix} does not fit: {error}; prepare the data again, "
        "or train again if the checkpoint is of other data"
      ) from error
    texts = [
      self._tokenizer.encode(text, self._max_words)
      for text in questions["text"]
    ]
    examples = {
      "text": np.stack([text.ids for text in texts]),
      "text_mask": np.stack([text.mask for text in texts]),
      "label": np.array(labels, np.int32),
      "question_type": np.array(types, np.int32),
      "example_mask": np.ones(len(texts), bool),
    }
    record_ids = [f"{prefix}/{number}" for number in questions["question_id"]]
    return collation.Sample(row, examples, record_ids)


def read_pixels(record: Mapping[str, Any], size: int) -> np.ndarray:
  """Decodes a record's image to uint8 [size, size, 3].

  Raises:
    ValueError: it is damaged.
  """
  return transforms.to_array(transforms.open_image(record["image"]), size)


def encode_question(
  assets: Mapping[str, Any], text: str, max_words: int
) -> tuple[tokenizers.Encoded, list[str]]:
  """Encodes a user's question.

  Args:
    assets: what `fit_assets` gave.
    text: the question.
    max_words: T, words that are kept.

  Returns:
    Its words, and notes to the user: a sentence for each unknown word and for
    words beyond `max_words`.

  Raises:
    ValueError: it has no word; one sentence.
  """
  encoded = tokenizers.WordTokenizer(assets["vocabulary"]).encode(
    text, max_words
  )
  if encoded.num_words == 0:
    some = min(assets["question_prior"], default="what is it?")
    raise ValueError(
      f"the question {text!r} has no words; ask for instance {some!r}"
    )
  notes = [
    f"the word {word!r} is not in the vocabulary and was read as unknown"
    for word in encoded.unknown
  ]
  if encoded.num_words > max_words:
    notes.append(
      f"the question has {encoded.num_words} words, of which the first "
      f"{max_words} were read"
    )
  return encoded, notes


def _number(names: Sequence[str]) -> dict[str, int]:
  return {name: number for number, name in enumerate(names)}


def _most_frequent(counts: Mapping[str, int]) -> str:
  return min(counts, key=lambda answer: (-counts[answer], answer))
