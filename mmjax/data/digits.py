"""Written and spoken digits: the items of each split.

`av_digits` and `moving_digits` are made of them. Where the items
come from and their licences stand in `mmjax.data.builders.written_digits` and
`mmjax.data.builders.spoken_digits`. The splits are ours and random, and as
nobody knows who wrote or spoke an item, writers and speakers are in all of
them: scores say nothing of people that were never seen or heard.
"""

import functools
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmjax.data import packages, prepare, records, transforms

SPLITS = ("train", "validation", "test")
NUM_CLASSES = 10
IMAGE_SIZE = 28  # height and width of a written digit in pixels
NUM_COEFFICIENTS = 13  # of a frame of speech
MAX_FRAMES = 92  # of the longest recording


class Written(NamedTuple):
  """The written digits of a split, by item.

  Attributes:
    items: int [n], lines of the package's table, ascending.
    labels: int32 [n].
    images: uint8 [n, 28, 28, 1], 255 is ink.
  """

  items: np.ndarray
  labels: np.ndarray
  images: np.ndarray


class Spoken(NamedTuple):
  """The spoken digits of a split, by item.

  Attributes:
    items: int [n], places in the package's file, ascending.
    labels: int32 [n].
    frames: float32 [n, 92, 13], zero after the end.
    lengths: int32 [n], frames of each.
  """

  items: np.ndarray
  labels: np.ndarray
  frames: np.ndarray
  lengths: np.ndarray


def split_items(kind: str, labels: np.ndarray) -> dict[str, np.ndarray]:
  """Splits the items of each class at random into 70, 15 and 15 %.

  The order is a fixed permutation that no version of numpy changes: the items
  of a class by the SHA-256 of `<kind>/<item>`. The first 70 % are for training,
  the next 15 % for validation.

  Args:
    kind: names the permutation.
    labels: int [n], the class of item 0, 1, ...

  Returns:
    For each split its items, ascending; every item is in exactly one.
  """

  def digest(item: int) -> bytes:
    return hashlib.sha256(f"{kind}/{item}".encode()).digest()

  parts = []
  for label in np.unique(labels):
    order = sorted(np.flatnonzero(labels == label).tolist(), key=digest)
    size = len(order)
    parts.append(
      np.split(np.array(order), [size * 70 // 100, size * 85 // 100])
    )
  return {
    split: np.sort(np.concatenate(of_split))
    for split, of_split in zip(SPLITS, zip(*parts, strict=True), strict=True)
  }


def prepare_items(manual_dir: str | os.PathLike[str] | None = None) -> None:
  """Makes both kinds of items ready on this machine, if they are not.

  Args:
    manual_dir: a folder of the user with the archives of both packages.

  Raises:
    PackageError: a package cannot be had or trusted; one sentence.
  """
  from mmjax.data.builders import spoken_digits, written_digits

  for make_builder, package in (
    (written_digits.WrittenDigitsBuilder, written_digits.PACKAGE),
    (spoken_digits.SpokenDigitsBuilder, spoken_digits.PACKAGE),
  ):
    prepare.build_dataset(make_builder, package, manual_dir=manual_dir)


def load_written(split: str) -> Written:
  """Reads the written digits of a split, once; the arrays are read-only.

  Raises:
    ValueError: there is no such split, or the data are not prepared.
  """
  return _load_written_in(packages.cache_dir(), _check_split(split))


def load_spoken(split: str) -> Spoken:
  """Reads the spoken digits of a split, once; the arrays are read-only.

  Raises:
    ValueError: there is no such split, or the data are not prepared.
  """
  return _load_spoken_in(packages.cache_dir(), _check_split(split))


def check_shrink(shrink: int) -> None:
  """Checks how many times pictures are to be shrunk.

  Raises:
    ValueError: their size is no multiple of it, or one pixel would be left.
  """
  if shrink < 1 or IMAGE_SIZE % shrink or shrink == IMAGE_SIZE:
    raise ValueError(f"data.shrink is {shrink}; it is one of 1, 2, 4, 7 and 14")


def is_present(lengths: np.ndarray, max_frames: int) -> np.ndarray:
  """Returns which of T frames each recording has: int [n] -> bool [n, T]."""
  return np.arange(max_frames) < lengths[:, None]


def _check_split(split: str) -> str:
  if split not in SPLITS:
    raise ValueError(
      f"digits have no split {split!r}; they have {', '.join(SPLITS)}"
    )
  return split


@functools.cache
def _load_written_in(cache: pathlib.Path, split: str) -> Written:
  from mmjax.data.builders import written_digits as builder

  read = _read_records(cache, builder.WrittenDigitsBuilder, split)
  images = [
    np.asarray(transforms.open_image(record["image"])) for record in read
  ]
  images = _freeze(np.stack(images)[..., None])
  return Written(*_items_and_labels(read), images)


@functools.cache
def _load_spoken_in(cache: pathlib.Path, split: str) -> Spoken:
  from mmjax.data.builders import spoken_digits as builder

  read = _read_records(cache, builder.SpokenDigitsBuilder, split)
  lengths = np.array([len(record["frames"]) for record in read], np.int32)
  frames = np.zeros((len(read), MAX_FRAMES, NUM_COEFFICIENTS), np.float32)
  frames[is_present(lengths, MAX_FRAMES)] = np.concatenate(
    [record["frames"] for record in read]
  )
  return Spoken(*_items_and_labels(read), _freeze(frames), _freeze(lengths))


def _read_records(
  cache: pathlib.Path, make_builder: type, split: str
) -> list[dict]:
  """Reads all records of a split in the order of their items."""
  source = records.Records(
    prepare.load_builder(make_builder, cache), split, command="av_digits"
  )
  read = [source[index] for index in range(len(source))]
  return sorted(read, key=lambda record: int(record["item"]))


def _items_and_labels(read: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
  items = np.array([record["item"] for record in read], np.int64)
  labels = np.array([record["label"] for record in read], np.int32)
  return _freeze(items), _freeze(labels)


def _freeze(values: np.ndarray) -> np.ndarray:
  values.setflags(write=False)
  return values
