"""Pictures with questions as batches: I pictures, K questions of each, or all.

What easy-VQA and Sort-of-CLEVR share. Records are those of
`mmjax.data.question_answering`. The vocabulary, the answers and whatever else
is fitted to data come from the training split only and are called assets; a
checkpoint holds them, so prediction needs no data.
"""

import abc
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mmjax.data import (
  collation,
  pipeline,
  question_answering,
  records,
  tokenizers,
  transforms,
)

if TYPE_CHECKING:
  from PIL import Image

SPLITS = ("train", "validation", "test")


class PictureQuestions(abc.ABC):
  """A data set of pictures, each with several questions.

  A subclass is a frozen dataclass with the attributes below; it says where its
  records are and, if it shows something else than pixels, what.

  Attributes:
    questions_per_image: K, questions drawn of each picture in training;
      pictures with fewer leave padding examples.
    max_words: T, words of a question that are kept.
    image_size: height and width of pictures in pixels.
  """

  questions_per_image: int
  max_words: int
  image_size: int

  def __post_init__(self) -> None:
    """Checks the sizes.

    Raises:
      ValueError: one of them is less than 1.
    """
    for name in ("questions_per_image", "max_words", "image_size"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"data.{name} is {getattr(self, name)}; it has to be at least 1"
        )

  @abc.abstractmethod
  def open_split(self, split: str) -> records.Records:
    """Opens the records of a split.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """

  @property
  def modality(self) -> str:
    """The batch key of what the questions of a record share: one row."""
    return "image"

  def read_row(self, record: Mapping[str, Any]) -> np.ndarray:
    """Reads that row out of a record: here pixels, uint8 [size, size, 3]."""
    return question_answering.read_pixels(record, self.image_size)

  def blank_row(self) -> np.ndarray:
    """Makes an empty row, for its shape and dtype."""
    return np.zeros((self.image_size, self.image_size, 3), np.uint8)

  def read_picture(self, image: "Image.Image") -> np.ndarray:
    """Makes the row of a user's picture.

    Raises:
      ValueError: nothing can be made of it; one sentence.
    """
    return transforms.to_array(image, self.image_size)

  def place_tokens(
    self, batch: collation.Batch
  ) -> dict[str, tuple[list[str], np.ndarray]]:
    """Tells where the tokens of a batch's first row lie on its picture.

    Returns:
      For each modality whose tokens lie somewhere N names and [N, 2], x and y,
      or [N, 4], left, top, right and bottom, in shares of the picture from its
      upper left corner. Here none: encoders lay out grids themselves.
    """
    del batch
    return {}

  def load_assets(self) -> dict[str, Any]:
    """Reads what is fitted to the training split; plain JSON values.

    Returns:
      As `question_answering.fit_assets`.

    Raises:
      ValueError: the data are not prepared, or a question is longer than
        `max_words`.
    """
    source = self.open_split("train")
    assets = question_answering.fit_assets(source.without_images)
    longest = max(
      len(tokenizers.split_words(text)) for text in assets["question_prior"]
    )
    if longest > self.max_words:
      raise ValueError(
        f"data.max_words is {self.max_words}, but questions have up to "
        f"{longest} words; set data.max_words to at least {longest}"
      )
    return assets

  def train_batches(
    self,
    assets: Mapping[str, Any],
    *,
    batch_size: int,
    seed: int,
    num_shards: int = 1,
  ) -> pipeline.Batches:
    """Returns endless training batches.

    Every epoch shows every training picture once, in another order and with
    other questions. What batch `step` holds depends on (seed, step) only:
    `num_shards` cuts the same batch into more pieces.

    Args:
      assets: what `load_assets` gave.
      batch_size: B, examples on all shards together, padding included.
      seed: decides order and questions.
      num_shards: devices that the batch is cut for.

    Raises:
      ValueError: B is not a multiple of `questions_per_image * num_shards`,
        or the data are not prepared.
    """
    per_image = self.questions_per_image
    unit = per_image * num_shards
    if batch_size < 1 or batch_size % unit:
      raise ValueError(
        f"training.batch_size is {batch_size}, which {num_shards} device(s) "
        f"with data.questions_per_image {per_image} cannot share; set "
        f"training.batch_size to a multiple of {unit}"
      )

    def draw(
      sample: collation.Sample, rng: np.random.Generator
    ) -> collation.Sample:
      num_questions = len(sample.record_ids)
      rows = transforms.sample_rows(num_questions, per_image, rng)
      return collation.take_examples(sample, rows, per_image)

    return pipeline.make_train_batches(
      self._read_samples(assets, "train"),
      draw,
      modality=self.modality,
      num_rows=batch_size // per_image,
      num_examples=batch_size,
      num_shards=num_shards,
      seed=seed,
    )

  def eval_batches(
    self,
    assets: Mapping[str, Any],
    split: str,
    *,
    batch_size: int,
    num_shards: int = 1,
  ) -> pipeline.Batches:
    """Returns batches that hold every question of a split exactly once.

    Whole pictures are packed, so that each is encoded once. Shapes are the same
    in all batches; the last one may have shards that are all padding.

    Args:
      assets: what `load_assets` gave, for instance from a checkpoint.
      split: one of `SPLITS`.
      batch_size: B, places for examples on all shards together.
      num_shards: devices that the batch is cut for.

    Raises:
      ValueError: there is no such split, B is not a multiple of `num_shards`,
        a shard cannot hold all questions of one picture, or the data are not
        prepared.
    """
    if batch_size < 1 or batch_size % num_shards:
      raise ValueError(
        f"evaluation.batch_size is {batch_size}, which {num_shards} device(s) "
        f"cannot share; set evaluation.batch_size to a multiple of {num_shards}"
      )
    capacity = batch_size // num_shards
    sizes = [
      len(record["questions"]["text"])
      for record in self.open_split(split).without_images
    ]
    if capacity < max(sizes):
      raise ValueError(
        f"evaluation.batch_size {batch_size} gives each of {num_shards} "
        f"device(s) {capacity} examples, but an image of {split!r} has "
        f"{max(sizes)} questions that stay together; set evaluation.batch_size "
        f"to at least {max(sizes) * num_shards}"
      )
    return pipeline.make_eval_batches(
      self._read_samples(assets, split),
      sizes,
      modality=self.modality,
      capacity=capacity,
      num_shards=num_shards,
    )

  def encode_example(
    self,
    assets: Mapping[str, Any],
    *,
    image: "str | os.PathLike[str] | Image.Image",
    text: str,
  ) -> tuple[collation.Batch, list[str]]:
    """Makes a batch of one example of a user's picture and question.

    Args:
      assets: what `load_assets` gave, for instance from a checkpoint.
      image: a picture of any size and mode, or its path.
      text: a question.

    Returns:
      The batch, and notes to the user: a sentence for each unknown word and
      for words beyond `max_words`. It holds `image` even if the model reads
      something else.

    Raises:
      ValueError: the picture cannot be read, or the question has no word; one
        sentence.
    """
    words, notes = question_answering.encode_question(
      assets, text, self.max_words
    )
    batch = self.blank_batch()
    batch["text"][0], batch["text_mask"][0] = words.ids, words.mask
    picture = transforms.open_image(image)
    batch["image"] = transforms.to_array(picture, self.image_size)[None]
    batch[self.modality] = self.read_picture(picture)[None]
    return batch, notes

  def blank_batch(self) -> collation.Batch:
    """Returns a batch of one empty example, for its shapes and dtypes."""
    return {
      self.modality: self.blank_row()[None],
      f"{self.modality}_mask": np.ones(1, bool),
      f"{self.modality}_index": np.zeros(1, np.int32),
      "text": np.zeros((1, self.max_words), np.int32),
      "text_mask": np.ones((1, self.max_words), bool),
      "label": np.zeros(1, np.int32),
      "question_type": np.zeros(1, np.int32),
      "example_mask": np.ones(1, bool),
    }

  def list_examples(self, split: str) -> dict[str, dict[str, Any]]:
    """Returns what people read of each example of a split, by record id.

    Returns:
      `text`, `answer`, `type` and `image_id` of each, in the order of the
      records; the id is `<split>/<image>/<question>`, as `Batches.record_ids`
      gives.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    return {
      f"{split}/{record['image_id']}/{question_id}": {
        "text": text,
        "answer": answer,
        "type": kind,
        "image_id": record["image_id"],
      }
      for record in self.open_split(split).without_images
      for question_id, text, answer, kind in zip(
        *(
          record["questions"][key]
          for key in ("question_id", "text", "answer", "type")
        ),
        strict=True,
      )
    }

  def load_image(self, record_id: str) -> np.ndarray:
    """Returns an example's picture, uint8 [size, size, 3].

    Raises:
      ValueError: there is no such record, or the data are not prepared.
    """
    path, _, question = record_id.rpartition("/")
    split, _, image = path.partition("/")
    source = self.open_split(split)
    index = source.image_positions.get(image)
    if index is None or question not in map(
      str, source.without_images[index]["questions"]["question_id"]
    ):
      raise ValueError(
        f"there is no record {record_id!r}; an id is "
        "<split>/<image>/<question>, for instance test/0/0"
      )
    picture = transforms.open_image(source[index]["image"])
    return transforms.to_array(picture, self.image_size)

  def _read_samples(
    self, assets: Mapping[str, Any], split: str
  ) -> records.Cached:
    encode = question_answering.Encoder(
      assets,
      split=split,
      max_words=self.max_words,
      read_row=self.read_row,
    )
    return records.Cached(self.open_split(split), encode)


def check_split(name: str, split: str) -> None:
  """Refuses what is not one of `SPLITS`, with a ValueError."""
  if split not in SPLITS:
    raise ValueError(
      f"{name} has no split {split!r}; it has {', '.join(SPLITS)}"
    )
