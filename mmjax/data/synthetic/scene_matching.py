"""Matching scenes and captions: what is true, and what is false by a word.

Scenes are those of `scenes`, captions those of `scene_captions`: chains of two
to five relations, with a false caption beside each true one. Words, phrases and
objects come as nodes with masks, so that a graph over both modalities can be
built.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmjax.data import arrays, collation, tokenizers
from mmjax.data.synthetic import scene_captions, scene_pictures, scenes

_LABELS = {"choice": ("negative", "text"), "judgement": ("false", "true")}
TASKS = tuple(_LABELS)
LENGTHS = (2, 3, 4, 5)
NUM_PHRASES = 2 * max(LENGTHS) + 1
MAX_WORDS = 37  # "which is left of" with three words a name
_SETTINGS = tuple(
  field.name for field in dataclasses.fields(scenes.SceneSettings)
)


class Row(NamedTuple):
  """A scene with a true and a false caption."""

  scene: scenes.Scene
  caption: scene_captions.Caption
  negative: scene_captions.Negative


@dataclasses.dataclass(frozen=True)
class SceneMatching(arrays.ArrayData):
  """Does the caption fit the scene? Chains of relations, false by one word.

  A batch of B scenes holds the picture `image` [B, s, s, 3] uint8 and
  `image_mask` [B]; the objects as `scene_pictures.encode_objects` gives them;
  `text` int32 [B, 37] and `text_mask`; and for the graph of a caption::

    phrase_spans  int32 [B, 11, 2], first word of each phrase and the word after
                  its last. Even places are names, odd ones the relation between
                  the phrases before and after.
    phrase_mask   bool [B, 11].
    phrase_facts  int32 [B, 11], what a phrase says: colour * 4 + shape, or the
                  place of the relation in `scenes.RELATIONS`. For telling what
                  else is true, see `find_true_pairs`; not for a network to see.

  `question_type` [B] is the number of relations less two, `example_mask` [B]
  all True. The task says what else there is::

    "choice"      the false caption, `negative`, `negative_phrase_spans` and
                  their masks: words and phrases are where those of the true one
                  are; `label` is 1, the place of the true one of (negative,
                  text): equal scores are an error.
    "judgement"   `text` is the true caption or the false one, `label` 1 or 0;
                  of any two rows 8 i + j and 8 i + j + 4 one is true.

  Row i has 2 + i % 4 relations; the word that makes a caption false is a
  relation, a colour or a shape in turn. An id of a record is `<split>/<row>`.

  Attributes:
    task: one of `TASKS`.
    num_scenes: training scenes.
    num_eval_scenes: scenes of the validation split and of the test split.
    picture_size: see `scenes.SceneSettings`, as the next three.
    min_objects: at least 6, one more than the longest caption has relations.
    max_objects: K.
    margin: pixels.
    seed: decides the training scenes. Validation and test are the same for
      every seed.
  """

  task: str = "choice"
  num_scenes: int = 10_000
  num_eval_scenes: int = 2_000
  picture_size: int = 64
  min_objects: int = 6
  max_objects: int = 8
  margin: int = 4
  seed: int = 0

  def __post_init__(self) -> None:
    """Checks the settings.

    Raises:
      ValueError: one of them makes no sense.
    """
    if self.task not in TASKS:
      raise ValueError(
        f"data.task is {self.task!r}; it is one of {', '.join(TASKS)}"
      )
    for name, least in (
      ("num_scenes", 1),
      ("num_eval_scenes", 1),
      ("seed", 0),
      ("min_objects", max(LENGTHS) + 1),
    ):
      if getattr(self, name) < least:
        raise ValueError(
          f"data.{name} is {getattr(self, name)}; it has to be at least {least}"
        )
    self.settings  # noqa: B018 - checks the others

  @property
  def settings(self) -> scenes.SceneSettings:
    """How the scenes are drawn."""
    return scenes.SceneSettings(
      **{name: getattr(self, name) for name in _SETTINGS}
    )

  def prepare(self) -> None:
    """Does nothing: scenes are drawn in memory, 1,000 in about a second."""

  def load_assets(self) -> dict[str, Any]:
    """Returns vocabulary and names, which depend on no split; JSON values.

    No answer is the commonest where two captions are compared.
    """
    judged = self.task == "judgement"
    return {
      "labels": list(_LABELS[self.task]),
      "vocabulary": list(make_tokenizer().vocabulary),
      "question_types": [f"{length} relations" for length in LENGTHS],
      "majority_answer": _LABELS[self.task][1] if judged else None,
      "question_prior": {},
      "unit": "captions",
    }

  def encode_split(
    self, assets: Mapping[str, Any], split: str
  ) -> collation.Batch:
    """Returns a whole split as one batch.

    Args:
      assets: what `load_assets` gave, for instance from a checkpoint.
      split: one of `scenes.SPLITS`.

    Raises:
      ValueError: there is no such split.
    """
    rows = self.draw_rows(split)
    drawn = [row.scene for row in rows]
    tokenizer = tokenizers.WordTokenizer(assets["vocabulary"])
    batch = {
      "image": scene_pictures.render(drawn, self.picture_size),
      "image_mask": np.ones(len(rows), bool),
      **scene_pictures.encode_objects(drawn, self.settings),
      **encode_phrases([row.caption for row in rows]),
      "question_type": np.arange(len(rows), dtype=np.int32) % len(LENGTHS),
      "example_mask": np.ones(len(rows), bool),
    }
    true = encode_words(tokenizer, [row.caption for row in rows])
    false = encode_words(tokenizer, [row.negative.caption for row in rows])
    if self.task == "choice":
      label = np.ones(len(rows), np.int32)
      wrong = {
        "negative": false["text"],
        "negative_mask": true["text_mask"],
        "negative_phrase_spans": batch["phrase_spans"],
        "negative_phrase_mask": batch["phrase_mask"],
      }
      return {**batch, **true, **wrong, "label": label}
    label = _is_true_row(np.arange(len(rows)))
    text = np.where(label[:, None], true["text"], false["text"])
    facts = encode_phrases([row.negative.caption for row in rows])
    batch["phrase_facts"] = np.where(
      label[:, None], batch["phrase_facts"], facts["phrase_facts"]
    )
    return {
      **batch,
      **true,
      "text": text,
      "label": label.astype(np.int32),
    }

  def blank_batch(self) -> collation.Batch:
    """Returns a batch of the first test scene, for its shapes and dtypes."""
    one = dataclasses.replace(self, num_eval_scenes=1)
    return one.encode_split(one.load_assets(), "test")

  def list_examples(self, split: str) -> dict[str, dict[str, Any]]:
    """Returns what people read of each example of a split, by record id.

    Returns:
      `text`, `answer`, `type`, `image_id`, which is the row; `negative`, the
      false caption, `negative_kind`, the kind of the word in which it differs,
      and `negative_is_present`, see `scene_captions.Negative`.

    Raises:
      ValueError: there is no such split.
    """
    assets, listed = self.load_assets(), {}
    for number, row in enumerate(self.draw_rows(split)):
      true = self.task == "choice" or bool(_is_true_row(number))
      caption = row.caption if true else row.negative.caption
      listed[f"{split}/{number}"] = {
        "text": scene_captions.write_caption(caption),
        "answer": assets["labels"][int(true)],
        "type": assets["question_types"][number % len(LENGTHS)],
        "image_id": number,
        "negative": scene_captions.write_caption(row.negative.caption),
        "negative_kind": row.negative.kind,
        "negative_is_present": row.negative.is_present,
      }
    return listed

  def place_tokens(
    self, batch: collation.Batch
  ) -> dict[str, tuple[list[str], np.ndarray]]:
    """Tells where the objects of a batch's first scene are, in boxes."""
    return {"objects": scene_pictures.place_objects(batch)}

  def load_image(self, record_id: str) -> np.ndarray:
    """Returns an example's picture, uint8 [s, s, 3].

    Raises:
      ValueError: there is no such record.
    """
    split, _, row = record_id.partition("/")
    rows = self.draw_rows(split)
    if not row.isdecimal() or int(row) >= len(rows):
      raise ValueError(
        f"there is no record {record_id!r}; an id is <split>/<row>, for "
        "instance test/0"
      )
    return scene_pictures.render([rows[int(row)].scene], self.picture_size)[0]

  def draw_rows(self, split: str) -> Sequence[Row]:
    """Draws the scenes of a split with their captions, once.

    Raises:
      ValueError: there is no such split.
    """
    number = self.num_scenes if split == "train" else self.num_eval_scenes
    return _draw_rows(self.settings, self.seed, split, number)


