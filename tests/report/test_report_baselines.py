from mmjax.report.baselines import Prior, baseline_correct

_PRIOR = Prior(majority="red", by_question={"is it?": "no", "what?": "red"})


def test_unknown_questions_get_the_majority_answer():
  assert _PRIOR.answer(["is it?", "who?", "what?"]) == ["no", "red", "red"]


def test_both_baselines_are_scored():
  correct = baseline_correct(
    _PRIOR, ["is it?", "is it?", "what?", "new?"], ["no", "red", "blue", "red"]
  )
  assert correct["question only"].tolist() == [True, False, False, True]
  assert correct["majority answer"].tolist() == [False, True, False, True]
