"""Sort-of-CLEVR: scenes of six coloured squares and circles, and questions.

Santoro et al. 2017, "A simple neural network module for relational reasoning",
https://arxiv.org/abs/1706.01427, section 4.2; what the paper leaves open is as
in the generator that most people use,
https://github.com/kimhc6028/relational-networks.

Differs from them: no two objects share a pixel (there, corners of squares may
overlap), and no object has two nearest or two furthest others, so that every
answer is exact (there, ties go by colour); a circle's radius is 5.5 pixels, so
that it fills the same box as a square; questions are words, not bits, whose bag
tells the same.
"""

from typing import NamedTuple

import numpy as np

COLORS = {
  "red": (255, 0, 0),
  "green": (0, 255, 0),
  "blue": (0, 0, 255),
  "orange": (255, 156, 0),
  "gray": (128, 128, 128),
  "yellow": (255, 255, 0),
}
SHAPES = ("square", "circle")
TYPES = ("non-relational", "relational")
IMAGE_SIZE = 75
NUM_OBJECTS = len(COLORS)
# Position of two numbers, colour and shape as one-hot vectors.
NUM_FEATURES = 2 + NUM_OBJECTS + len(SHAPES)
NUM_PER_TYPE = 3  # questions that may be asked of each colour
_RADIUS = 5
_LOWEST, _HIGHEST = _RADIUS, IMAGE_SIZE - 1 - _RADIUS
_MIDDLE = (IMAGE_SIZE - 1) // 2
_NAMES = tuple(COLORS)
_TEXTS = {
  "non-relational": (
    "what is the shape of the {} object?",
    "is the {} object on the left?",
    "is the {} object at the top?",
  ),
  "relational": (
    "what is the shape of the object nearest to the {} object?",
    "what is the shape of the object furthest from the {} object?",
    "how many objects have the shape of the {} object?",
  ),
}


def _make_stamps() -> np.ndarray:
  """Makes the pixels of each shape around its middle, bool [2, 11, 11]."""
  rows, columns = np.ogrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1]
  circle = rows**2 + columns**2 <= (_RADIUS + 0.5) ** 2
  return np.stack([np.ones_like(circle), circle])


_STAMPS = _make_stamps()


class Scene(NamedTuple):
  """Six objects in the order of `COLORS`.

  Attributes:
    positions: int [6, 2], column and row of the middle pixel.
    shapes: int [6], places in `SHAPES`.
  """

  positions: np.ndarray
  shapes: np.ndarray


class Question(NamedTuple):
  """A question with its answer, and its type out of `TYPES`."""

  text: str
  answer: str
  type: str


def make_rng(seed: int, image_id: int) -> np.random.Generator:
  """Makes the generator of one image: images do not depend on each other."""
  return np.random.default_rng([seed, image_id])


def draw_scene(rng: np.random.Generator) -> Scene:
  """Draws a scene: positions evenly among those allowed, shapes by a coin.

  An object that shares a row and a column of pixels with another one is drawn
  again; a scene where some object has no single nearest, or no single furthest
  other, is drawn again as a whole.
  """
  while True:
    positions = np.empty((NUM_OBJECTS, 2), np.int64)
    placed = 0
    while placed < NUM_OBJECTS:
      drawn = rng.integers(_LOWEST, _HIGHEST + 1, size=2)
      gaps = np.abs(positions[:placed] - drawn).max(axis=1)
      if (gaps > 2 * _RADIUS).all():
        positions[placed] = drawn
        placed += 1
    if _is_exact(positions):
      shapes = rng.integers(len(SHAPES), size=NUM_OBJECTS)
      return Scene(positions, shapes)


def draw_questions(
  scene: Scene, rng: np.random.Generator, num_per_type: int
) -> list[Question]:
  """Draws questions of each type, evenly among the 18 of a type.

  As in the public generator, the same question may be drawn again.
  """
  size = (len(TYPES), num_per_type)
  numbers = rng.integers(NUM_PER_TYPE, size=size).tolist()
  colors = rng.integers(NUM_OBJECTS, size=size).tolist()
  return [
    ask(scene, kind, number, color)
    for row, kind in enumerate(TYPES)
    for number, color in zip(numbers[row], colors[row], strict=True)
  ]


