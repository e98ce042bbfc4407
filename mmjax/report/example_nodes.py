"""The nodes of one example: which tokens it has, and where they lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.report.node_sets import (
  NodeSet,
  frame_nodes,
  grid_nodes,
  sown_nodes,
  word_nodes,
)

SIDES = ("region", "word")  # what matchers call the nodes of a pair


def find_nodes(
  data: Any,
  batch: Mapping[str, Any],
  sown: Mapping[str, Any],
  grids: Mapping[str, tuple[int, int]],
  words: Sequence[str],
  *,
  matched: bool = False,
) -> dict[str, NodeSet]:
  """Finds where the tokens of each modality of one example lie.

  Args:
    data: the data set, which places some tokens itself.
    batch: of one example.
    sown: what the model sowed for it.
    grids: (height, width) in cells, by modality.
    words: of the text.
    matched: whether the model compares two sides, whose nodes are `SIDES` and
      "phrase".
  """
  sets = {}
  for m in sorted(m for m in batch if f"{m}_mask" in batch):
    mask = np.asarray(batch[f"{m}_mask"])[0]
    if np.ndim(batch[m]) == 5:  # a clip, whose frames may have grids
      sets[m] = frame_nodes(np.broadcast_to(mask, batch[m].shape[1]))
    elif m in grids:
      sets[m] = grid_nodes(grids[m], bool(mask.any()))
    elif m == "text":
      sets[m] = word_nodes(words, mask)
  for m, (labels, places) in data.place_tokens(batch).items():
    mask = np.asarray(batch[f"{m}_mask"])[0]
    sets[m] = NodeSet(labels, np.broadcast_to(mask, len(labels)), places)
  if matched:
    sets = _name_sides(sets, batch, words)
  return {**sets, **sown_nodes(sown)}


def _name_sides(
  sets: Mapping[str, NodeSet], batch: Mapping[str, Any], words: Sequence[str]
) -> dict[str, NodeSet]:
  """Names nodes as matchers do: those of the picture, words and phrases."""
  phrases = [
    " ".join(words[start:stop]) for start, stop in batch["phrase_spans"][0]
  ]
  sides = {
    "word": word_nodes(words, np.asarray(batch["text_mask"])[0]),
    "phrase": NodeSet(phrases, np.asarray(batch["phrase_mask"])[0]),
  }
  placed = [sets[m] for m in sets if sets[m].is_placed]
  return {**sides, "region": placed[0]} if len(placed) == 1 else sides


def find_frames(
  batch: Mapping[str, Any],
) -> tuple[np.ndarray | None, np.ndarray | None]:
  """Finds the frames of the clip of a batch of one, if there is one.

  Returns:
    uint8 [T, h, w, 3], and bool [T], True = present; None and None without.
  """
  for m in sorted(batch):
    if f"{m}_mask" in batch and np.ndim(batch[m]) == 5:
      frames = np.asarray(batch[m])[0]
      if frames.dtype != np.uint8:
        frames = np.rint(255 * np.clip(frames, 0, 1)).astype(np.uint8)
      mask = np.broadcast_to(np.asarray(batch[f"{m}_mask"])[0], len(frames))
      return np.broadcast_to(frames[..., -3:], (*frames.shape[:3], 3)), mask
  return None, None
