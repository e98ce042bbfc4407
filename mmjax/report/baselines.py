"""What a score must be compared with: guesses that look at too little.

A majority baseline gives the commonest training answer to everything; a
question-only baseline gives each question its commonest training answer, and
so shows how much of a data set can be answered with closed eyes (Goyal et al.
2017, "Making the V in VQA matter", https://arxiv.org/abs/1612.00837). Both are
fitted on the training split and nothing else.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.report.intervals import Interval, accuracy_interval


@dataclasses.dataclass(frozen=True)
class Prior:
  """The commonest answers of a training split, as a data set's assets say.

  Attributes:
    majority: the commonest answer of all.
    by_question: the commonest answer of each question.
  """

  majority: str
  by_question: Mapping[str, str]

  def answer(self, questions: Sequence[str]) -> list[str]:
    """Answers by the question alone; unknown ones get the majority answer."""
    return [self.by_question.get(text, self.majority) for text in questions]


def baseline_correct(
  prior: Prior, questions: Sequence[str], answers: Sequence[str]
) -> dict[str, np.ndarray]:
  """Scores both baselines on a split.

  Args:
    prior: as counted on the training split.
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


def score_baselines(
  assets: Mapping[str, Any],
  examples: Sequence[Mapping[str, Any]],
  images: Sequence[int | str],
) -> dict[str, Interval]:
  """Scores guesses, with intervals.

  Args:
    assets: `labels`, `majority_answer` and `question_prior` of the training
      split.
    examples: `text` and `answer` of each example of a split.
    images: the image of each.

  Returns:
    What `baseline_correct` scores; where there is no commonest answer, `chance`
    alone: what a guess among all labels gets, without an interval.
  """
  if assets["majority_answer"] is None:
    share = 1 / len(assets["labels"])
    return {"chance": Interval(share, share, share, len(examples))}
  guesses = baseline_correct(
    Prior(assets["majority_answer"], assets["question_prior"]),
    [example["text"] for example in examples],
    [example["answer"] for example in examples],
  )
  return {
    name: accuracy_interval(correct, images)
    for name, correct in guesses.items()
  }