def ask(scene: Scene, kind: str, number: int, color: int) -> Question:
  """Asks one question of a scene.

  Args:
    scene: the scene.
    kind: one of `TYPES`.
    number: which of the three questions of that type: shape, left, top; or
      shape of the nearest, shape of the furthest, number of the same shape.
    color: place of the object's colour in `COLORS`.
  """
  text = _TEXTS[kind][number].format(_NAMES[color])
  own = scene.shapes[color]
  if kind == "relational":
    if number == 2:
      answer = str((scene.shapes == own).sum())
    else:
      distances = _square_distances(scene.positions)[color]
      order = np.argsort(distances)  # the object itself comes first
      answer = SHAPES[scene.shapes[order[1 if number == 0 else -1]]]
  elif number == 0:
    answer = SHAPES[own]
  else:
    place = scene.positions[color, number - 1]
    answer = "yes" if place <= _MIDDLE else "no"
  return Question(text, answer, kind)


def list_questions(scene: Scene) -> list[Question]:
  """Asks all 36 questions of a scene, by type, question and colour."""
  return [
    ask(scene, kind, number, color)
    for kind in TYPES
    for number in range(NUM_PER_TYPE)
    for color in range(NUM_OBJECTS)
  ]


def render(scene: Scene) -> np.ndarray:
  """Draws a scene on white, uint8 [75, 75, 3]."""
  image = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), 255, np.uint8)
  for color, (column, row), shape in zip(
    COLORS.values(), scene.positions - _RADIUS, scene.shapes, strict=True
  ):
    box = image[
      row : row + _STAMPS.shape[1], column : column + _STAMPS.shape[2]
    ]
    box[_STAMPS[shape]] = color
  return image


def read_scene(image: np.ndarray) -> Scene:
  """Reads a scene back from its picture, pixel for pixel.

  Args:
    image: uint8 [75, 75, 3], as `render` makes it.

  Raises:
    ValueError: the picture is not exactly that of a scene; one sentence.
  """
  positions = np.zeros((NUM_OBJECTS, 2), np.int64)
  shapes = np.zeros(NUM_OBJECTS, np.int64)
  if image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3):
    for number, color in enumerate(COLORS.values()):
      rows, columns = np.nonzero((image == color).all(axis=-1))
      if len(rows):
        positions[number] = columns.min(), rows.min()
        # A square fills its box, a circle does not.
        shapes[number] = len(rows) < _STAMPS[0].size
    scene = Scene((positions + _RADIUS).clip(_LOWEST, _HIGHEST), shapes)
    if np.array_equal(render(scene), image):
      return scene
  raise ValueError(
    "the objects of a picture can be read only if it was made as those of"
    f" Sort-of-CLEVR: {IMAGE_SIZE} x {IMAGE_SIZE} pixels, unscaled, with one"
    f" object of each colour ({', '.join(COLORS)}), got"
    f" {list(image.shape)}; use a model of pixels, or such a picture"
  )


def describe(scene: Scene) -> np.ndarray:
  """Makes the states of the objects, float32 [6, 10].

  Column and row scaled to [-1, 1], six numbers for the colour, two for the
  shape.
  """
  half = (_HIGHEST - _LOWEST) / 2
  places = (scene.positions - _MIDDLE) / half
  colors, shapes = np.eye(NUM_OBJECTS), np.eye(len(SHAPES))[scene.shapes]
  return np.concatenate([places, colors, shapes], axis=1).astype(np.float32)


def locate(states: np.ndarray) -> np.ndarray:
  """Finds the middles of objects [..., 10] in shares of the picture: [..., 2].

  The states are those of `describe`; x and y count from the upper left corner.
  """
  half = (_HIGHEST - _LOWEST) / 2
  return (states[..., :2] * half + _MIDDLE + 0.5) / IMAGE_SIZE


def _square_distances(positions: np.ndarray) -> np.ndarray:
  """Makes int [6, 6] of [6, 2]."""
  return ((positions[:, None] - positions) ** 2).sum(axis=-1)


def _is_exact(positions: np.ndarray) -> bool:
  """Tells whether every object has one nearest and one furthest other."""
  ordered = np.sort(_square_distances(positions), axis=1)
  nearest = ordered[:, 1] < ordered[:, 2]
  furthest = ordered[:, -2] < ordered[:, -1]
  return bool(nearest.all() and furthest.all())
