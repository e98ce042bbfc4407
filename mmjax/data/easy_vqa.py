"""easy-VQA as batches: I images with K questions each, or all questions.

Where the data come from, their licence and their splits stand in
`mmjax.data.builders.easy_vqa`; how batches are made, in
`mmjax.data.picture_questions`.
"""

import dataclasses
import functools
import pathlib

from mmjax.data import packages, picture_questions, prepare, records


@dataclasses.dataclass(frozen=True)
class EasyVqa(picture_questions.PictureQuestions):
  """Questions and answers about a coloured shape in a picture (easy-VQA).

  A batch of B examples on I images holds `image` [I, size, size, 3] uint8,
  `image_mask` [I], `image_index` [B]; `text` and `text_mask` [B, T]; `label`,
  `question_type` and `example_mask` [B]. With several shards each array has
  one more leading axis, and indices count within the shard. An id of a record
  is `<split>/<image>/<question>`, the question counted as in the official
  list.

  Attributes:
    questions_per_image: K, questions drawn of each image in training; images
      with fewer leave padding examples.
    max_words: T, words of a question that are kept.
    image_size: height and width of images in pixels.
    manual_dir: folder with the package's archive, for machines that cannot
      reach the registry.
  """

  questions_per_image: int = 8
  max_words: int = 12
  image_size: int = 64
  manual_dir: str | None = None

  def prepare(self) -> None:
    """Makes the data ready on this machine; returns at once if they are.

    Raises:
      PackageError: the package cannot be had or trusted; one sentence.
    """
    from mmjax.data.builders import easy_vqa as builder

    prepare.build_dataset(
      builder.EasyVqaBuilder, builder.PACKAGE, manual_dir=self.manual_dir
    )

  def open_split(self, split: str) -> records.Records:
    """Opens the records of a split.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    picture_questions.check_split("easy_vqa", split)
    return _open_split(packages.cache_dir(), split)


@functools.cache
def _open_split(cache: pathlib.Path, split: str) -> records.Records:
  from mmjax.data.builders import easy_vqa as builder

  loaded = prepare.load_builder(builder.EasyVqaBuilder, cache)
  return records.Records(loaded, split)