def make_tokenizer() -> tokenizers.WordTokenizer:
  """Makes the tokenizer of all words that captions can have."""
  words = [*scenes.COLOURS, *scenes.SHAPES, *scenes.RELATIONS]
  return tokenizers.WordTokenizer.build([*words, "the is which"])


def encode_words(
  tokenizer: tokenizers.WordTokenizer,
  captions: Sequence[scene_captions.Caption],
) -> dict[str, np.ndarray]:
  """Encodes captions: `text` int32 [n, 37] and `text_mask` bool [n, 37]."""
  encoded = [
    tokenizer.encode(scene_captions.write_caption(caption), MAX_WORDS)
    for caption in captions
  ]
  return {
    "text": np.stack([one.ids for one in encoded]),
    "text_mask": np.stack([one.mask for one in encoded]),
  }


def encode_phrases(
  captions: Sequence[scene_captions.Caption],
) -> dict[str, np.ndarray]:
  """Encodes the phrases of captions; see `SceneMatching`."""
  spans = np.zeros((len(captions), NUM_PHRASES, 2), np.int32)
  facts = np.zeros((len(captions), NUM_PHRASES), np.int32)
  lengths = np.zeros((len(captions), 1), np.int32)
  for row, caption in enumerate(captions):
    lengths[row] = number = 2 * len(caption.relations) + 1
    spans[row, :number] = scene_captions.find_spans(caption)
    facts[row, :number:2] = caption.kinds
    facts[row, 1:number:2] = caption.relations
  return {
    "phrase_spans": spans,
    "phrase_mask": np.arange(NUM_PHRASES) < lengths,
    "phrase_facts": facts,
  }


