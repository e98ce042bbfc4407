"""What a trained model did with single examples, for people to look at."""

import os
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mmjax.data import clip_files
from mmjax.data.tokenizers import split_words
from mmjax.evaluation import TrainedModel
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
from mmjax.report.examples import ExampleView
from mmjax.report.sown_graphs import find_graphs

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
    clip = "give a clip, --clip FILE, or " if _takes_clips(trained) else ""
    raise ValueError(
      f"{trained.experiment.name} answers no question about a picture; {clip}"
      "name an example of its data, for instance --record test/0"
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


def explain_clip(
  trained: TrainedModel, clip: str | os.PathLike[str]
) -> tuple[ExampleView, list[str]]:
  """Classifies a clip of a user and keeps where the model looked.

  Args:
    trained: the model.
    clip: a file, see `clip_files.read_clip`; of any number and size of frames.

  Returns:
    The view, and notes, such as frames that were left out.

  Raises:
    ValueError: the file cannot be read, or the model does not read clips alone.
  """
  if not _takes_clips(trained):
    asks = _takes_questions(trained)
    other = "give --image and --text, or " if asks else ""
    raise ValueError(
      f"{trained.experiment.name} does not read clips alone; {other}name an"
      " example of its data with --record"
    )
  batch = dict(trained.experiment.data.blank_batch())
  frames, mask, notes = clip_files.fit_clip(
    clip_files.read_clip(clip), np.shape(batch["video"])[1:]
  )
  batch |= {"video": frames[None], "video_mask": mask[None]}
  return explain_batch(trained, batch, text=""), notes


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
    known = list(examples)
    raise ValueError(
      f"there is no record {record_id!r}; the first one is {known[0]!r}, and"
      f" the last of {len(known):,} is {known[-1]!r}"
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


def _takes_clips(trained: TrainedModel) -> bool:
  """Tells whether an example can be made of a clip of uint8 alone."""
  batch = trained.experiment.data.blank_batch()
  modalities = {name for name in batch if f"{name}_mask" in batch}
  return modalities == {"video"} and batch["video"].dtype == np.uint8


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
