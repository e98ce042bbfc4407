"""The examples that a report shows: what is known of one, and which to take."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mmjax.report.graph_view import GraphView


@dataclasses.dataclass(frozen=True)
class ExampleView:
  """All that a report or a picture says of one example.

  Attributes:
    image: uint8 [height, width, 3] pixels, or None.
    words: the text's tokens in order, without padding, as people read them.
    text: the question as it was asked.
    answer: the true answer; None where it is not known, as in prediction.
    top: the most probable answers with their probabilities, best first.
    type: the question's type.
    record_id: where the example stands in the data.
    attention: weights of this example, see `attention.select_example`;
      empty for a model without attention.
    grid: (height, width) in cells of the image's tokens; None without.
    graphs: what was passed between nodes, see `sown_graphs.find_graphs`.
    frames: uint8 [T, height, width, 3], the frames of a clip, or None.
    frame_mask: bool [T], True = present; None is all of them.
    image_modality: name of the modality with the grid.
    text_modality: name of the modality with the words.
    choices: what `top` holds: "answers", or "captions", which are sentences.
  """

  image: np.ndarray | None
  words: Sequence[str]
  text: str
  answer: str | None
  top: Sequence[tuple[str, float]]
  type: str = ""
  record_id: str = ""
  attention: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  grid: tuple[int, int] | None = None
  graphs: Sequence[GraphView] = ()
  frames: np.ndarray | None = None
  frame_mask: np.ndarray | None = None
  image_modality: str = "image"
  text_modality: str = "text"
  choices: str = "answers"

  @property
  def shown_frames(self) -> list[tuple[int, np.ndarray]]:
    """The numbers, from 1, and the pixels of the frames that are there."""
    frames = [] if self.frames is None else list(self.frames)
    mask = self.frame_mask
    there = np.ones(len(frames), bool) if mask is None else mask
    return [
      (number, frame)
      for number, (frame, shown) in enumerate(
        zip(frames, there, strict=True), start=1
      )
      if shown
    ]

  @property
  def predicted(self) -> str:
    """The most probable answer."""
    return self.top[0][0]

  @property
  def correct(self) -> bool | None:
    """Whether the prediction is the true answer; None where not known."""
    return None if self.answer is None else self.predicted == self.answer


def mark_differences(texts: Sequence[str]) -> list[list[tuple[str, bool]]]:
  """Splits texts into words, and tells which are not the same in all.

  Where numbers of words differ, no word has a counterpart, and none is marked.

  >>> mark_differences(["a red box", "a blue box"])[1]
  [('a', False), ('blue', True), ('box', False)]
  """
  split = [text.split() for text in texts]
  if len({len(words) for words in split}) > 1:
    return [[(word, False) for word in words] for words in split]
  differ = [len(set(column)) > 1 for column in zip(*split, strict=True)]
  return [list(zip(words, differ, strict=True)) for words in split]


def star_differences(texts: Sequence[str]) -> list[str]:
  """Writes texts with stars around the words that are not the same in all.

  >>> star_differences(["a red box", "a blue box"])
  ['a *red* box', 'a *blue* box']
  """
  return [
    " ".join(f"*{word}*" if differs else word for word, differs in words)
    for words in mark_differences(texts)
  ]


def choose_examples(
  correct: Sequence[bool],
  groups: Sequence[int | str],
  clusters: Sequence[int | str],
  *,
  count: int = 24,
  seed: int = 0,
) -> list[int]:
  """Chooses examples to show: by chance, half of them mistakes.

  Nobody picks the pretty ones: examples are shuffled, then taken in turn from
  each group, and an image comes a second time only when there is no new one.

  Args:
    correct: bool [n], whether each example was answered rightly.
    groups: [n], what to spread the choice over, e.g. the question's type.
    clusters: [n], the image of each example.
    count: how many to choose at most.
    seed: of the shuffle; the same seed gives the same choice.

  Returns:
    Indices without repeats, mistakes first. Half of `count` are mistakes, or
    all mistakes where there are fewer; right answers fill the rest, and
    mistakes do where right answers are too few.
  """
  order = np.random.default_rng(seed).permutation(len(correct)).tolist()
  wrong = [index for index in order if not correct[index]]
  right = [index for index in order if correct[index]]
  num_wrong = min(len(wrong), max(count // 2, count - len(right)))
  num_right = min(len(right), count - num_wrong)
  seen = set()
  return [
    *_take_in_turn(wrong, groups, clusters, num_wrong, seen),
    *_take_in_turn(right, groups, clusters, num_right, seen),
  ]


def _take_in_turn(
  candidates: Sequence[int],
  groups: Sequence[int | str],
  clusters: Sequence[int | str],
  count: int,
  seen: set,
) -> list[int]:
  """Takes `count` candidates, one group after the other, new images first.

  `seen` holds the images that are taken already and is added to.
  """
  waiting = {}
  for index in candidates:
    waiting.setdefault(groups[index], []).append(index)
  taken = []
  while len(taken) < count:
    for group in sorted(waiting, key=str):
      if waiting[group] and len(taken) < count:
        index = next(
          (i for i in waiting[group] if clusters[i] not in seen),
          waiting[group][0],
        )
        waiting[group].remove(index)
        seen.add(clusters[index])
        taken.append(index)
  return taken
