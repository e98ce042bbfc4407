"""Scenes of coloured shapes whose every relation is beyond doubt.

A scene is a square picture with a few objects, each of one colour, shape and
size at whole pixels. No two objects overlap or have both colour and shape in
common, so "the red circle" is one object or none. The centres of any two lie at
least `margin` pixels apart in x and also in y: of two objects one is left of
the other and one is above, and no pair is a matter of taste. A scene depends on
nothing but seed, split and row.

After the scenes of Johnson et al. 2017, "CLEVR: A Diagnostic Dataset for
Compositional Language and Elementary Visual Reasoning",
https://arxiv.org/abs/1612.06890.

Differs from the paper: flat and small, with the margin in both directions;
above and below in place of in front and behind.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SPLITS = ("train", "validation", "test")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = ("small", "large")
RADII = (4, 6)  # pixels from the centre to the border, by size
RELATIONS = ("left of", "right of", "above", "below")

_TRIES = 64  # places drawn at once
_ROUNDS = 400


class Scene(NamedTuple):
  """The k objects of a scene, in random order.

  Attributes:
    colours: int [k], places in `COLOURS`.
    shapes: int [k], places in `SHAPES`.
    sizes: int [k], places in `SIZES`.
    centres: int [k, 2], the pixel in the middle: x (column), y (row).
  """

  colours: np.ndarray
  shapes: np.ndarray
  sizes: np.ndarray
  centres: np.ndarray


@dataclasses.dataclass(frozen=True)
class SceneSettings:
  """How scenes are drawn.

  Attributes:
    picture_size: height and width in pixels.
    min_objects: the fewest objects of a scene.
    max_objects: K, the most; all numbers between are equally frequent.
    margin: the least distance of two centres in x, and in y, in pixels.
  """

  picture_size: int = 64
  min_objects: int = 6
  max_objects: int = 8
  margin: int = 4

  def __post_init__(self) -> None:
    """Checks the settings.

    Raises:
      ValueError: one of them makes no sense, or the objects have no room.
    """
    for name in ("min_objects", "margin"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"data.{name} is {getattr(self, name)}; it has to be at least 1"
        )
    most = len(COLOURS) * len(SHAPES)
    if not self.min_objects <= self.max_objects <= most:
      raise ValueError(
        f"data.max_objects is {self.max_objects}; set it to {self.min_objects} "
        f"(data.min_objects) to {most} (all pairs of colour and shape)"
      )
    needed = 2 * max(RADII) + 1 + self.margin * (self.max_objects - 1)
    if self.picture_size < needed:
      raise ValueError(
        f"data.picture_size is {self.picture_size}, too small for "
        f"{self.max_objects} objects {self.margin} pixels apart; set it to at "
        f"least {needed}, or to more if they do not fit without overlap"
      )


def make_row_rng(
  seed: int, split: str, purpose: str, row: int
) -> np.random.Generator:
  """Makes the generator of one row.

  Only training follows the seed: validation and test are the same for all.

  Raises:
    ValueError: there is no such split.
  """
  if split not in SPLITS:
    raise ValueError(
      f"scenes have no split {split!r}; they have {', '.join(SPLITS)}"
    )
  seed = seed if split == "train" else 0
  return np.random.default_rng([seed, row, *f"{split}/{purpose}".encode()])


def draw_scene(settings: SceneSettings, rng: np.random.Generator) -> Scene:
  """Draws one scene.

  Raises:
    ValueError: the picture is too small for so many objects.
  """
  number = int(rng.integers(settings.min_objects, settings.max_objects + 1))
  kinds = rng.permutation(len(COLOURS) * len(SHAPES))[:number]
  sizes = rng.integers(0, len(SIZES), number)
  centres = _draw_centres(settings, np.array(RADII)[sizes], rng)
  return Scene(kinds // len(SHAPES), kinds % len(SHAPES), sizes, centres)


def relate(centres: np.ndarray) -> np.ndarray:
  """Tells which relations hold between objects.

  a is left of b where the x of its centre is smaller, and above b where the y
  is; right of and below are the same with a and b exchanged.

  Args:
    centres: [..., k, 2], x and y.

  Returns:
    bool [..., 4, k, k]: whether relation r of `RELATIONS` holds of a and b.
  """
  first, second = centres[..., :, None, :], centres[..., None, :, :]
  smaller = np.moveaxis(first < second, -1, -3)
  larger = np.swapaxes(smaller, -1, -2)
  left, above = smaller[..., 0, :, :], smaller[..., 1, :, :]
  right, below = larger[..., 0, :, :], larger[..., 1, :, :]
  return np.stack([left, right, above, below], axis=-3)


def name_object(scene: Scene, index: int) -> str:
  """Names an object by colour and shape, for instance "red circle"."""
  return f"{COLOURS[scene.colours[index]]} {SHAPES[scene.shapes[index]]}"


def find_object(scene: Scene, colour: str, shape: str) -> int | None:
  """Returns the object of a colour and a shape, or None."""
  found = (scene.colours == COLOURS.index(colour)) & (
    scene.shapes == SHAPES.index(shape)
  )
  return int(found.argmax()) if found.any() else None


def pad_objects(arrays: Sequence[np.ndarray], number: int) -> np.ndarray:
  """Stacks n arrays [k, ...] to [n, number, ...], with zeros at the end."""
  padded = np.zeros((len(arrays), number, *arrays[0].shape[1:]), np.int32)
  for row, values in enumerate(arrays):
    padded[row, : len(values)] = values
  return padded


def _draw_centres(
  settings: SceneSettings, radii: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Draws centres [k, 2] with the margin between them and no overlap."""
  number, border = len(radii), max(RADII)
  room = settings.picture_size - 2 * border
  slack = room - settings.margin * (number - 1)
  reach = radii[:, None] + radii
  apart = ~np.tri(number, dtype=bool)
  for _ in range(_ROUNDS):
    # Sorted numbers with the margin added between them, in random order.
    places = np.sort(rng.integers(0, slack, (_TRIES, 2, number)), axis=-1)
    places = places + border + settings.margin * np.arange(number)
    places = rng.permuted(places, axis=-1)
    distance = abs(places[..., :, None] - places[..., None, :])
    free = (distance > reach).any(axis=1) | ~apart
    good = free.all(axis=(1, 2))
    if good.any():
      return places[good.argmax()].T
  raise ValueError(
    f"{number} objects were not placed without overlap in {_ROUNDS * _TRIES} "
    f"tries; set data.picture_size above {settings.picture_size} or "
    "data.max_objects lower"
  )
