"""What a score must be compared with: guesses that look at too little.

A majority baseline gives the commonest training answer to everything; a
question-only baseline gives each question its commonest training answer, and
so shows how much of a data set can be answered with closed eyes (Goyal et al.
2017, "Making the V in VQA matter", https://arxiv.org/abs/1612.00837). Both are
fitted on the training split and nothing else.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Prior:
  """The commonest answers of a training split.

  Attributes:
    majority: the commonest answer of all.
    by_question: the commonest answer of each question.
  """

  majority: str
  by_question: Mapping[str, str]

  def answer(self, questions: Sequence[str]) -> list[str]:
    """Answers by the question alone; unknown ones get the majority answer."""
    return [self.by_question.get(text, self.majority) for text in questions]


def fit_prior(questions: Sequence[str], answers: Sequence[str]) -> Prior:
  """Counts the training answers.

  Args:
    questions: the question of each training example.
    answers: the answer of each training example.

  Returns:
    The commonest answers; ties go to the first in alphabetical order.

  Raises:
    ValueError: there are no examples, or the lengths differ.

  >>> prior = fit_prior(["color?", "color?", "any?"], ["red", "red", "no"])
  >>> prior.answer(["any?", "what?"])
  ['no', 'red']
  """
  if len(questions) == 0 or len(questions) != len(answers):
    raise ValueError(
      "fit_prior needs one answer for each question and at least one, got "
      f"{len(questions)} questions and {len(answers)} answers"
    )
  counts = collections.defaultdict(collections.Counter)
  for question, answer in zip(questions, answers, strict=True):
    counts[question][answer] += 1
  return Prior(
    majority=_commonest(collections.Counter(answers)),
    by_question={text: _commonest(count) for text, count in counts.items()},
  )


def baseline_correct(
  prior: Prior, questions: Sequence[str], answers: Sequence[str]
) -> dict[str, np.ndarray]:
  """Scores both baselines on a split.

  Args:
    prior: as fitted on the training split.
    questions: the question of each example of the split.
    answers: the true answer of each.

  Returns:
    `{"question only": bool [n], "majority answer": bool [n]}`, whether each
    example is answered rightly.
  """
  true = np.asarray(answers)
  return {
    "question only": np.asarray(prior.answer(questions)) == true,
    "majority answer": true == prior.majority,
  }


def _commonest(counts: collections.Counter) -> str:
  return min(counts, key=lambda answer: (-counts[answer], answer))
