"""What a score must be compared with: guesses that look at too little.

A majority baseline gives the commonest training answer to everything; a
question-only baseline gives each question its commonest training answer, and
so shows how much of a data set can be answered with closed eyes (Goyal et al.
2017, "Making the V in VQA matter", https://arxiv.org/abs/1612.00837). Both are
fitted on the training split and nothing else.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


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
