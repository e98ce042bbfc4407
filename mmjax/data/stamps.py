"""Stamps as batches: pictures with captions, for retrieval or classification.

Where the pictures come from, their licence and their splits stand in
`mmjax.data.builders.stamps`. The vocabulary is that of the training captions:
three in four captions of the other splits have a word that is not in it.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import (
  arrays,
  collation,
  packages,
  pipeline,
  prepare,
  records,
  stamp_pairs,
  tokenizers,
  transforms,
)

SPLITS = ("train", "validation", "test")
TASKS = ("category", "matching")
_FALSE = stamp_pairs.FALSE_CAPTION


@dataclasses.dataclass(frozen=True)
class Stamps(arrays.ArrayData):
  """Small pictures with an English caption, 16 categories.

  A batch of B pictures holds `image` [B, size, size, 3] uint8 and `image_mask`
  [B]; `text` int32 [B, T] and `text_mask`; `caption_id` int32 [B], equal for
  equal captions of a split, which are true of each other's pictures; `label`
  int32 [B], the category; `question_type` [B], the caption's place in
  `stamp_pairs.LENGTHS`; `example_mask` [B]. An id of a record is
  `<split>/<name>`, with the picture's path in the package.

  For matching it also holds `phrase_spans` int32 [B, 8, 2] and `phrase_mask`,
  see `stamp_pairs`, and a false caption, `negative` [B, T],
  `negative_phrase_spans` and their masks: that of another picture, of the same
  category if there is one, and with other words of the vocabulary; in training
  another one at each visit. With
  `task="matching"` the `label` is 1, the place of the true one of (negative,
  text).

  Attributes:
    task: "category" or "matching".
    max_words: T, words of a caption that are kept; the longest has 32.
    image_size: height and width in pixels; 64 is what is stored.
    manual_dir: folder with the package's archive, for machines that cannot
      reach the registry.
  """

  task: str = "category"
  max_words: int = 32
  image_size: int = 64
  manual_dir: str | None = None

  def __post_init__(self) -> None:
    """Checks the settings.

    Raises:
      ValueError: an unknown task, or a size of less than 1.
    """
    if self.task not in TASKS:
      raise ValueError(
        f"data.task is {self.task!r}; it is one of {', '.join(TASKS)}"
      )
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
      which are `stamp_pairs.LENGTHS`, `majority_answer` and `question_prior`.
      For matching the labels are names of the two captions, and there is no
      majority answer.

    Raises:
      ValueError: the data are not prepared.
    """
    read = _read_split(packages.cache_dir(), "train")
    categories = collections.Counter(record["category"] for record in read)
    captions = [record["caption"] for record in read]
    matching = self.task == "matching"
    majority = min(categories, key=lambda c: (-categories[c], c))
    return {
      "labels": ["negative", "text"] if matching else sorted(categories),
      "vocabulary": list(tokenizers.WordTokenizer.build(captions).vocabulary),
      "question_types": list(stamp_pairs.LENGTHS),
      "majority_answer": None if matching else majority,
      "question_prior": {},
      "unit": "captions" if matching else "stamps",
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
        category or a length is not among the assets.
    """
    read = self._read(split)
    number = len(read)
    return {
      "image": np.stack(
        [transforms.to_array(r["image"], self.image_size) for r in read]
      ),
      "image_mask": np.ones(number, bool),
      **self._encode_captions(read, assets),
      "label": self._label(read, assets, split),
      "question_type": self._number_lengths(read, assets),
      "example_mask": np.ones(number, bool),
    }

  def train_batches(
    self,
    assets: Mapping[str, Any],
    *,
    batch_size: int,
    seed: int,
    num_shards: int = 1,
  ) -> pipeline.Batches:
    """Returns endless training batches; see `ArrayData.train_batches`.

    For matching a picture has another false caption at each visit, so that none
    can be learned by heart: it is drawn by seed and number of the batch.
    """
    batches = super().train_batches(
      assets, batch_size=batch_size, seed=seed, num_shards=num_shards
    )
    if self.task != "matching":
      return batches
    read = self._read("train")
    captions = self._encode_captions(read, assets)
    others = _list_others(captions["text"], read)
    rows = {key: row for row, key in enumerate(self.record_ids("train", None))}

    def redraw(
      numbered: collation.NumberedBatch, rng: np.random.Generator
    ) -> collation.NumberedBatch:
      chosen = [rng.choice(others[rows[key]]) for key in numbered.record_ids]
      false = {
        name: captions[true][chosen].reshape(numbered.batch[name].shape)
        for true, name in _FALSE.items()
      }
      return numbered._replace(batch={**numbered.batch, **false})

    return pipeline.Batches(batches.dataset.random_map(redraw), None)

  def _encode_captions(
    self, read: Sequence[Mapping[str, Any]], assets: Mapping[str, Any]
  ) -> collation.Batch:
    """Encodes captions, their phrases, and those of other pictures."""
    tokenizer = tokenizers.WordTokenizer(assets["vocabulary"])
    encoded = [tokenizer.encode(r["caption"], self.max_words) for r in read]
    words = [tokenizers.split_words(r["caption"]) for r in read]
    captions = [" ".join(each) for each in words]
    first = {caption: row for row, caption in reversed([*enumerate(captions)])}
    spans, there = stamp_pairs.encode_phrases(
      [stamp_pairs.find_phrases(each[: self.max_words]) for each in words]
    )
    own = {
      "text": np.stack([one.ids for one in encoded]),
      "text_mask": np.stack([one.mask for one in encoded]),
      "phrase_spans": spans,
      "phrase_mask": there,
    }
    other = _choose_others(own["text"], read)
    return {
      **own,
      **{
        stamp_pairs.FALSE_CAPTION[key]: values[other]
        for key, values in own.items()
      },
      "caption_id": np.array([first[c] for c in captions], np.int32),
    }

  def _label(
    self,
    read: Sequence[Mapping[str, Any]],
    assets: Mapping[str, Any],
    split: str,
  ) -> np.ndarray:
    """Returns the categories, or the place of the true caption: int32 [n]."""
    if self.task == "matching":
      return np.ones(len(read), np.int32)
    categories = [record["category"] for record in read]
    unknown = sorted(set(categories) - set(assets["labels"]))
    if unknown:
      raise ValueError(
        f"the stamps of {split!r} have the categories {', '.join(unknown)}, "
        "which the training split lacks; train again if the checkpoint is of "
        "other data"
      )
    return np.array([assets["labels"].index(c) for c in categories], np.int32)

  def _number_lengths(
    self, read: Sequence[Mapping[str, Any]], assets: Mapping[str, Any]
  ) -> np.ndarray:
    """Returns the places of the captions in `LENGTHS`, int32 [n]."""
    if list(assets["question_types"]) != list(stamp_pairs.LENGTHS):
      raise ValueError(
        f"captions are scored by length, {', '.join(stamp_pairs.LENGTHS)}, but "
        f"the checkpoint has the types {', '.join(assets['question_types'])}; "
        "train again"
      )
    lengths = [_find_length(record) for record in read]
    return np.array([stamp_pairs.LENGTHS.index(n) for n in lengths], np.int32)

  def record_ids(self, split: str, num_rows: int | None) -> list[str]:
    """Returns the ids `<split>/<name>` of the first pictures, None of all."""
    return [f"{split}/{r['name']}" for r in self._read(split)[:num_rows]]

  def blank_batch(self) -> collation.Batch:
    """Returns a batch of one empty picture, for its shapes and dtypes."""
    size = (1, self.image_size, self.image_size, 3)
    text = np.zeros((1, self.max_words), np.int32)
    spans = np.zeros((1, stamp_pairs.NUM_PHRASES, 2), np.int32)
    one, number = np.ones(1, bool), np.zeros(1, np.int32)
    return {
      "image": np.zeros(size, np.uint8),
      "image_mask": one,
      **dict.fromkeys(("text", "negative"), text),
      **dict.fromkeys(("text_mask", "negative_mask"), text == 0),
      **dict.fromkeys(("phrase_spans", "negative_phrase_spans"), spans),
      **dict.fromkeys(
        ("phrase_mask", "negative_phrase_mask"), spans[..., 0] == 0
      ),
      **dict.fromkeys(("caption_id", "label", "question_type"), number),
      "example_mask": one,
    }

  def list_examples(self, split: str) -> dict[str, dict[str, Any]]:
    """Returns what people read of each example of a split, by record id.

    Returns:
      `text`, the caption; `answer`, the category, or for matching "text";
      `type`, the class of its length; `image_id`, which is the name, and
      `group`, see `builders.stamps.group_pictures`; for matching `negative`,
      the false caption of evaluation.

    Raises:
      ValueError: there is no such split, or the data are not prepared.
    """
    read, matching = self._read(split), self.task == "matching"
    listed = {
      f"{split}/{record['name']}": {
        "text": record["caption"],
        "answer": "text" if matching else record["category"],
        "type": _find_length(record),
        "image_id": record["name"],
        "group": record["group"],
      }
      for record in read
    }
    if matching:
      encoded = self._encode_captions(read, self.load_assets())
      others = _choose_others(encoded["text"], read)
      for example, other in zip(listed.values(), others, strict=True):
        example["negative"] = read[other]["caption"]
    return listed

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


def _find_length(record: Mapping[str, Any]) -> str:
  """Returns the class of a caption's length."""
  words = tokenizers.split_words(record["caption"])
  return stamp_pairs.classify_length(len(words))


def _choose_others(
  ids: np.ndarray, read: Sequence[Mapping[str, Any]]
) -> np.ndarray:
  """Chooses the false captions of evaluation, int [n]."""
  return stamp_pairs.choose_others(_list_others(ids, read))


def _list_others(
  ids: np.ndarray, read: Sequence[Mapping[str, Any]]
) -> list[np.ndarray]:
  """Lists false captions by what can be told: unknown words are all one."""
  told = [" ".join(map(str, one)) for one in ids]
  return stamp_pairs.list_others(told, [r["category"] for r in read])


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
