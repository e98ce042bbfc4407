"""Stamps as batches: pictures with captions, for retrieval or classification.

Where the pictures come from, their licence and their splits stand in
`mmjax.data.builders.stamps`. The vocabulary is that of the training captions:
three in four captions of the other splits have a word that is not in it.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmjax.data import (
  arrays,
  collation,
  packages,
  prepare,
  records,
  tokenizers,
  transforms,
)

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Stamps(arrays.ArrayData):
  """Small pictures with an English caption, 16 categories.

  A batch of B pictures holds `image` [B, size, size, 3] uint8 and `image_mask`
  [B]; `text` int32 [B, T] and `text_mask`; `caption_id` int32 [B], equal for
  equal captions of a split, which are true of each other's pictures; `label`
  int32 [B], the category; `question_type` [B], 0; `example_mask` [B]. An id of
  a record is `<split>/<name>`, with the picture's path in the package.

  Attributes:
    max_words: T, words of a caption that are kept; the longest has 32.
    image_size: height and width in pixels; 64 is what is stored.
    manual_dir: folder with the package's archive, for machines that cannot
      reach the registry.
  """

  max_words: int = 32
  image_size: int = 64
  manual_dir: str | None = None

  def __post_init__(self) -> None:
    """Checks the sizes.

    Raises:
      ValueError: one of them is less than 1.
    """
    for name in ("max_words", "image_size"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"data.{name} is {getattr(self, name)}; it has to be at least 1"
        )

  def prepare(self) -> None:
    """Makes the data ready on this machine; returns at once if they are.

    Raises:
      PackageError: the package cannot be had or trusted; one sentence.
    """
    from mmjax.data.builders import stamps as builder

    prepare.build_dataset(
      builder.StampsBuilder, builder.PACKAGE, manual_dir=self.manual_dir
    )

  def load_assets(self) -> dict[str, Any]:
    """Reads what is fitted to the training split; plain JSON values.

    Returns:
      `labels`, the sorted categories of the training split; `vocabulary` of its
      captions; and what other data sets have of questions, `question_types`,
      `majority_answer` and `question_prior`.

    Raises:
      ValueError: the data are not prepared.
    """
    read = _read_split(packages.cache_dir(), "train")
    categories = collections.Counter(record["category"] for record in read)
    captions = [record["caption"] for record in read]
    return {
      "labels": sorted(categories),
      "vocabulary": list(tokenizers.WordTokenizer.build(captions).vocabulary),
      "question_types": ["caption"],
      "majority_answer": min(categories, key=lambda c: (-categories[c], c)),
      "question_prior": {},
    }

  def encode_split(
    self, assets: Mapping[str, Any], split: str
  ) -> collation.Batch:
    """Returns a whole split as one batch, in the order of the names.

    Args:
      assets: what `load_assets` gave, for instance from a checkpoint.
      split: one of `SPLITS`.

    Raises:
      ValueError: there is no such split, the data are not prepared, or a
        category is not among the assets.
    """
    read = self._read(split)
    tokenizer = tokenizers.WordTokenizer(assets["vocabulary"])
    encoded = [tokenizer.encode(r["caption"], self.max_words) for r in read]
    categories = [record["category"] for record in read]
    unknown = sorted(set(categories) - set(assets["labels"]))
    if unknown:
      raise ValueError(
        f"the stamps of {split!r} have the categories {', '.join(unknown)}, "
        "which the training split lacks; train again if the checkpoint is of "
        "other data"
      )
    captions = [" ".join(tokenizers.split_words(r["caption"])) for r in read]
    first = {caption: row for row, caption in reversed([*enumerate(captions)])}
    number = len(read)
    return {
      "image": np.stack(
        [transforms.to_array(r["image"], self.image_size) for r in read]
      ),
      "image_mask": np.ones(number, bool),
      "text": np.stack([one.ids for one in encoded]),
      "text_mask": np.stack([one.mask for one in encoded]),
      "caption_id": np.array([first[c] for c in captions], np.int32),
      "label": np.array([assets["labels"].index(c) for c in categories], "i4"),
      "question_type": np.zeros(number, np.int32),
      "example_mask": np.ones(number, bool),
    }

  def record_ids(self, split: str, num_rows: int) -> list[str]:
    """Returns the ids `<split>/<name>` of the first pictures."""
    return [f"{split}/{r['name']}" for r in self._read(split)[:num_rows]]

  def blank_batch(self) -> collation.Batch:
    """Returns a batch of one empty picture, for its shapes and dtypes."""
    size = (1, self.image_size, self.image_size, 3)
    return {
      "image": np.zeros(size, np.uint8),
      "image_mask": np.ones(1, bool),
      "text": np.zeros((1, self.max_words), np.int32),
      "text_mask": np.ones((1, self.max_words), bool),
      "caption_id": np.zeros(1, np.int32),
      "label": np.zeros(1, np.int32),
      "question_type": np.zeros(1, np.int32),
      "example_mask": np.ones(1, bool),
    }

  def list_examples(self, split: str) -> dict[str, dict[str, Any]]:
    """Returns what people read of each example of a split, by record id.

    Returns:
      `text`, the caption; `answer`, the category; `type`, `image_id`, which is
      the name, and `group`, see `builders.stamps.group_pictures`.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    return {
      f"{split}/{record['name']}": {
        "text": record["caption"],
        "answer": record["category"],
        "type": "caption",
        "image_id": record["name"],
        "group": record["group"],
      }
      for record in self._read(split)
    }

  def load_image(self, record_id: str) -> np.ndarray:
    """Returns an example's picture, uint8 [size, size, 3].

    Raises:
      ValueError: there is no such record, or the data are not prepared.
    """
    split, _, name = record_id.partition("/")
    for record in self._read(split):
      if record["name"] == name:
        return transforms.to_array(record["image"], self.image_size)
    raise ValueError(
      f"there is no record {record_id!r}; an id is <split>/<name>"
    )

  def _read(self, split: str) -> list[dict[str, Any]]:
    if split not in SPLITS:
      raise ValueError(
        f"stamps have no split {split!r}; they have {', '.join(SPLITS)}"
      )
    return _read_split(packages.cache_dir(), split)


@functools.cache
def _read_split(cache: pathlib.Path, split: str) -> list[dict[str, Any]]:
  """Reads all records of a split with opened pictures, sorted by name."""
  from mmjax.data.builders import stamps as builder

  source = records.Records(
    prepare.load_builder(builder.StampsBuilder, cache), split
  )
  read = [dict(source[index]) for index in range(len(source))]
  for record in read:
    record["image"] = transforms.open_image(record["image"])
  return sorted(read, key=lambda record: record["name"])
