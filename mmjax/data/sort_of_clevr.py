"""Sort-of-CLEVR as batches: relational questions about pixels or about objects.

How scenes are drawn stands in `mmjax.data.synthetic.sort_of_clevr`,
how they are split in `mmjax.data.builders.sort_of_clevr`, how batches are made
in `mmjax.data.picture_questions`.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mmjax.data import (
  collation,
  packages,
  picture_questions,
  prepare,
  records,
  transforms,
)
from mmjax.data.synthetic import sort_of_clevr as scenes

if TYPE_CHECKING:
  from PIL import Image


@dataclasses.dataclass(frozen=True)
class SortOfClevr(picture_questions.PictureQuestions):
  """Relational questions about six coloured shapes (Sort-of-CLEVR, generated).

  A batch of B examples on I scenes holds `image` [I, size, size, 3] uint8 or
  `objects` [I, 6, 10] float32, with a mask [I] and an index [B] named after it;
  `text` and `text_mask` [B, T]; `label`, `question_type` and `example_mask`
  [B]. With several shards each array has one more leading axis, and indices
  count within the shard. An id of a record is `<split>/<image>/<question>`.

  An object is column and row in [-1, 1], six numbers for its colour and two for
  its shape; objects stand in the order of their colours, so that a perceptron
  over all of them knows which is which.

  Attributes:
    shown: what the questions are asked about: "image" or "objects".
    questions_per_image: K, questions drawn of each scene in training; there are
      20.
    max_words: T, words of a question that are kept; the longest has 12.
    image_size: height and width of images in pixels; drawn are 75.
  """

  shown: str = "image"
  questions_per_image: int = 20
  max_words: int = 12
  image_size: int = scenes.IMAGE_SIZE

  def __post_init__(self) -> None:
    """Checks the settings.

    Raises:
      ValueError: one of them makes no sense.
    """
    super().__post_init__()
    if self.shown not in ("image", "objects"):
      raise ValueError(
        f"data.shown is {self.shown!r}; it must be 'image' or 'objects'"
      )
    if self.shown == "objects" and self.image_size != scenes.IMAGE_SIZE:
      raise ValueError(
        f"data.image_size is {self.image_size}, but objects are read off"
        f" pictures of {scenes.IMAGE_SIZE} pixels; leave it at that"
      )

  @property
  def modality(self) -> str:
    """The batch key of what the questions of a record share: one row."""
    return self.shown

  def prepare(self) -> None:
    """Makes the data ready on this machine; returns at once if they are."""
    from mmjax.data.builders import sort_of_clevr as builder

    prepare.build_dataset(builder.SortOfClevrBuilder)

  def open_split(self, split: str) -> records.Records:
    """Opens the records of a split.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    picture_questions.check_split("sort_of_clevr", split)
    return _open_split(packages.cache_dir(), split)

  def read_row(self, record: Mapping[str, Any]) -> np.ndarray:
    """Reads that row out of a record: pixels, or the states of the objects."""
    if self.shown == "image":
      return super().read_row(record)
    return scenes.describe(scenes.Scene(record["positions"], record["shapes"]))

  def blank_row(self) -> np.ndarray:
    """Makes an empty row, for its shape and dtype."""
    if self.shown == "image":
      return super().blank_row()
    return np.zeros((scenes.NUM_OBJECTS, scenes.NUM_FEATURES), np.float32)

  def read_picture(self, image: "Image.Image") -> np.ndarray:
    """Makes the row of a user's picture.

    Raises:
      ValueError: objects are shown, and the picture is not exactly as those of
        Sort-of-CLEVR are drawn.
    """
    if self.shown == "image":
      return super().read_picture(image)
    pixels = np.asarray(transforms.convert_to_rgb(image))
    return scenes.describe(scenes.read_scene(pixels))

  def place_tokens(
    self, batch: collation.Batch
  ) -> dict[str, tuple[list[str], np.ndarray]]:
    """Tells where the objects of a batch's first row lie on its picture."""
    if self.shown == "image":
      return {}
    objects = np.asarray(batch["objects"])[0]
    return {"objects": (list(scenes.COLORS), scenes.locate(objects))}

  def list_scenes(self, split: str) -> dict[int, scenes.Scene]:
    """Returns what each picture of a split shows, by `image_id`.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    return {
      record["image_id"]: scenes.Scene(record["positions"], record["shapes"])
      for record in self.open_split(split).without_images
    }


@functools.cache
def _open_split(cache: pathlib.Path, split: str) -> records.Records:
  from mmjax.data.builders import sort_of_clevr as builder

  loaded = prepare.load_builder(builder.SortOfClevrBuilder, cache)
  return records.Records(loaded, split)
