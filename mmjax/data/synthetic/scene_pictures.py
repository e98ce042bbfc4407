"""Scenes as pixels, boxes, and numbers for each object.

A pixel belongs to an object or not: nothing is smoothed, and the background is
black. The box of an object is the smallest that holds its pixels.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from mmjax.data.synthetic import scenes

RGB = (
  (220, 40, 40),
  (40, 170, 60),
  (50, 80, 230),
  (235, 215, 50),
  (150, 60, 180),
  (70, 210, 220),
)
NUM_FEATURES = len(scenes.COLOURS) + len(scenes.SHAPES) + len(scenes.SIZES) + 2


@functools.cache
def make_stencil(shape: str, radius: int) -> np.ndarray:
  """Returns the pixels of a shape, bool [2 radius + 1, 2 radius + 1].

  Each touches all four sides of its square.

  Raises:
    ValueError: there is no such shape.
  """
  y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
  match shape:
    case "circle":
      stencil = x**2 + y**2 <= (radius + 0.3) ** 2
    case "square":
      stencil = np.ones(x.shape, bool)
    case "triangle":
      stencil = 2 * abs(x) <= y + radius
    case "cross":
      stencil = np.minimum(abs(x), abs(y)) <= radius // 3
    case _:
      raise ValueError(
        f"there is no shape {shape!r}; shapes are {', '.join(scenes.SHAPES)}"
      )
  stencil.setflags(write=False)
  return stencil


def render(drawn: Sequence[scenes.Scene], picture_size: int) -> np.ndarray:
  """Draws scenes, uint8 [n, picture_size, picture_size, 3]."""
  pictures = np.zeros((len(drawn), picture_size, picture_size, 3), np.uint8)
  for picture, scene in zip(pictures, drawn, strict=True):
    for colour, shape, size, (x, y) in zip(*scene, strict=True):
      radius = scenes.RADII[size]
      window = picture[y - radius : y + radius + 1, x - radius : x + radius + 1]
      window[make_stencil(scenes.SHAPES[shape], radius)] = RGB[colour]
  return pictures


def read_scene(picture: np.ndarray) -> scenes.Scene:
  """Reads a scene back from its picture, pixel for pixel.

  Objects come by colour, the large ones first.

  Args:
    picture: uint8 [s, s, 3].

  Raises:
    ValueError: it is not exactly as scenes are drawn.
  """
  found = []
  for colour, rgb in enumerate(RGB):
    left = (picture == np.array(rgb, np.uint8)).all(axis=-1)
    # What is large first, as a small square fits into a large one.
    for size in reversed(range(len(scenes.RADII))):
      radius = scenes.RADII[size]
      for shape, name in enumerate(scenes.SHAPES):
        for x, y in _find_stencil(left, make_stencil(name, radius)):
          left[y : y + 2 * radius + 1, x : x + 2 * radius + 1] = False
          found.append((colour, shape, size, (x + radius, y + radius)))
  columns = [np.array(values) for values in zip(*found, strict=True)]
  scene = scenes.Scene(*columns) if found else None
  if scene is None or not np.array_equal(
    render([scene], len(picture))[0], picture
  ):
    raise ValueError(
      "objects cannot be read off this picture: it is not drawn, pixel for"
      " pixel, as scenes are; give a picture of the data set as PNG"
    )
  return scene


def _find_stencil(pixels: np.ndarray, stencil: np.ndarray) -> list:
  """Finds the corners x, y of windows that are exactly a stencil."""
  if min(pixels.shape) < len(stencil):
    return []
  windows = np.lib.stride_tricks.sliding_window_view(pixels, stencil.shape)
  found = np.argwhere((windows == stencil).all(axis=(2, 3)))
  return found[:, ::-1].tolist()


def encode_objects(
  drawn: Sequence[scenes.Scene], settings: scenes.SceneSettings
) -> dict[str, np.ndarray]:
  """Encodes the objects of n scenes, padded to K = `max_objects`.

  Returns:
    `objects` float32 [n, K, 14]: colour, shape and size as one of 6, 4 and 2,
    then the centre's x and y, -1 to 1 from the first to the last pixel;
    `objects_mask` bool [n, K]; `object_colours`, `object_shapes` and
    `object_sizes` int32 [n, K]; `object_boxes` float32 [n, K, 4], left, top,
    right and bottom in shares of the picture. Zero where there is no object.
  """
  columns = [
    scenes.pad_objects(values, settings.max_objects)
    for values in zip(*drawn, strict=True)
  ]
  colours, shapes, sizes, centres = columns
  number = np.array([len(scene.colours) for scene in drawn])
  mask = np.arange(settings.max_objects) < number[:, None]
  radii = np.array(scenes.RADII)[sizes][..., None]
  corners = np.concatenate([centres - radii, centres + radii + 1], axis=-1)
  features = np.concatenate(
    [
      np.eye(len(scenes.COLOURS))[colours],
      np.eye(len(scenes.SHAPES))[shapes],
      np.eye(len(scenes.SIZES))[sizes],
      2 * centres / (settings.picture_size - 1) - 1,
    ],
    axis=-1,
  )
  there = mask[..., None]
  boxes = corners / settings.picture_size
  return {
    "objects": np.where(there, features, 0).astype(np.float32),
    "objects_mask": mask,
    "object_colours": colours,
    "object_shapes": shapes,
    "object_sizes": sizes,
    "object_boxes": np.where(there, boxes, 0).astype(np.float32),
  }


def place_objects(
  batch: Mapping[str, np.ndarray],
) -> tuple[list[str], np.ndarray]:
  """Names the objects of a batch's first scene: K names, and boxes [K, 4].

  Names are of colour and shape; boxes are those of `encode_objects`.
  """
  kinds = zip(
    batch["object_colours"][0], batch["object_shapes"][0], strict=True
  )
  names = [
    f"{scenes.COLOURS[colour]} {scenes.SHAPES[shape]}"
    for colour, shape in kinds
  ]
  return names, batch["object_boxes"][0]


def encode_graph(
  drawn: Sequence[scenes.Scene], settings: scenes.SceneSettings
) -> dict[str, np.ndarray]:
  """Encodes the relations of n scenes as triples, padded to E = 2 K (K - 1).

  A triple says that its sender stands in a relation to its receiver. Every
  ordered pair of objects has two, one in x and one in y.

  Returns:
    `graph_senders`, `graph_receivers`, places of objects, and
    `graph_relations`, places in `RELATIONS`, int32 [n, E]; `graph_mask` bool
    [n, E]. Zero where there is no triple.
  """
  most = settings.max_objects
  num_edges = 2 * most * (most - 1)
  triples = np.zeros((len(drawn), num_edges, 3), np.int32)
  mask = np.zeros((len(drawn), num_edges), bool)
  for row, scene in enumerate(drawn):
    found = np.argwhere(scenes.relate(scene.centres))
    triples[row, : len(found)] = found
    mask[row, : len(found)] = True
  return {
    "graph_senders": triples[..., 1],
    "graph_receivers": triples[..., 2],
    "graph_relations": triples[..., 0],
    "graph_mask": mask,
  }
