"""Questions about scenes as arrays: words, paths, answers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmjax.data import collation, tokenizers
from mmjax.data.synthetic import scene_questions, scenes


class Row(NamedTuple):
  """A scene with its eight questions."""

  scene: scenes.Scene
  questions: tuple[scene_questions.Question, ...]


def make_tokenizer() -> tokenizers.WordTokenizer:
  """Makes the tokenizer of all words that questions can have."""
  words = [*scenes.COLOURS, *scene_questions.NOUNS, *scene_questions.RELATIONS]
  return tokenizers.WordTokenizer.build(
    [*words, "what colour shape is the first"]
  )


def encode_questions(
  rows: Sequence[Row],
  tokenizer: tokenizers.WordTokenizer,
  labels: Sequence[str],
) -> collation.Batch:
  """Encodes the questions of n scenes, 8 n of each; see `SceneGraphVqa`."""
  asked = [(question, row.scene) for row in rows for question in row.questions]
  words = [
    tokenizer.encode(
      scene_questions.write_question(*one), scene_questions.MAX_WORDS
    )
    for one in asked
  ]
  steps = np.array([len(question.path) for question, _ in asked], np.int32)
  most = max(scene_questions.HOPS) + 1
  path = scenes.pad_objects(
    [np.array(question.path) for question, _ in asked], most
  )
  answers = [scene_questions.answer_question(*one) for one in asked]
  numbers = {label: number for number, label in enumerate(labels)}
  return {
    "text": np.stack([one.ids for one in words]),
    "text_mask": np.stack([one.mask for one in words]),
    "path": path,
    "path_mask": np.arange(most) < steps[:, None],
    "label": np.array([numbers[answer] for answer in answers], np.int32),
    "question_type": steps - 2,
  }