def find_true_pairs(batch: Mapping[str, np.ndarray]) -> np.ndarray:
  """Tells which captions of a batch are true of which scenes.

  A short caption can be true of another scene too, which then is no mistake.

  Args:
    batch: of B examples; the captions are those that `phrase_facts` tell.

  Returns:
    bool [B, B], whether caption j is true of scene i; padding is False.
  """
  num_shapes = len(scenes.SHAPES)
  kinds = batch["object_colours"] * num_shapes + batch["object_shapes"]
  kinds = np.where(batch["objects_mask"], kinds, -1)
  named, stated = batch["phrase_facts"][:, ::2], batch["phrase_facts"][:, 1::2]
  # [i, j, p, k]: object k of scene i is the p-th that caption j names.
  same = kinds[:, None, None, :] == named[None, :, :, None]
  place = same.argmax(axis=-1)
  exists = same.any(axis=-1) | ~batch["phrase_mask"][:, ::2]
  holds = scenes.relate(batch["objects"][..., -2:])
  scene = np.arange(len(kinds))[:, None, None]
  kept = holds[scene, stated[None], place[..., :-1], place[..., 1:]]
  kept |= ~batch["phrase_mask"][:, 1::2]
  there = batch["example_mask"]
  return exists.all(-1) & kept.all(-1) & there & there[:, None]


def _is_true_row(row: Any) -> Any:
  """Whether rows are judged true: half of each length and of each kind."""
  return row // len(LENGTHS) % 2 == 0


@functools.lru_cache(maxsize=4)
def _draw_rows(
  settings: scenes.SceneSettings, seed: int, split: str, number: int
) -> tuple[Row, ...]:
  kinds = scene_captions.NEGATIVE_KINDS
  rows = []
  for row in range(number):
    rng = scenes.make_row_rng(seed, split, "matching", row)
    scene = scenes.draw_scene(settings, rng)
    length = LENGTHS[row % len(LENGTHS)]
    caption = scene_captions.draw_caption(scene, length, rng)
    kind = kinds[row // len(LENGTHS) // 2 % len(kinds)]
    negative = scene_captions.draw_negative(caption, scene, kind, rng)
    rows.append(Row(scene, caption, negative))
  return tuple(rows)
