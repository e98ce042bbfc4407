"""From what a model sows to the graphs of one example.

What is looked for, by name, with q, k and m for sets of nodes:

- `q_over_k` [1, H, Nq, Nk], attention of q over k;
- `token_over_token` and `pairs` [1, H, N, N], the edges of one set;
- `attention` and `edge_weights`, edges of layers of `mmjax.nn`: [1, H, Nr, Ns],
  or [1, H, E] for a list of edges whose `edge_senders`, `edge_receivers` and
  `edge_mask` [1, E] are sown by the layer or a module around it, and perhaps
  `edge_nodes`, how many receivers and senders there are;
- `nodes` [1, N] beside `gates`, [1, N, N], [1, K, N, N] or [1, E]: a walk over
  a set, once a step;
- `pool` [1, N], see `mmjax.report.attention`.

Whose nodes are meant is read off the names of the modules around: those that
end in `_m`, such as `encoders_m`, or `layers_k_..._q` for edges from k to q.
Where they do not tell, it is the one set on a picture or along frames that has
so many nodes; if two have, nothing is drawn, rather than the wrong thing.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from mmjax.report.attention import walk_sown
from mmjax.report.graph_view import GraphView, Pair, make_graph, make_walk
from mmjax.report.node_sets import NodeSet
from mmjax.report.sown_edges import FoundEdges, Sown, read_edges, read_walk


@dataclasses.dataclass
class _Part:
  """The edges of one part of a model, of the last round.

  Attributes:
    name: of the part, for instance `fusion`.
    kind: `pairs`, or `attention` for all that is one.
    weights: [Nr, Ns] by pair.
    sets: the nodes.
    rounds: how often the edges of each pair were sown, by the layer: there may
      be several types of edges in one round.
    num_heads: H.
  """

  name: str
  kind: str
  num_heads: int
  weights: dict[Pair, np.ndarray] = dataclasses.field(default_factory=dict)
  sets: dict[str, NodeSet] = dataclasses.field(default_factory=dict)
  rounds: dict[tuple[Pair, str], int] = dataclasses.field(default_factory=dict)

  def add(self, found: FoundEdges, layer: str) -> None:
    """Adds a round; one whose sets are not those of the others is left out."""
    for name, nodes in found.sets.items():
      if name in self.sets and len(self.sets[name].labels) != len(nodes.labels):
        return
    self.sets |= found.sets
    self.weights[found.pair] = found.weights
    of_layer = (found.pair, layer)
    self.rounds[of_layer] = self.rounds.get(of_layer, 0) + 1


def find_graphs(
  intermediates: Mapping,
  sets: Mapping[str, NodeSet],
  attention: Mapping[str, np.ndarray],
) -> list[GraphView]:
  """Finds all graphs of an example that can be drawn.

  Args:
    intermediates: what a model sowed for a batch of this example alone.
    sets: the nodes that there may be, by modality.
    attention: of the example, see `attention.select_example`, for what was
      pooled.

  Returns:
    Walks, then graphs in the order of the model's parts, then what was looked
    at where that is no part of a graph. Empty for a model without any.
  """
  sown = dict(walk_sown(intermediates))
  shares = {
    name: attention[f"pool_{name}"]
    for name in sets
    if f"pool_{name}" in attention
  }
  views = [
    make_walk("Steps of reasoning", *found)
    for path in sown
    if path[-1] == "nodes" and (found := read_walk(path, sown, sets))
  ]
  told = set()
  for part in _find_parts(sown, sets):
    known = {
      name: shares[name]
      for name, nodes in part.sets.items()
      if name in shares and len(shares[name]) == len(nodes.labels)
    }
    title, note = _describe_part(part)
    view = make_graph(title, part.sets, part.weights, known, note)
    if view is not None:
      views.append(view)
      told |= set(known)
  looks = [
    make_graph(
      f"Where it looked: {name}",
      {name: nodes},
      {},
      {name: shares[name]},
      "circles are as large as their share of the look",
    )
    for name, nodes in sets.items()
    if name in shares
    and name not in told
    and nodes.show_labels  # the cells of a grid have maps
    and len(nodes.labels) == len(shares[name])
  ]
  return views + [view for view in looks if view is not None]


def _find_parts(sown: Sown, sets: Mapping[str, NodeSet]) -> list[_Part]:
  """Gathers edges by the part of the model that sowed them, and their kind."""
  parts: dict[tuple[str, str], _Part] = {}
  for path, values in sown.items():
    for value in values:
      found = read_edges(path, np.asarray(value), sown, sets)
      if found is None:
        continue
      kind = "pairs" if path[-1] == "pairs" else "attention"
      key = (path[0], kind)
      part = parts.setdefault(key, _Part(*key, found.num_heads))
      # What stands in a round of its own is of one layer all the same.
      layer = path[-2] if _is_typed(path) else ""
      part.add(found, layer)
  return list(parts.values())


def _is_typed(path: tuple[str, ...]) -> bool:
  """Whether a layer is that of one type of edges."""
  return len(path) > 1 and path[-2].startswith("layers_")


def _describe_part(part: _Part) -> tuple[str, str]:
  """The title of a part, and what its weights are."""
  if part.kind == "pairs":
    return "Pairs that add most", "by their part of the sum of all pairs"
  encoder = part.name.removeprefix("encoders_")
  title = "Strongest edges"
  if encoder != part.name:
    title = f"Strongest edges within {encoder}"
  rounds, notes = max(part.rounds.values()), []
  if rounds > 1:
    notes.append(f"of the last of {rounds} rounds")
  if part.num_heads > 1:
    notes.append(f"mean over {part.num_heads} heads")
  return title, ", ".join(notes)
