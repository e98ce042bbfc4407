"""Edges and walks in what a model sows, as matrices between sets of nodes.

The names that are looked for stand in `mmjax.report.sown_graphs`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmjax.report.graph_view import Pair
from mmjax.report.node_sets import NodeSet

Path = tuple[str, ...]
Sown = Mapping[Path, tuple]
OF_ONE_SET = ("token_over_token", "pairs", "attention", "edge_weights")


class FoundEdges(NamedTuple):
  """The edges of one round.

  Attributes:
    pair: the sets of receivers and of senders.
    weights: [Nr, Ns], mean over heads.
    sets: both sets, as large as the weights.
    num_heads: H.
  """

  pair: Pair
  weights: np.ndarray
  sets: Mapping[str, NodeSet]
  num_heads: int


class FoundWalk(NamedTuple):
  """A walk over a set of nodes.

  Attributes:
    name: of the set.
    nodes: the set.
    shares: [N], once a step.
    gates: [N, N] between two steps.
  """

  name: str
  nodes: NodeSet
  shares: Sequence[np.ndarray]
  gates: Sequence[np.ndarray]


class EndsOfEdges(NamedTuple):
  """A list of edges.

  Attributes:
    ends: int [2, E], receivers and senders; -1 at both ends of absent edges.
    numbers: of receivers and of senders that there are; None if unknown.
  """

  ends: np.ndarray
  numbers: tuple[int, int] | None


def read_edges(
  path: Path, value: np.ndarray, sown: Sown, sets: Mapping[str, NodeSet]
) -> FoundEdges | None:
  """Reads one sown array as edges.

  Args:
    path: the names of the modules around, then that of the array.
    value: [1, H, Nr, Ns] or [1, H, E].
    sown: all that was sown; a list of edges is looked up in it.
    sets: the nodes that there may be.

  Returns:
    The edges of the first example, or None if the array is something else, or
    belongs to no set of nodes.
  """
  if value.ndim not in (3, 4):
    return None
  heads = value[0]
  if path[-1] in OF_ONE_SET:
    if value.ndim == 3:
      found = _find_list(path, sown)
      if found is None or heads.shape[1] < found.ends.shape[1]:
        return None
      heads = _fill_matrix(heads, found, np.add)
    pair = _read_layer(path, sets)
    if pair is None and heads.shape[1] == heads.shape[2]:
      name = _find_set(path, heads.shape[1], sets)
      pair = None if name is None else (name, name)
  else:
    receiver, _, sender = path[-1].partition("_over_")
    pair = (receiver, sender) if {receiver, sender} <= set(sets) else None
  if pair is None or heads.ndim != 3:
    return None
  fitted = {
    name: sets[name].fit(number, name)
    for name, number in zip(pair, heads.shape[1:], strict=True)
  }
  if None in fitted.values() or heads.shape[1:] != tuple(
    len(fitted[name].labels) for name in pair
  ):
    return None
  return FoundEdges(pair, heads.mean(axis=0), fitted, heads.shape[0])


def read_walk(
  path: Path, sown: Sown, sets: Mapping[str, NodeSet]
) -> FoundWalk | None:
  """Reads the `nodes` at a path, and the `gates` beside, as a walk, if any."""
  shares = [np.asarray(value) for value in sown[path]]
  if path[-1] != "nodes" or any(value.ndim != 2 for value in shares):
    return None
  number = shares[0].shape[1]
  name = _find_set(path, number, sets)
  nodes = None if name is None else sets[name].fit(number, name)
  if nodes is None:
    return None
  gates = []
  for value in sown.get((*path[:-1], "gates"), ()):
    gate = np.asarray(value)[0]
    if gate.ndim == 1:
      found = _find_list(path, sown)
      if found is None:
        break
      found = found._replace(numbers=(number, number))
      gate = _fill_matrix(gate[None], found, np.maximum)[0]
    elif gate.ndim == 3:  # an edge of any type is a way
      gate = gate.max(axis=0)
    gates.append(gate)
  return FoundWalk(name, nodes, [value[0] for value in shares], gates)


def _read_layer(path: Path, sets: Mapping[str, NodeSet]) -> Pair | None:
  """The sets that a module `layers_<sender>_<name>_<receiver>` joins."""
  for part in reversed(path[:-1]):
    for sender in sets:
      for receiver in sets:
        names = f"layers_{re.escape(sender)}_.+_{re.escape(receiver)}"
        if re.fullmatch(names, part):
          return receiver, sender
  return None


def _find_set(
  path: Path, number: int, sets: Mapping[str, NodeSet]
) -> str | None:
  """The set of nodes that modules are named after, or else that fits alone."""
  for part in reversed(path[:-1]):
    for name in sorted(sets, key=len, reverse=True):
      if part.endswith(f"_{name}") and sets[name].fit(number, name) is not None:
        return name
  fitting = [
    name
    for name, nodes in sets.items()
    if nodes.is_placed
    and (fitted := nodes.fit(number, name)) is not None
    and fitted.is_placed
  ]
  return fitting[0] if len(fitting) == 1 else None


def _find_list(path: Path, sown: Sown) -> EndsOfEdges | None:
  """The ends of the edges that are sown in a module, or around it."""
  for depth in range(len(path) - 1, -1, -1):
    around = path[:depth]
    if (*around, "edge_senders") in sown:
      senders, receivers, mask = (
        np.asarray(sown[*around, f"edge_{name}"][-1])[0]
        for name in ("senders", "receivers", "mask")
      )
      ends = np.where(mask, np.stack([receivers, senders]), -1)
      numbers = sown.get((*around, "edge_nodes"))
      if numbers is not None:
        numbers = tuple(np.asarray(numbers[-1]).tolist())
      return EndsOfEdges(ends, numbers)
  return None


def _fill_matrix(
  weights: np.ndarray, edges: EndsOfEdges, join_fn: np.ufunc
) -> np.ndarray:
  """Fills [H, Nr, Ns] with the weights [H, E] or, loops last, [H, E + N].

  Several edges between two nodes are joined: shares add up, as they do where
  edges are a matrix, and of gates the widest is the way.
  """
  num_edges = edges.ends.shape[1]
  numbers = edges.numbers
  if numbers is None:
    loops = weights.shape[1] - num_edges
    number = loops if loops > 0 else int(edges.ends.max(initial=-1)) + 1
    numbers = (number, number)
  matrix = np.zeros((len(weights), *numbers))
  limits = np.array(numbers)[:, None]
  inside = ((edges.ends >= 0) & (edges.ends < limits)).all(axis=0)
  receivers, senders = edges.ends[:, inside]
  for head, row in zip(matrix, weights[:, :num_edges], strict=True):
    join_fn.at(head, (receivers, senders), row[inside])
  return matrix
