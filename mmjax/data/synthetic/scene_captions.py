"""Captions of scenes: chains of relations, and captions that are just false.

"the red circle is left of the blue square, which is above the green cross". A
caption is true of a scene if every object that it names is there and every
relation that it states holds: no caption is half true, see `is_true`.

Relations are drawn before the objects that they hold between, all words alike,
and a false caption differs in one word and names no object twice either. So the
text alone should not tell a true caption from a false one.

One word of a true caption is exchanged as in Thrush et al. 2022, "Winoground:
Probing Vision and Language Models for Visio-Linguistic Compositionality",
https://arxiv.org/abs/2204.03162, which exchanges two.
"""

from typing import NamedTuple

import numpy as np

from mmjax.data.synthetic import scenes

NEGATIVE_KINDS = ("relation", "colour", "shape")
_NUM_SHAPES = len(scenes.SHAPES)
_NUM_KINDS = len(scenes.COLOURS) * _NUM_SHAPES
# Of the relations in order: what is said of the same pair when it is false.
_OPPOSITES = (1, 0, 3, 2)


class Caption(NamedTuple):
  """A chain: object 0 stands in relation 0 to object 1, that in relation 1...

  Attributes:
    kinds: L + 1 distinct kinds of objects, colour * 4 + shape.
    relations: L places in `scenes.RELATIONS`.
  """

  kinds: tuple[int, ...]
  relations: tuple[int, ...]


class Negative(NamedTuple):
  """A false caption.

  Attributes:
    caption: differs from a true one in one word.
    kind: the kind of that word, one of `NEGATIVE_KINDS`.
    is_present: whether the scene has all objects that it names, so that only
      the relations are wrong.
  """

  caption: Caption
  kind: str
  is_present: bool


def write_caption(caption: Caption) -> str:
  """Writes a caption in English, without a full stop.

  >>> write_caption(Caption((0, 9, 7), (0, 2)))
  'the red circle is left of the blue square, which is above the green cross'
  """
  return " ".join(_write_phrases(caption)).replace(" which", ", which")


def find_spans(caption: Caption) -> list[tuple[int, int]]:
  """Finds the words of each phrase.

  Phrases are the names of objects, at even places, and the relations between
  them, "is left of" and then "which is above", at odd places.

  Returns:
    For each of the 2 L + 1 phrases its first word and the word after its last;
    together they hold every word of the caption once.
  """
  spans, start = [], 0
  for phrase in _write_phrases(caption):
    stop = start + len(phrase.split())
    spans.append((start, stop))
    start = stop
  return spans


def is_true(caption: Caption, scene: scenes.Scene) -> bool:
  """Tells whether all objects are there and all relations hold."""
  kinds = (scene.colours * _NUM_SHAPES + scene.shapes).tolist()
  if not set(caption.kinds) <= set(kinds):
    return False
  chain = [kinds.index(kind) for kind in caption.kinds]
  holds = scenes.relate(scene.centres)
  return bool(holds[list(caption.relations), chain[:-1], chain[1:]].all())


def draw_caption(
  scene: scenes.Scene, length: int, rng: np.random.Generator
) -> Caption:
  """Draws a true caption.

  Args:
    scene: has at least `length` + 1 objects.
    length: L, relations.
    rng: decides.
  """
  holds = scenes.relate(scene.centres)
  chain = None
  while chain is None:  # "left of" L times can always be said
    relations = rng.integers(0, len(scenes.RELATIONS), length)
    order = rng.permutation(len(scene.colours))
    chain = _find_chain(holds[relations][:, order][:, :, order], ())
  chain = order[list(chain)]
  kinds = scene.colours[chain] * _NUM_SHAPES + scene.shapes[chain]
  return Caption(tuple(kinds.tolist()), tuple(relations.tolist()))


def draw_negative(
  caption: Caption, scene: scenes.Scene, kind: str, rng: np.random.Generator
) -> Negative:
  """Draws a caption that differs in one word and is false of the scene.

  A colour or a shape is exchanged such that the scene has that object too,
  whenever that can be done.

  Args:
    caption: true of the scene.
    scene: what it describes.
    kind: the kind of the word, one of `NEGATIVE_KINDS`.
    rng: decides.
  """
  there = set((scene.colours * _NUM_SHAPES + scene.shapes).tolist())
  found = [
    other
    for other in _exchange_word(caption, kind)
    if len(set(other.kinds)) == len(other.kinds) and not is_true(other, scene)
  ]
  if not found:  # a scene with all kinds of objects, say
    return draw_negative(caption, scene, "relation", rng)
  present = [other for other in found if set(other.kinds) <= there]
  chosen = present or found
  chosen = chosen[int(rng.integers(len(chosen)))]
  return Negative(chosen, kind, bool(present))


def _write_phrases(caption: Caption) -> list[str]:
  names = [
    f"the {scenes.COLOURS[kind // _NUM_SHAPES]} "
    f"{scenes.SHAPES[kind % _NUM_SHAPES]}"
    for kind in caption.kinds
  ]
  phrases = names[:1]
  for place, relation in enumerate(caption.relations):
    which = "which is" if place else "is"
    phrases += [f"{which} {scenes.RELATIONS[relation]}", names[place + 1]]
  return phrases


def _find_chain(
  holds: np.ndarray, chain: tuple[int, ...]
) -> tuple[int, ...] | None:
  """Continues a chain of distinct objects, or returns None if none can be.

  Args:
    holds: bool [L, k, k], by relation whether it holds of two objects.
    chain: its objects so far.
  """
  if len(chain) == len(holds) + 1:
    return chain
  for place in range(holds.shape[1]):
    fits = not chain or holds[len(chain) - 1, chain[-1], place]
    if fits and place not in chain:
      found = _find_chain(holds, (*chain, place))
      if found is not None:
        return found
  return None


def _exchange_word(caption: Caption, kind: str) -> list[Caption]:
  """Lists all captions that differ in one word of a kind."""
  if kind == "relation":
    return [
      caption._replace(relations=_replace(caption.relations, place, opposite))
      for place, relation in enumerate(caption.relations)
      for opposite in [_OPPOSITES[relation]]
    ]
  return [
    caption._replace(kinds=_replace(caption.kinds, place, other))
    for place, old in enumerate(caption.kinds)
    for other in range(_NUM_KINDS)
    if other != old
    and (
      other % _NUM_SHAPES == old % _NUM_SHAPES
      if kind == "colour"
      else other // _NUM_SHAPES == old // _NUM_SHAPES
    )
  ]


def _replace(values: tuple[int, ...], place: int, value: int) -> tuple:
  return (*values[:place], value, *values[place + 1 :])
