"""Scene graphs: objects, and relations between them as triples.

Johnson et al. 2015, "Image Retrieval using Scene Graphs",
https://openaccess.thecvf.com/content_cvpr_2015/html/Johnson_Image_Retrieval_Using_2015_CVPR_paper.html.

Differs from the paper: attributes are part of the vectors of the objects, not
nodes of their own.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Array, Tokens
from mmjax.nn.edges import EdgeList
from mmjax.nn.graph import Graph, make_graph

# (subject, relation, object): two places of objects, one of relations
Triple = tuple[int, int, int]


def pad_triples(
  scenes: Sequence[Sequence[Triple]], num_edges: int
) -> np.ndarray:
  """Makes an array of lists of triples.

  Args:
    scenes: the triples of each scene.
    num_edges: places for triples in each scene.

  Returns:
    int32 [B, num_edges, 3], padded by -1.

  Raises:
    ValueError: a scene has more triples than places.
  """
  padded = np.full((len(scenes), num_edges, 3), -1, np.int32)
  for number, triples in enumerate(scenes):
    if len(triples) > num_edges:
      raise ValueError(
        f"scene {number} has {len(triples)} relations, and num_edges="
        f"{num_edges} leaves no place for all; give at least {len(triples)}"
      )
    if triples:
      padded[number, : len(triples)] = triples
  return padded


def connect_triples(
  triples: Array, mask: Array, num_relations: int, *, inverse: bool = True
) -> EdgeList:
  """Makes edges of triples, from the subject to the object.

  Args:
    triples: int [B, E, 3], (subject, relation, object); a negative number
      anywhere is padding.
    mask: bool [B, N], True = present, of the objects.
    num_relations: how many relations there are.
    inverse: whether there are edges back, of the type relation +
      `num_relations`, so that objects hear of their subjects and subjects of
      their objects.

  Returns:
    E edges, or 2 E, with types. `num_types` of layers is `num_relations`, or
    twice that.

  Raises:
    ValueError: triples of another shape; or one of a relation or object that
      does not exist, which is left out where triples are traced, as under
      `jax.jit`, and cannot be looked at.
  """
  if triples.ndim != 3 or triples.shape[2] != 3 or len(triples) != len(mask):
    raise ValueError(
      f"relations must be [{mask.shape[0]}, E, 3], (subject, relation, object)"
      f" for each, got {list(triples.shape)}"
    )
  limits = np.array([mask.shape[1], num_relations, mask.shape[1]])
  given = (triples >= 0).all(axis=-1)
  there = given & (triples < limits).all(axis=-1)
  if not isinstance(there, jax.core.Tracer) and (given & ~there).any():
    wrong = np.asarray(triples)[np.asarray(given & ~there)][0].tolist()
    raise ValueError(
      f"there is a relation {tuple(wrong)}, and there are objects 0 to"
      f" {limits[0] - 1} and relations 0 to {limits[1] - 1}; correct it, or"
      " have -1 in its place"
    )
  subject, relation, target = jnp.moveaxis(jnp.maximum(triples, 0), -1, 0)
  if inverse:
    subject, target = (
      jnp.concatenate([subject, target], axis=1),
      jnp.concatenate([target, subject], axis=1),
    )
    relation = jnp.concatenate([relation, relation + num_relations], axis=1)
    there = jnp.concatenate([there, there], axis=1)
  edges = EdgeList(subject, target, there, types=relation)
  return edges.restrict(mask, mask)


def make_scene_graph(
  objects: Tokens,
  triples: Array,
  num_relations: int,
  *,
  inverse: bool = True,
) -> Graph:
  """Makes the graph of objects [B, N, D] and triples; see `connect_triples`.

  Raises:
    ValueError: see `connect_triples`.
  """
  edges = connect_triples(triples, objects.mask, num_relations, inverse=inverse)
  return make_graph(objects, edges)
