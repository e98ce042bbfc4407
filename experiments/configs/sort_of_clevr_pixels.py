"""Sort-of-CLEVR from pixels: the experiments from states, but for the encoder.

Four convolutions leave 5 x 5 cells, whose places are added, in the stead of six
objects. See `experiments.configs.sort_of_clevr` for what all share.
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
from mmjax.encoders.image import GridEncoder


@auto_config
def image_encoder(width, dtype):
  """A picture of 75 x 75 pixels becomes 5 x 5 cells."""
  return GridEncoder(features=(24, 24, 24, 24), width=width, dtype=dtype)


@auto_config
def sort_of_clevr_pixels_mlp(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Baseline: a perceptron over everything at once, without any relation.

  python -m experiments.train sort_of_clevr_pixels_mlp \
    --workdir runs/pixels_mlp

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_pixels_mlp",
    shown="image",
    model=fused(
      "image",
      image_encoder(width, dtype),
      mlp(width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_pixels_relation_network(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Relation Network: every pair of cells, with the question, summed.

  python -m experiments.train sort_of_clevr_pixels_relation_network \
    --workdir runs/pixels_relation_network

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_pixels_relation_network",
    shown="image",
    model=fused(
      "image",
      image_encoder(width, dtype),
      relation_network("image", width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_pixels_graph(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Graph network: cells and the question are nodes, three rounds.

  python -m experiments.train sort_of_clevr_pixels_graph \
    --workdir runs/pixels_graph

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_pixels_graph",
    shown="image",
    model=fused(
      "image",
      image_encoder(width, dtype),
      graph(width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_pixels_graph_once(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Graph network on the scene, once for all questions, then one soft look.

  python -m experiments.train sort_of_clevr_pixels_graph_once \
    --workdir runs/pixels_graph_once

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_pixels_graph_once",
    shown="image",
    model=fused(
      "image",
      scene_graph(image_encoder(width, dtype), width, dtype),
      soft_attention("image", width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_pixels_graph_reasoning(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""The question walks over the graph of cells in three steps.

  python -m experiments.train sort_of_clevr_pixels_graph_reasoning \
    --workdir runs/pixels_graph_reasoning

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_pixels_graph_reasoning",
    shown="image",
    model=fused(
      "image",
      image_encoder(width, dtype),
      graph_reasoning("image", width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_pixels_co_attention(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Cells and the question attend to each other, three rounds.

  python -m experiments.train sort_of_clevr_pixels_co_attention \
    --workdir runs/pixels_co_attention

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_pixels_co_attention",
    shown="image",
    model=fused(
      "image",
      image_encoder(width, dtype),
      co_attention(width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_pixels_soft_attention(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Baseline: the question averages cells once, which cannot relate.

  python -m experiments.train sort_of_clevr_pixels_soft_attention \
    --workdir runs/pixels_soft_attention

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_pixels_soft_attention",
    shown="image",
    model=fused(
      "image",
      image_encoder(width, dtype),
      soft_attention("image", width, dtype),
      width,
      dtype,
    ),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )


@auto_config
def sort_of_clevr_pixels_hard_attention(
  width: int = 64,
  num_steps: int = 12000,
  batch_size: int = 160,
  dtype: str = "float32",
  seed: int = 0,
):
  r"""Baseline: the question picks one cell, which cannot relate.

  python -m experiments.train sort_of_clevr_pixels_hard_attention \
    --workdir runs/pixels_hard_attention

  What it reaches, and in what time, stands in experiments/README.md.
  """
  return sort_of_clevr(
    name="sort_of_clevr_pixels_hard_attention",
    shown="image",
    model=hard_attention("image", image_encoder(width, dtype), width, dtype),
    num_steps=num_steps,
    batch_size=batch_size,
    seed=seed,
  )
