"""Questions about scenes that follow relations from object to object.

"what colour is the object nearest the first circle left of the red square?"
starts at the red square and makes two hops. Read from the end, every noun
phrase means exactly one object of the scene, and each hop is needed: its noun
alone fits at least two objects besides the one that it starts from.

"The first circle left of" is the one with the least distance in x, "above" and
"below" in y; where it stands among the circles depends on where the hop starts.
"The circle left of", where there is one only, would always be the leftmost of
all circles, so that nobody would have to know where the hop starts. Of two
distances the smaller is "nearest" only if the other is at least
`NEAREST_MARGIN` pixels larger; else the question is not asked.

After the programs of Hudson and Manning 2019, "GQA: A New Dataset for
Real-World Visual Reasoning and Compositional Question Answering",
https://arxiv.org/abs/1902.09506.

Differs from the paper: made scenes, chains only, and open answers of two kinds.
"""

from typing import NamedTuple

import numpy as np

from mmjax.data.synthetic import scenes

HOPS = (1, 2, 3, 4)
QUERIES = ("colour", "shape")
ANSWERS = (*scenes.COLOURS, *scenes.SHAPES)
RELATIONS = (*scenes.RELATIONS, "nearest")
NOUNS = (
  "object",
  *scenes.SHAPES,
  *(f"{colour} object" for colour in scenes.COLOURS),
)
NEAREST_MARGIN = 2.0
# "what colour is", four times "the first red object left of", and a name.
MAX_WORDS = 30

_SHAPE_NOUNS = range(1, 1 + len(scenes.SHAPES))
_COLOUR_NOUNS = range(1 + len(scenes.SHAPES), len(NOUNS))
_WALKS = 50
_AXES = (0, 0, 1, 1)  # along which `scenes.RELATIONS` are measured
_FAR = 1e9  # pixels


class Move(NamedTuple):
  """A hop: to the one object of a noun that stands in a relation to another.

  Attributes:
    relation: place in `RELATIONS`.
    noun: place in `NOUNS`.
    goal: the object.
  """

  relation: int
  noun: int
  goal: int


class Question(NamedTuple):
  """A question of a scene.

  Attributes:
    query: "colour" or "shape", what is asked of the last object.
    start: the object that is named by colour and shape.
    moves: one to four hops, in the order in which they are made.
  """

  query: str
  start: int
  moves: tuple[Move, ...]

  @property
  def path(self) -> tuple[int, ...]:
    """The objects from the one that is named to the one that is asked for."""
    return (self.start, *(move.goal for move in self.moves))


def write_question(question: Question, scene: scenes.Scene) -> str:
  """Writes a question in English."""
  phrase = f"the {scenes.name_object(scene, question.start)}"
  for move in question.moves:
    noun, relation = NOUNS[move.noun], RELATIONS[move.relation]
    which = "" if relation == "nearest" else "first "
    phrase = f"the {which}{noun} {relation} {phrase}"
  return f"what {question.query} is {phrase}?"


def answer_question(question: Question, scene: scenes.Scene) -> str:
  """Reads the answer off the last object of the path."""
  goal = question.path[-1]
  if question.query == "colour":
    return scenes.COLOURS[scene.colours[goal]]
  return scenes.SHAPES[scene.shapes[goal]]


def find_moves(scene: scenes.Scene) -> list[list[Move]]:
  """Finds, for each object, all hops that lead to one other and are needed."""
  number = len(scene.colours)
  # [start, noun, goal]: the objects besides the start that a noun fits.
  others = _match_nouns(scene) & ~np.eye(number, dtype=bool)[:, None]
  needed = others.sum(axis=-1) >= 2
  offsets = abs(scene.centres[:, None] - scene.centres)
  # [start, relation, noun, goal]; a relation holds in the order goal, start.
  holds = np.moveaxis(scenes.relate(scene.centres), -1, 0)
  candidates = others[:, None] & holds[:, :, None]
  along = np.moveaxis(offsets[..., _AXES], -1, 1)[:, :, None]
  on_side = np.where(candidates, along, _FAR)
  around = np.sqrt(np.square(offsets).sum(axis=-1))
  around = np.where(others, around[:, None], _FAR)
  first, second = np.sort(around, axis=-1)[..., :2].transpose(2, 0, 1)
  clear = second - first >= NEAREST_MARGIN
  allowed = np.concatenate([candidates.any(axis=-1), clear[:, None]], axis=1)
  goals = np.concatenate(
    [on_side.argmin(axis=-1), around.argmin(axis=-1)[:, None]], axis=1
  ).tolist()
  return [
    [
      Move(relation, noun, goals[start][relation][noun])
      for relation, noun in np.argwhere(allowed[start] & needed[start]).tolist()
    ]
    for start in range(number)
  ]


def draw_question(
  moves: list[list[Move]], query: str, num_hops: int, rng: np.random.Generator
) -> Question | None:
  """Draws a question by a walk that visits no object twice.

  At each hop relations with a move are equally likely, and then nouns. The
  last noun does not give the answer away.

  Args:
    moves: what `find_moves` gave.
    query: one of `QUERIES`.
    num_hops: hops.
    rng: decides.

  Returns:
    The question, or None if the scene seems to have none.
  """
  telling = _COLOUR_NOUNS if query == "colour" else _SHAPE_NOUNS
  for _ in range(_WALKS):
    path, walk = [int(rng.integers(len(moves)))], []
    for hop in range(num_hops):
      last = hop == num_hops - 1
      allowed = [
        move
        for move in moves[path[-1]]
        if move.goal not in path and not (last and move.noun in telling)
      ]
      if not allowed:
        break
      relations = sorted({move.relation for move in allowed})
      relation = relations[int(rng.integers(len(relations)))]
      allowed = [move for move in allowed if move.relation == relation]
      walk.append(allowed[int(rng.integers(len(allowed)))])
      path.append(walk[-1].goal)
    if len(walk) == num_hops:
      return Question(query, path[0], tuple(walk))
  return None


def draw_scene_with_questions(
  settings: scenes.SceneSettings, rng: np.random.Generator
) -> tuple[scenes.Scene, tuple[Question, ...]]:
  """Draws a scene with a question of each query and number of hops.

  A scene that lacks one of them is dropped and another is drawn.

  Returns:
    The scene and 8 questions: 1 to 4 hops about colours, then about shapes.
  """
  while True:
    scene = scenes.draw_scene(settings, rng)
    moves, questions = find_moves(scene), []
    for query in QUERIES:
      for num_hops in HOPS:
        question = draw_question(moves, query, num_hops, rng)
        if question is not None:
          questions.append(question)
    if len(questions) == len(QUERIES) * len(HOPS):
      return scene, tuple(questions)


def _match_nouns(scene: scenes.Scene) -> np.ndarray:
  """Tells which objects each noun fits, bool [11, k]."""
  shapes = np.arange(len(scenes.SHAPES))[:, None] == scene.shapes
  colours = np.arange(len(scenes.COLOURS))[:, None] == scene.colours
  anything = np.ones((1, len(scene.shapes)), bool)
  return np.concatenate([anything, shapes, colours])
