"""Baselines fitted on a handful of answers that can be counted by eye."""

import numpy as np
import pytest

from mmjax.report.baselines import baseline_correct, fit_prior

_QUESTIONS = ["color?", "color?", "color?", "any?", "any?", "shape?"]
_ANSWERS = ["red", "blue", "blue", "yes", "no", "yes"]


def test_prior_takes_the_commonest_answer_and_breaks_ties_by_name():
  prior = fit_prior(_QUESTIONS, _ANSWERS)
  assert prior.majority == "blue"  # as often as "yes"
  assert prior.by_question == {"color?": "blue", "any?": "no", "shape?": "yes"}


def test_unknown_questions_get_the_majority_answer():
  prior = fit_prior(_QUESTIONS, _ANSWERS)
  assert prior.answer(["new?", "any?"]) == ["blue", "no"]


def test_both_baselines_are_scored():
  prior = fit_prior(_QUESTIONS, _ANSWERS)
  scored = baseline_correct(
    prior, ["any?", "color?", "new?"], ["yes", "blue", "blue"]
  )
  assert list(scored) == ["question only", "majority answer"]
  np.testing.assert_array_equal(scored["question only"], [False, True, True])
  np.testing.assert_array_equal(scored["majority answer"], [False, True, True])


@pytest.mark.parametrize(("questions", "answers"), [([], []), (["a"], [])])
def test_lengths_are_checked(questions, answers):
  with pytest.raises(ValueError, match="one answer for each question"):
    fit_prior(questions, answers)
