"""What a trained model did with single examples, for people to look at."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmjax import config as config_lib
from mmjax.data.tokenizers import split_words
from mmjax.evaluation import Evaluated, TrainedModel
from mmjax.report.attention import (
  collect_attention,
  collect_grids,
  select_example,
)
from mmjax.report.examples import ExampleView, choose_examples
from mmjax.report.intervals import accuracy_by_group
from mmjax.report.page import Report, write_page
from mmjax.training.writers import read_events, total_seconds
from mmjax.workdir import METRICS_FILE, REPORT_FILE

NUM_TOP_ANSWERS = 5


def explain_example(
  trained: TrainedModel,
  *,
  image: Any,
  text: str,
  answer: str | None = None,
  kind: str = "",
  record_id: str = "",
) -> tuple[ExampleView, list[str]]:
  """Answers a question about an image and keeps where the model looked.

  Args:
    trained: the model.
    image: a picture of any size and mode, or its path.
    text: the question.
    answer: the true answer, where it is known.
    kind: the question's type, where it is known.
    record_id: where the example stands in the data.

  Returns:
    The view, and notes such as words that the model does not know.

  Raises:
    ValueError: the picture cannot be read, the question has no word, or the
      data are not questions about pictures.
  """
  data = trained.experiment.data
  if not _takes_questions(trained):
    raise ValueError(
      f"{trained.experiment.name} compares pictures with captions and answers"
      " no question about one picture; score it with python -m"
      " experiments.evaluate"
    )
  batch, notes = data.encode_example(trained.assets, image=image, text=text)
  outputs, sown = _apply(trained.experiment.model, trained.params, batch)
  probabilities = np.asarray(jax.nn.softmax(outputs["logits"][0]))
  labels = trained.assets["labels"]
  best = np.argsort(-probabilities, kind="stable")[:NUM_TOP_ANSWERS]
  modalities = sorted(trained.experiment.model.encoders)
  attention = collect_attention(sown, modalities)
  view = ExampleView(
    image=batch["image"][0],
    words=split_words(text)[: data.max_words],
    text=text,
    answer=answer,
    top=[(labels[i], float(probabilities[i])) for i in best],
    type=kind,
    record_id=record_id,
    attention=select_example(attention, 0),
    grid=collect_grids(sown, modalities).get("image"),
  )
  return view, notes


def write_report(
  workdir: str | os.PathLike[str], evaluated: Evaluated, *, count: int = 24
) -> pathlib.Path:
  """Writes `report.html` of an evaluated checkpoint into its work directory.

  Args:
    workdir: the run's directory, whose training curves are shown.
    evaluated: the scores and predictions.
    count: how many examples to show.

  Returns:
    The path of the page.
  """
  workdir = pathlib.Path(workdir)
  trained, scores = evaluated.trained, evaluated.scores
  examples, predictions = evaluated.examples, evaluated.predictions
  correct = predictions.correct
  types = predictions.batch["question_type"]
  answers = predictions.batch["label"]
  images = np.array([example["image_id"] for example in examples])
  labels = trained.assets["labels"]
  type_names = trained.assets["question_types"]
  history = read_events(workdir / METRICS_FILE)
  path = workdir / REPORT_FILE
  write_page(
    path,
    Report(
      experiment=trained.experiment.name,
      split=evaluated.split,
      step=trained.step,
      accuracy=evaluated.accuracy,
      baselines=evaluated.baselines,
      num_images=len(set(images)),
      by_type=accuracy_by_group(correct, types, images, type_names),
      by_answer=accuracy_by_group(correct, answers, images, labels),
      labels=labels,
      confusion=scores["confusion"],
      calibration=scores["calibration"],
      ece=scores["ece"],
      history=history,
      examples=[
        _view_record(trained, predictions.record_ids[i], examples[i])
        for i in choose_examples(correct, types, images, count=count)
        if _takes_questions(trained)
      ],
      config=config_lib.flatten(trained.config),
      command=(
        f"python -m experiments.evaluate --workdir {workdir} --step "
        f"{trained.step} --split {evaluated.split} --report"
      ),
      origin=_describe_origin(trained, history),
      facts={"parameters": f"{_count(trained.params):,}"},
    ),
  )
  return path


def _view_record(
  trained: TrainedModel, record_id: str, example: Mapping[str, Any]
) -> ExampleView:
  """Explains one example of the data."""
  from PIL import Image

  view, _ = explain_example(
    trained,
    image=Image.fromarray(trained.experiment.data.load_image(record_id)),
    text=example["text"],
    answer=example["answer"],
    kind=example["type"],
    record_id=record_id,
  )
  return view


def _takes_questions(trained: TrainedModel) -> bool:
  """Tells whether an example can be made of a picture and a text."""
  return hasattr(trained.experiment.data, "encode_example")


def _describe_origin(
  trained: TrainedModel, history: Sequence[Mapping[str, Any]]
) -> str:
  """Says with which versions, on what, and in what time."""
  versions = ", ".join(
    f"{name} {importlib.metadata.version(name)}"
    for name in ("mmjax", "jax", "jaxlib", "flax", "optax")
  )
  device = jax.devices()[0]
  return (
    f"Seed {trained.experiment.seed}; {total_seconds(history):.0f} s of "
    "training, compilation and evaluations included. This page: "
    f"{datetime.date.today()}, {versions}, Python "
    f"{platform.python_version()}, {jax.device_count()} {device.platform} "
    f"device(s) ({device.device_kind}), {os.cpu_count()} cores."
  )


def _count(params: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def _apply(
  model: Any, params: Any, batch: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Any]]:
  """Applies the model to one batch and returns what its parts sowed, too."""
  outputs, state = _JITTED(model, params, batch)
  return outputs, state.get("intermediates", {})


_JITTED = jax.jit(
  lambda model, params, batch: model.apply(
    {"params": params}, batch, train=False, mutable=["intermediates"]
  ),
  static_argnums=0,
)
