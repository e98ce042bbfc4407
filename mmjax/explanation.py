"""What a trained model did with single examples, for people to look at."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import types
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
from mmjax.report.example_nodes import (
  SIDES,
  find_frames,
  find_nodes,
)
from mmjax.report.examples import ExampleView, choose_examples
from mmjax.report.intervals import accuracy_by_group
from mmjax.report.page import Report, write_page
from mmjax.report.sown_graphs import find_graphs
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
      f"{trained.experiment.name} answers no question about a picture; name an"
      " example of its data, for instance --record test/0"
    )
  batch, notes = data.encode_example(trained.assets, image=image, text=text)
  view = explain_batch(
    trained,
    batch,
    text=text,
    answer=answer,
    kind=kind,
    record_id=record_id,
  )
  return view, notes


def explain_record(trained: TrainedModel, record_id: str) -> ExampleView:
  """Answers an example of the data and keeps where the model looked.

  Args:
    trained: the model.
    record_id: an id that `data.list_examples` lists, such as "test/0".

  Raises:
    ValueError: there is no such record.
  """
  data = trained.experiment.data
  data.prepare()
  examples = data.list_examples(record_id.partition("/")[0])
  if record_id not in examples:
    raise ValueError(
      f"there is no record {record_id!r}; the first one is"
      f" {next(iter(examples))!r}"
    )
  return explain_records(trained, {record_id: examples[record_id]})[0]


def explain_records(
  trained: TrainedModel, examples: Mapping[str, Mapping[str, Any]]
) -> list[ExampleView]:
  """Explains examples of one split, as `data.list_examples` tells of them.

  A question is asked about its picture. Where captions are matched, which are
  the labels, both are shown, and the words are those of the true one.
  """
  data = trained.experiment.data
  if _takes_questions(trained):
    return [_ask_again(trained, *item) for item in examples.items()]
  if not examples:
    return []
  labels, views = trained.assets["labels"], []
  batches = data.take_records(trained.assets, list(examples))
  for (record_id, example), batch in zip(
    examples.items(), batches, strict=True
  ):
    matching = all(label in example for label in labels)
    names = {label: example[label] for label in labels if matching}
    asked = example["text"] or example["type"]  # clips come without a text
    views.append(
      explain_batch(
        trained,
        batch,
        text="which caption is true?" if matching else asked,
        caption=example["text"],
        names=names,
        choices="captions" if matching else "answers",
        answer=names.get(example["answer"], example["answer"]),
        kind=example["type"],
        record_id=record_id,
      )
    )
  return views


def explain_batch(
  trained: TrainedModel,
  batch: Mapping[str, Any],
  *,
  text: str,
  caption: str | None = None,
  names: Mapping[str, str] = types.MappingProxyType({}),
  choices: str = "answers",
  answer: str | None = None,
  kind: str = "",
  record_id: str = "",
) -> ExampleView:
  """Applies a model to a batch of one example and keeps where it looked.

  Args:
    trained: the model.
    batch: of one example. If it holds `image`, that is shown; else the frames
      of a clip, if it holds one.
    text: the question.
    caption: the text whose words the batch holds; None is the question.
    names: how answers are shown, by label, where not by the label itself.
    choices: see `ExampleView`.
    answer: the true answer as it is shown, where it is known.
    kind: the question's type, where it is known.
    record_id: where the example stands in the data.
  """
  model, labels = trained.experiment.model, trained.assets["labels"]
  outputs, sown = _apply(model, trained.params, batch)
  probabilities = np.asarray(jax.nn.softmax(outputs["logits"][0]))
  best = np.argsort(-probabilities, kind="stable")[:NUM_TOP_ANSWERS]
  modalities = sorted(model.encoders)
  grids = collect_grids(sown, modalities)
  # A matcher compares two sides, whatever it is that they were encoded from.
  matched = hasattr(model, "matcher")
  image, words_of = SIDES if matched else ("image", "text")
  attention = select_example(
    collect_attention(sown, SIDES if matched else modalities), 0
  )
  num_words = np.shape(batch.get("text", ()))[-1:]
  words = split_words(text if caption is None else caption)
  words = words[: num_words[0]] if num_words else []
  frames, frame_mask = find_frames(batch)
  nodes = find_nodes(
    trained.experiment.data, batch, sown, grids, words, matched=matched
  )
  return ExampleView(
    image=np.asarray(batch["image"][0]) if "image" in batch else None,
    words=words,
    text=text,
    answer=answer,
    top=[
      (names.get(labels[i], labels[i]), float(probabilities[i])) for i in best
    ],
    type=kind,
    record_id=record_id,
    attention=attention,
    grid=grids.get("image"),
    graphs=find_graphs(sown, nodes, attention),
    frames=frames,
    frame_mask=frame_mask,
    image_modality=image,
    text_modality=words_of,
    choices=choices,
  )


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
      by_type=accuracy_by_group(correct, kinds, images, type_names),
      by_answer=accuracy_by_group(correct, answers, images, labels),
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
      config=config_lib.flatten(trained.config),
      command=(
        f"python -m experiments.evaluate --workdir {workdir} --step "
        f"{trained.step} --split {evaluated.split} --report"
      ),
      origin=_describe_origin(trained, history),
      facts={"parameters": f"{trained.num_parameters:,}"},
    ),
  )
  return path


def _ask_again(
  trained: TrainedModel, record_id: str, example: Mapping[str, Any]
) -> ExampleView:
  """Asks the question of an example about its picture."""
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
