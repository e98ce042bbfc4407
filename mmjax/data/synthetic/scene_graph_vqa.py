"""Scene-graph VQA: pictures, their scene graphs, and questions of many hops.

Scenes are those of `scenes`, questions those of `scene_questions`. Each scene
has eight questions: for each number of hops from one to four, one about a
colour and one about a shape. So a majority guesser is right once in eight, and
one who reads the question but sees nothing somewhat more than once in five.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import (
  arrays,
  collation,
  pipeline,
  question_answering,
  shared_rows,
  tokenizers,
  transforms,
)
from mmjax.data.synthetic import (
  scene_pictures,
  scene_question_arrays,
  scene_questions,
  scenes,
)
from mmjax.data.synthetic.scene_question_arrays import Row

NUM_QUESTIONS = len(scene_questions.QUERIES) * len(scene_questions.HOPS)
_QUESTION_KEYS = (
  "text",
  "text_mask",
  "path",
  "path_mask",
  "label",
  "question_type",
  "example_mask",
)
_INDEX_KEYS = ("image_index", "objects_index")
_TYPES = tuple(f"{hops} hop{'s' * (hops > 1)}" for hops in scene_questions.HOPS)
_SETTINGS = tuple(
  field.name for field in dataclasses.fields(scenes.SceneSettings)
)


@dataclasses.dataclass(frozen=True)
class SceneGraphVqa(arrays.ArrayData):
  """Questions of one to four hops about coloured shapes and their relations.

  A batch of B questions about I = B / 8 scenes holds `image` [I, s, s, 3] uint8
  and `image_mask` [I]; the objects as `scene_pictures.encode_objects` and the
  graph as `scene_pictures.encode_graph` gives them, [I, ...]; `image_index` and
  `objects_index` int32 [B], the scene of each question; `text` int32 [B, 30]
  and `text_mask`; `path` int32 [B, 5], the objects from the one that the
  question names to the one that it asks for, and `path_mask`; `label` int32
  [B], a place in `scene_questions.ANSWERS`; `question_type` int32 [B], hops
  less one; `example_mask` bool [B]. With several shards each array has one more
  leading axis, and indices count within the shard. An id of a record is
  `<split>/<scene>/<question>`.

  Attributes:
    num_scenes: training scenes.
    num_eval_scenes: scenes of the validation split and of the test split.
    picture_size: see `scenes.SceneSettings`, as the next three.
    min_objects: at least 5, as four hops need.
    max_objects: K.
    margin: pixels.
    seed: decides the training scenes. Validation and test are the same for
      every seed.
    read_objects: whether the objects of a user's picture are read off it, which
      has to be one of these scenes; otherwise there are none, and any picture
      will do for a model that looks at pixels.
  """

  num_scenes: int = 8_000
  num_eval_scenes: int = 1_000
  picture_size: int = 64
  min_objects: int = 6
  max_objects: int = 8
  margin: int = 4
  seed: int = 0
  read_objects: bool = True

  def __post_init__(self) -> None:
    """Checks the settings.

    Raises:
      ValueError: one of them makes no sense.
    """
    for name, least in (
      ("num_scenes", 1),
      ("num_eval_scenes", 1),
      ("seed", 0),
      ("min_objects", max(scene_questions.HOPS) + 1),
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

  @property
  def max_words(self) -> int:
    """Words of a question that are kept, which is all."""
    return scene_questions.MAX_WORDS

  def prepare(self) -> None:
    """Does nothing: scenes are drawn in memory, 1,000 in a few seconds."""

  def load_assets(self) -> dict[str, Any]:
    """Returns vocabulary and names, and the commonest answer; JSON values."""
    answers = [
      scene_questions.answer_question(question, row.scene)
      for row in self.draw_rows("train")
      for question in row.questions
    ]
    return {
      "labels": list(scene_questions.ANSWERS),
      "vocabulary": list(scene_question_arrays.make_tokenizer().vocabulary),
      "question_types": list(_TYPES),
      "majority_answer": max(scene_questions.ANSWERS, key=answers.count),
      "question_prior": {},
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
    questions = scene_question_arrays.encode_questions(
      rows, tokenizers.WordTokenizer(assets["vocabulary"]), assets["labels"]
    )
    index = np.arange(len(rows), dtype=np.int32).repeat(NUM_QUESTIONS)
    return {
      "image": scene_pictures.render(drawn, self.picture_size),
      "image_mask": np.ones(len(rows), bool),
      **scene_pictures.encode_objects(drawn, self.settings),
      **scene_pictures.encode_graph(drawn, self.settings),
      **questions,
      **dict.fromkeys(_INDEX_KEYS, index),
      "example_mask": np.ones(len(index), bool),
    }

  def record_ids(self, split: str, num_rows: int) -> list[str]:
    """Returns the ids `<split>/<scene>/<question>` of the first questions."""
    return [
      f"{split}/{row // NUM_QUESTIONS}/{row % NUM_QUESTIONS}"
      for row in range(num_rows)
    ]

  def train_batches(
    self,
    assets: Mapping[str, Any],
    *,
    batch_size: int,
    seed: int,
    num_shards: int = 1,
  ) -> pipeline.Batches:
    """Returns endless training batches of whole scenes.

    Args:
      assets: what `load_assets` gave.
      batch_size: B, questions on all shards together.
      seed: decides the order of the scenes.
      num_shards: devices that the batch is cut for.

    Raises:
      ValueError: B is not a multiple of 8 questions a scene on each shard.
    """
    return self._share(assets, "train").train_batches(
      batch_size=batch_size, seed=seed, num_shards=num_shards
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

    Args:
      assets: what `load_assets` gave, for instance from a checkpoint.
      split: one of `scenes.SPLITS`.
      batch_size: B, questions on all shards together.
      num_shards: devices that the batch is cut for.

    Raises:
      ValueError: there is no such split, or B is not a multiple of 8 questions
        a scene on each shard.
    """
    return self._share(assets, split).eval_batches(
      batch_size=batch_size, num_shards=num_shards
    )

  def blank_batch(self) -> collation.Batch:
    """Returns a batch of the first test scene, for its shapes and dtypes."""
    one = dataclasses.replace(self, num_scenes=1, num_eval_scenes=1)
    return one.encode_split(one.load_assets(), "test")

  def encode_example(
    self, assets: Mapping[str, Any], *, image: Any, text: str
  ) -> tuple[collation.Batch, list[str]]:
    """Makes a batch of one example of a user's picture and question.

    Args:
      assets: what `load_assets` gave, for instance from a checkpoint.
      image: a picture of any mode, or its path.
      text: a question.

    Returns:
      The batch, and notes to the user, see `question_answering`.

    Raises:
      ValueError: the picture cannot be read, objects cannot be read off it or
        are too many, or the question has no word; one sentence.
    """
    words, notes = question_answering.encode_question(
      assets, text, self.max_words
    )
    batch = self.blank_batch()
    for key in (*_QUESTION_KEYS, *_INDEX_KEYS):
      batch[key] = np.zeros_like(batch[key][:1])
    batch["example_mask"][:] = True
    batch["text"][0], batch["text_mask"][0] = words.ids, words.mask
    picture = transforms.open_image(image)
    batch["image"] = transforms.to_array(picture, self.picture_size)[None]
    if not self.read_objects:
      for key in ("objects_mask", "graph_mask"):
        batch[key] = np.zeros_like(batch[key])
      return batch, notes
    pixels = np.asarray(transforms.convert_to_rgb(picture))
    scene = scene_pictures.read_scene(pixels)
    if len(scene.colours) > self.max_objects:
      raise ValueError(
        f"the picture shows {len(scene.colours)} objects, and the model was "
        f"trained on at most {self.max_objects}; give one with fewer"
      )
    batch.update(scene_pictures.encode_objects([scene], self.settings))
    batch.update(scene_pictures.encode_graph([scene], self.settings))
    return batch, notes

  def place_tokens(
    self, batch: collation.Batch
  ) -> dict[str, tuple[list[str], np.ndarray]]:
    """Tells where the objects of a batch's first scene are, in boxes."""
    return {"objects": scene_pictures.place_objects(batch)}

  def list_examples(self, split: str) -> dict[str, dict[str, Any]]:
    """Returns what people read of each example of a split, by record id.

    Returns:
      `text`, `answer`, `type`, `image_id`, which is the scene; and `path`, the
      names of the objects that lead to the answer.

    Raises:
      ValueError: there is no such split.
    """
    return {
      f"{split}/{number}/{place}": {
        "text": scene_questions.write_question(question, row.scene),
        "answer": scene_questions.answer_question(question, row.scene),
        "type": _TYPES[len(question.moves) - 1],
        "image_id": number,
        "path": [scenes.name_object(row.scene, i) for i in question.path],
      }
      for number, row in enumerate(self.draw_rows(split))
      for place, question in enumerate(row.questions)
    }

  def load_image(self, record_id: str) -> np.ndarray:
    """Returns an example's picture, uint8 [s, s, 3].

    Raises:
      ValueError: there is no such record.
    """
    split, _, rest = record_id.partition("/")
    rows = self.draw_rows(split)
    row, _, question = rest.partition("/")
    known = row.isdecimal() and int(row) < len(rows) and question.isdecimal()
    if not known or int(question) >= NUM_QUESTIONS:
      raise ValueError(
        f"there is no record {record_id!r}; an id is "
        "<split>/<scene>/<question>, for instance test/0/0"
      )
    return scene_pictures.render([rows[int(row)].scene], self.picture_size)[0]

  def draw_rows(self, split: str) -> Sequence[Row]:
    """Draws the scenes of a split with their questions, once.

    Raises:
      ValueError: there is no such split.
    """
    number = self.num_scenes if split == "train" else self.num_eval_scenes
    return _draw_rows(self.settings, self.seed, split, number)

  def _share(
    self, assets: Mapping[str, Any], split: str
  ) -> shared_rows.SharedRows:
    encoded = self.encode_split(assets, split)
    return shared_rows.SharedRows(
      encoded,
      [f"{split}/{row}" for row in range(len(encoded["image"]))],
      example_keys=_QUESTION_KEYS,
      index_keys=_INDEX_KEYS,
      per_row=NUM_QUESTIONS,
    )


@functools.lru_cache(maxsize=4)
def _draw_rows(
  settings: scenes.SceneSettings, seed: int, split: str, number: int
) -> tuple[Row, ...]:
  return tuple(
    Row(
      *scene_questions.draw_scene_with_questions(
        settings, scenes.make_row_rng(seed, split, "questions", row)
      )
    )
    for row in range(number)
  )
