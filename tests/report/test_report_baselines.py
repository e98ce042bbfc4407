import pytest

from mmjax.report.baselines import (
  Prior,
  baseline_correct,
  score_baselines,
)

_PRIOR = Prior(majority="red", by_question={"is it?": "no", "what?": "red"})


def test_unknown_questions_get_the_majority_answer():
  assert _PRIOR.answer(["is it?", "who?", "what?"]) == ["no", "red", "red"]


def test_both_baselines_are_scored():
  correct = baseline_correct(
    _PRIOR, ["is it?", "is it?", "what?", "new?"], ["no", "red", "blue", "red"]
  )
  assert correct["question only"].tolist() == [True, False, False, True]
  assert correct["majority answer"].tolist() == [False, True, False, True]


def test_without_a_commonest_answer_there_is_chance():
  assets = {"labels": ["a", "b", "c"], "majority_answer": None}
  examples = [{"text": "x", "answer": "a"}] * 5
  scores = score_baselines(assets, examples, [1, 1, 2, 2, 3])
  assert list(scores) == ["chance"]
  chance = scores["chance"]
  assert chance.estimate == chance.low == chance.high == pytest.approx(1 / 3)
  assert chance.num_examples == 5


def test_guesses_have_intervals():
  assets = {
    "labels": ["no", "yes"],
    "majority_answer": "no",
    "question_prior": {"red?": "yes"},
  }
  examples = [{"text": "red?", "answer": a} for a in ("yes", "yes", "no")]
  scores = score_baselines(assets, examples, [1, 2, 3])
  estimates = {name: each.estimate for name, each in scores.items()}
  assert estimates == pytest.approx(
    {"question only": 2 / 3, "majority answer": 1 / 3}
  )
  assert all(each.low < each.estimate < each.high for each in scores.values())
