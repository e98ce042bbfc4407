"""Video encoder: frames, or what is in them, as nodes of a graph over time.

Each frame is encoded alone. Its vector, or each of its tokens, is a node; edges
lead to nodes some frames earlier and later, and from the most similar nodes of
other frames, and say which of these they are. Wang and Gupta 2018, "Videos as
Space-Time Region Graphs", https://arxiv.org/abs/1806.01810.

Differs from the paper: cells of a grid or whole frames are nodes, not detected
regions, so similarity and time are the only edges; only the most similar nodes
are tied, anew in each round, and edges know whether the other end is earlier
or later; attention or perceptrons pass the messages instead of a graph
convolution.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.encoders.video import (
  StepPooling,
  begin_frames,
  finish_frames,
  run_frames,
)
from mmjax.nn.dense import Dense
from mmjax.nn.edges import EdgeList
from mmjax.nn.graph import make_graph
from mmjax.nn.graph_block import GraphBlock
from mmjax.nn.graph_builders import connect_sequence, join_edges
from mmjax.nn.similarity_graph import connect_similar_frames


def tie_frames(
  nodes: Tokens, per_step: int, skips: Sequence[int], num_similar: int
) -> EdgeList:
  """Ties nodes over time, with what each edge is as its features.

  The features are one of K kinds, and with similar nodes the cosine, 0 for
  other edges. Kind 2 i comes from `skips[i]` frames earlier, kind 2 i + 1 from
  as many later; the last two kinds come from similar nodes, earlier and later.

  Args:
    nodes: [R, T * per_step, D], frame by frame.
    per_step: nodes of a frame; those in the same place are tied.
    skips: distances in frames.
    num_similar: edges that enter each node from the most similar ones of other
      frames; at most as many as there are nodes.

  Returns:
    Edges with their kinds as types, and features float32 [R, E, K or K + 1].
  """
  parts = [
    connect_sequence(
      nodes.mask, (skip,), per_step=per_step, direction=direction
    )
    for skip in skips
    for direction in ("forward", "backward")
  ]
  if not num_similar:
    edges = join_edges(*parts)
    return edges.replace(features=jax.nn.one_hot(edges.types, len(parts)))
  similar = connect_similar_frames(
    nodes,
    min(num_similar, nodes.mask.shape[1]),
    per_step=per_step,
    keep_similarity=True,
  )
  edges = join_edges(*parts, similar.replace(features=None))
  later = edges.senders // per_step > edges.receivers // per_step
  types = edges.types + (later & (edges.types == len(parts)))
  cosines = jnp.pad(
    similar.features,
    ((0, 0), (types.shape[1] - similar.features.shape[1], 0), (0, 0)),
  )
  features = [jax.nn.one_hot(types, len(parts) + 2), cosines]
  return edges.replace(types=types, features=jnp.concatenate(features, axis=-1))


class VideoGraphEncoder(StagedEncoder):
  """Passes messages between frames, or between tokens of frames.

  Of T frames of P tokens it gives T tokens, or T * P, frame by frame. Rounds of
  attention sow the shares of the edges, see `DynamicGraphAttention`.

  Attributes:
    width: width of the tokens.
    frame_encoder: image encoder of single frames, with a dtype of its own;
      `ExtendedEncoder` makes a `StagedEncoder` of any.
    nodes: "frames" or "tokens".
    pooling: of the tokens of a frame that is one node, see `StepPooling`.
    skips: there are edges between nodes so many frames apart.
    num_similar: edges that enter each node from the most similar ones of other
      frames.
    num_rounds: blocks of the graph network.
    messages: "attention" or "perceptron", see `GraphBlock`.
    num_heads: heads of the attention.
    mlp_dim: hidden width of the perceptrons.
    dropout_rate: dropout in the blocks.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  frame_encoder: StagedEncoder
  nodes: str = "frames"
  pooling: str = "attention"
  skips: tuple[int, ...] = (1, 2, 4)
  num_similar: int = 2
  num_rounds: int = 2
  messages: str = "attention"
  num_heads: int = 4
  mlp_dim: int = 64
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @property
  def num_stages(self) -> int:
    """Those of the frame encoder, then one for each round."""
    return self.frame_encoder.num_stages + self.num_rounds

  def setup(self) -> None:
    """Makes the layers.

    Raises:
      ValueError: attributes that do not fit together.
    """
    self._check_attributes()
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.step_pooling = StepPooling(self.pooling, name="pooling", **dtypes)
    self.project = Dense(self.width, **dtypes)
    self.project_norm = nn.LayerNorm(**dtypes)
    self.block = [
      GraphBlock(
        self.width,
        messages=self.messages,
        num_heads=self.num_heads,
        mlp_dim=self.mlp_dim,
        dropout_rate=self.dropout_rate,
        **dtypes,
      )
      for _ in range(self.num_rounds)
    ]
    self.out_norm = nn.LayerNorm(**dtypes)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads clips; a stage is that of each frame, then nodes of a graph.

    Args:
      values: [R, T, h, w, channels], uint8 or floating point in [0, 1].
      mask: bool [R] or [R, T], True = present.
      train: whether dropout is on.

    Raises:
      ValueError: see `expand_frame_mask` and `GraphBlock`.
    """
    return begin_frames(self.frame_encoder, values, mask, train=train)

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs a stage of each frame, or a round over [R, T, (P,) width]."""
    layer = depth - self.frame_encoder.num_stages
    if layer < 0:
      return run_frames(self.frame_encoder, depth, stage, train=train)
    if layer == 0:
      stage = self._make_nodes(stage, train=train)
    nodes = stage.to_tokens()
    per_step = nodes.mask.shape[1] // stage.mask.shape[1]
    edges = tie_frames(nodes, per_step, self.skips, self.num_similar)
    graph = self.block[layer](make_graph(nodes, edges), train=train)
    return stage.with_tokens(nodes.replace(values=graph.nodes))

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Makes Tokens [R, T, width] or [R, T * P, width]."""
    del train
    return stage.replace(values=self.out_norm(stage.values)).to_tokens()

  def _make_nodes(self, stage: Stage, *, train: bool) -> Stage:
    """Finishes each frame and makes a node of it, or of each of its tokens."""
    nodes = finish_frames(self.frame_encoder, stage, train=train)
    if self.nodes == "frames":
      states = self.step_pooling(nodes.values, nodes.mask)
      nodes = Stage(states, nodes.mask.any(axis=-1))
    states = self.project_norm(self.project(nodes.values))
    return Stage(states, nodes.mask)

  def _check_attributes(self) -> None:
    """Raises ValueError for attributes that do not fit together."""
    if self.nodes not in ("frames", "tokens"):
      raise ValueError(
        f"nodes is {self.nodes!r}; it must be 'frames' or 'tokens'"
      )
    if min(self.skips, default=1) < 1 or len(set(self.skips)) < len(self.skips):
      raise ValueError(
        f"skips are {self.skips}; they must be different numbers of frames, at"
        " least 1"
      )
    if self.num_similar < 0 or self.num_rounds < 1:
      raise ValueError(
        "a video graph needs num_similar of at least 0 and num_rounds of at"
        f" least 1, got {self.num_similar} and {self.num_rounds}"
      )
    if not self.skips and not self.num_similar:
      raise ValueError(
        "a video graph without skips and without similar nodes has no edges;"
        " set skips or num_similar"
      )
