"""The report of an evaluated checkpoint, from its scores and its examples."""

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
from mmjax.evaluation import Evaluated, TrainedModel
from mmjax.explanation import explain_records
from mmjax.report.examples import choose_examples
from mmjax.report.figures import percent
from mmjax.report.intervals import accuracy_by_group
from mmjax.report.page import Report, write_page
from mmjax.training.writers import read_events, total_seconds
from mmjax.workdir import METRICS_FILE, REPORT_FILE

# Where captions are told apart, labels are the names of their fields.
CAPTIONS = {"negative": "false caption", "text": "true caption"}


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
  kinds = predictions.batch.get("question_type", np.zeros(len(correct), int))
  answers = predictions.batch["label"]
  images = np.array([example["image_id"] for example in examples])
  labels = trained.assets["labels"]
  if set(labels) == set(CAPTIONS):
    labels = [CAPTIONS[label] for label in labels]
  type_names = trained.assets["question_types"]
  history = read_events(workdir / METRICS_FILE)
  by_answer = accuracy_by_group(correct, answers, images, labels)
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
      by_type=accuracy_by_group(correct, kinds, images, type_names),
      by_answer=by_answer if len(by_answer) > 1 else {},
      labels=labels,
      confusion=scores["confusion"],
      calibration=scores["calibration"],
      ece=scores["ece"],
      history=history,
      examples=explain_records(
        trained,
        {
          predictions.record_ids[i]: examples[i]
          for i in choose_examples(correct, kinds, images, count=count)
        },
      ),
      unit=trained.assets.get("unit", "questions"),
      config=config_lib.flatten(trained.config),
      command=(
        f"python -m experiments.evaluate --workdir {workdir} --step "
        f"{trained.step} --split {evaluated.split} --report"
      ),
      origin=_describe_origin(trained, history),
      facts={
        "parameters": f"{trained.num_parameters:,}",
        **{
          name.replace("_", " "): percent(score)
          for name, score in scores.items()
          if "_recall@" in name and isinstance(score, float)
        },
      },
    ),
  )
  return path


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
