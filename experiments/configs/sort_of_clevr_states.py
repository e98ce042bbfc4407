"""Sort-of-CLEVR from the states of the objects: position, colour and shape.

What is reached is a matter of the fusion alone: nothing has to be seen. See
`experiments.configs.sort_of_clevr` for what all share.
"""

from fiddle.experimental.auto_config import auto_config

from experiments.configs.sort_of_clevr import (
  co_attention,
  fused,
  graph,
  graph_reasoning,
  hard_attention,
  mlp,
  relation_network,
  scene_graph,
  soft_attention,
  sort_of_clevr,
)
from mmjax.encoders.features import FeatureEncoder


@auto_config
def objects_encoder(width, dtype):
  """Each object by itself: a projection without a norm, and a perceptron."""
  return FeatureEncoder(
    width=width, body="mlp", norm=False, mlp_dim=2 * width, dtype=dtype
  )


@auto_config
def sort_of_clevr_states_mlp(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Baseline: a perceptron over everything at once, without any relation.

  python -m experiments.train sort_of_clevr_states_mlp \
    --workdir runs/states_mlp

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_states_mlp",
    shown="objects",
    model=fused(
      "objects",
      objects_encoder(width, dtype),
      mlp(width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_states_relation_network(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Relation Network: every pair of objects, with the question, summed.

  python -m experiments.train sort_of_clevr_states_relation_network \
    --workdir runs/states_relation_network

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_states_relation_network",
    shown="objects",
    model=fused(
      "objects",
      objects_encoder(width, dtype),
      relation_network("objects", width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_states_graph(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Graph network: objects and the question are nodes, three rounds.

  python -m experiments.train sort_of_clevr_states_graph \
    --workdir runs/states_graph

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_states_graph",
    shown="objects",
    model=fused(
      "objects",
      objects_encoder(width, dtype),
      graph(width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_states_graph_once(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Graph network on the scene, once for all questions, then one soft look.

  python -m experiments.train sort_of_clevr_states_graph_once \
    --workdir runs/states_graph_once

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_states_graph_once",
    shown="objects",
    model=fused(
      "objects",
      scene_graph(objects_encoder(width, dtype), width, dtype),
      soft_attention("objects", width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_states_graph_reasoning(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""The question walks over the graph of objects in three steps.

  python -m experiments.train sort_of_clevr_states_graph_reasoning \
    --workdir runs/states_graph_reasoning

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_states_graph_reasoning",
    shown="objects",
    model=fused(
      "objects",
      objects_encoder(width, dtype),
      graph_reasoning("objects", width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_states_co_attention(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Objects and the question attend to each other, three rounds.

  python -m experiments.train sort_of_clevr_states_co_attention \
    --workdir runs/states_co_attention

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_states_co_attention",
    shown="objects",
    model=fused(
      "objects",
      objects_encoder(width, dtype),
      co_attention(width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_states_soft_attention(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Baseline: the question averages objects once, which cannot relate.

  python -m experiments.train sort_of_clevr_states_soft_attention \
    --workdir runs/states_soft_attention

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_states_soft_attention",
    shown="objects",
    model=fused(
      "objects",
      objects_encoder(width, dtype),
      soft_attention("objects", width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_states_hard_attention(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Baseline: the question picks one object, which cannot relate.

  python -m experiments.train sort_of_clevr_states_hard_attention \
    --workdir runs/states_hard_attention

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_states_hard_attention",
    shown="objects",
    model=hard_attention(
      "objects", objects_encoder(width, dtype), width, dtype
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )
