"""Scores and explanations against values computed in another way."""

import dataclasses
import json

import numpy as np
import pytest
import tiny_runs

from mmjax import evaluation, explanation, reporting
from mmjax.checkpoint import CheckpointError

pytestmark = pytest.mark.usefixtures("easy_vqa", "fast_compilation")

SPLIT = "validation"


@pytest.fixture(scope="module")
def model(trained):
  return evaluation.load_trained(trained, "latest")


@pytest.fixture(scope="module")
def predictions(model, compiled):
  with tiny_runs.fast_compilation(compiled):
    return evaluation.collect_predictions(model, SPLIT)


def softmax(logits):
  exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_every_example_is_there_once_with_its_own_answer(model, predictions):
  listed = model.experiment.data.list_examples(SPLIT)
  assert sorted(predictions.record_ids) == sorted(listed)
  assert len(set(predictions.record_ids)) == len(predictions.record_ids)
  answers = [model.assets["labels"][i] for i in predictions.batch["label"]]
  kinds = [
    model.assets["question_types"][i]
    for i in predictions.batch["question_type"]
  ]
  examples = [listed[record_id] for record_id in predictions.record_ids]
  assert answers == [example["answer"] for example in examples]
  assert kinds == [example["type"] for example in examples]
  assert predictions.logits.shape == (len(listed), 13)


def test_packing_and_padding_change_nothing(model, predictions):
  smaller = dataclasses.replace(model.experiment.evaluation, batch_size=101)
  experiment = dataclasses.replace(model.experiment, evaluation=smaller)
  others = evaluation.collect_predictions(
    dataclasses.replace(model, experiment=experiment), SPLIT
  )
  logits = dict(zip(others.record_ids, others.logits, strict=True))
  assert others.record_ids != predictions.record_ids
  np.testing.assert_allclose(
    [logits[record_id] for record_id in predictions.record_ids],
    predictions.logits,
    atol=1e-5,
  )


def test_scores_by_hand(workdir, model, predictions):
  evaluated = evaluation.evaluate(workdir, step=model.step, split=SPLIT)
  summary = evaluated.summary()
  label, kind = (predictions.batch[n] for n in ("label", "question_type"))
  hit = predictions.logits.argmax(axis=1) == label
  assert summary["num_examples"] == len(hit)
  assert summary["accuracy"] == pytest.approx(hit.mean(), abs=1e-12)
  for index, name in enumerate(model.assets["question_types"]):
    by_type = hit[kind == index].mean()
    assert summary["accuracy_by_type"][name] == pytest.approx(by_type)
  for index, name in enumerate(model.assets["labels"]):
    by_answer = hit[label == index].mean()
    assert summary["accuracy_by_answer"][name] == pytest.approx(by_answer)

  confidence = softmax(predictions.logits.astype(np.float64)).max(axis=1)
  bins = np.minimum((confidence * 15).astype(int), 14)
  gaps = [
    abs(hit[bins == b].sum() - confidence[bins == b].sum()) for b in range(15)
  ]
  assert summary["ece"] == pytest.approx(sum(gaps) / len(hit), abs=1e-5)

  majority = model.assets["majority_answer"]
  share = (label == model.assets["labels"].index(majority)).mean()
  baselines = summary["baselines"]
  assert baselines["majority answer"] == pytest.approx(share)
  assert baselines["question only"] > share + 0.2
  low, high = summary["accuracy_interval"]
  assert low < summary["accuracy"] < high < low + 0.1
  path = workdir / "evaluations" / f"{SPLIT}-{model.step}.json"
  assert json.loads(path.read_text()) == json.loads(json.dumps(summary))
  assert not list(path.parent.glob("*.new"))

  # What training saw at this step is the same number.
  *_, last = tiny_runs.read_history(workdir)
  assert (last["kind"], last["step"]) == ("eval", model.step)
  assert last["accuracy"] == summary["accuracy"]


def test_best_is_the_step_with_the_best_score(trained):
  scores = {
    event["step"]: event["accuracy"]
    for event in tiny_runs.read_history(trained)
    if event["kind"] == "eval"
  }
  best = max(scores, key=lambda step: (scores[step], step))
  assert evaluation.load_trained(trained).step == best
  assert evaluation.load_trained(trained, "2").step == 2
  assert evaluation.load_trained(trained, 2).step == 2
  with pytest.raises(CheckpointError, match="there is no step 7"):
    evaluation.load_trained(trained, "7")
  with pytest.raises(ValueError, match="best, latest or the number"):
    evaluation.load_trained(trained, "-2")


def test_one_example_is_answered_as_among_all(model, predictions):
  """From its picture and its text, instead of from the batches."""
  from PIL import Image

  data = model.experiment.data
  listed = data.list_examples(SPLIT)
  for place in (0, 1234, len(listed) - 1):
    record_id = predictions.record_ids[place]
    example = listed[record_id]
    view, notes = explanation.explain_example(
      model,
      image=Image.fromarray(data.load_image(record_id)),
      text=example["text"],
      answer=example["answer"],
    )
    expected = softmax(predictions.logits[place])
    best = np.argsort(-expected, kind="stable")[:5]
    labels = model.assets["labels"]
    assert [answer for answer, _ in view.top] == [labels[i] for i in best]
    np.testing.assert_allclose(
      [share for _, share in view.top], expected[best], atol=1e-5
    )
    assert notes == []
    assert " ".join(view.words) in example["text"].lower()
    assert view.answer == example["answer"]


def test_where_the_model_looked(model):
  size = model.experiment.data.image_size
  picture = np.full((40, 30, 3), 200, np.uint8)
  from PIL import Image

  view, _ = explanation.explain_example(
    model, image=Image.fromarray(picture), text="is there a red shape?"
  )
  assert view.image.shape == (size, size, 3)
  rows, columns = view.grid
  assert len(view.words) == 5
  for name in ("text_over_image", "image_over_text"):
    weights = np.asarray(view.attention[name])
    assert weights.ndim == 4  # rounds, heads, queries, keys
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()
  over_image = np.asarray(view.attention["text_over_image"])
  assert over_image.shape[-1] == rows * columns
  np.testing.assert_allclose(over_image[:, :, :5].sum(axis=-1), 1, atol=1e-5)


def test_a_report_is_written_into_the_work_directory(workdir, model):
  evaluated = evaluation.evaluate(workdir, step=model.step, split=SPLIT)
  path = reporting.write_report(workdir, evaluated, count=3)
  page = path.read_text()
  assert path == workdir / "report.html"
  assert f"--step {model.step} --split {SPLIT}" in page
  assert 'src="http' not in page
  some = [r for r in evaluated.predictions.record_ids if r in page]
  assert len(some) >= 1
