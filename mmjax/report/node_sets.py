"""Where the nodes of a graph lie, and what people call them.

A set of nodes is the tokens of one modality: cells of a picture, objects in it,
frames of a clip, words. Nodes that lie nowhere are drawn in a column beside the
picture.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mmjax.report.attention import walk_sown


@dataclasses.dataclass(frozen=True)
class NodeSet:
  """The nodes of one modality.

  Attributes:
    labels: the names of the N nodes.
    mask: bool [N], True = present; others are neither drawn nor linked.
    places: [N, 2], x and y, or [N, 4], left, top, right and bottom of boxes, in
      shares of the picture from its upper left corner; None if they lie
      nowhere, or are whole frames.
    frames: int [N], the frame that each node is, or lies in; None without time.
    show_labels: whether labels stand in the drawing or in its description only.
  """

  labels: Sequence[str]
  mask: np.ndarray
  places: np.ndarray | None = None
  frames: np.ndarray | None = None
  show_labels: bool = True

  def __post_init__(self) -> None:
    """Checks that all is of N nodes.

    Raises:
      ValueError: it is not.
    """
    number = len(self.labels)
    shapes = {"mask": np.shape(self.mask)}
    if self.frames is not None:
      shapes["frames"] = np.shape(self.frames)
    if self.places is not None:
      shapes["places"] = np.shape(self.places)
    for name, shape in shapes.items():
      wanted = [(number, 2), (number, 4)] if name == "places" else [(number,)]
      if shape not in wanted:
        raise ValueError(
          f"a set of {number} nodes needs {name}"
          f" {' or '.join(str(list(w)) for w in wanted)}, got {list(shape)}"
        )

  @property
  def is_placed(self) -> bool:
    """Whether the nodes lie on a picture or along frames."""
    return self.places is not None or self.frames is not None

  def fit(self, number: int, name: str) -> "NodeSet | None":
    """Returns the set as so many nodes.

    Args:
      number: N, nodes that a model has weights for.
      name: of the modality.

    Returns:
      The set itself, if it has that many; one node for the whole modality, if
      one is asked for; the cells of frames, if each frame can be a square grid
      of so many; else None.
    """
    if number == len(self.labels):
      return self
    if number == 1:
      return NodeSet([name], np.array([np.any(self.mask)]))
    if self.frames is None or self.places is not None or not self.labels:
      return None
    side = math.isqrt(number // len(self.labels))
    if side * side * len(self.labels) != number:
      return None
    cells = grid_nodes((side, side))
    return NodeSet(
      [f"{frame}, {cell}" for frame in self.labels for cell in cells.labels],
      np.repeat(self.mask, side * side),
      np.tile(cells.places, (len(self.labels), 1)),
      np.repeat(self.frames, side * side),
      show_labels=False,
    )


def grid_nodes(grid: tuple[int, int], present: bool = True) -> NodeSet:
  """Makes the nodes of a grid of (height, width) cells, row by row."""
  rows, columns = np.indices(grid).reshape(2, -1)
  places = np.stack(
    [(columns + 0.5) / grid[1], (rows + 0.5) / grid[0]], axis=-1
  )
  labels = [
    f"cell {row + 1}/{column + 1}"
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
  ]
  return NodeSet(
    labels, np.full(len(labels), present), places, show_labels=False
  )


def word_nodes(words: Sequence[str], mask: np.ndarray) -> NodeSet:
  """Makes the nodes of words; `mask` [N] may have places beyond them."""
  labels = [*words, *[""] * len(mask)][: len(mask)]
  return NodeSet(labels, np.asarray(mask) & (np.arange(len(mask)) < len(words)))


def frame_nodes(mask: np.ndarray) -> NodeSet:
  """Makes the nodes of the frames of a clip, bool [T], which are there."""
  number = np.arange(len(mask))
  return NodeSet(
    [f"frame {frame + 1}" for frame in number],
    np.asarray(mask, bool),
    frames=number,
  )


def sown_nodes(intermediates: Mapping) -> dict[str, NodeSet]:
  """Finds nodes whose places a model sows, as it found them itself.

  Args:
    intermediates: what was sown for a batch of one example: `places_<name>`
      [1, N, 2] or [1, N, 4], see `NodeSet`, and `mask_<name>` bool [1, N], all
      True if it is not sown.
  """
  places, masks = {}, {}
  for path, values in walk_sown(intermediates):
    kind, _, name = path[-1].partition("_")
    if name and kind == "places":
      places[name] = np.asarray(values[-1])[0]
    elif name and kind == "mask":
      masks[name] = np.asarray(values[-1])[0]
  return {
    name: NodeSet(
      [f"#{number + 1}" for number in range(len(found))],
      masks.get(name, np.ones(len(found), bool)),
      found,
    )
    for name, found in places.items()
  }
