"""Video encoder: frames, or what is in them, as nodes of a graph over time.

Each frame is encoded alone. Its vector, or each of its tokens, is a node; edges
lead to nodes some frames earlier and later, and from the most similar nodes of
other frames, and say which of these they are. Wang and Gupta 2018, "Videos as
Space-Time Region Graphs", https://arxiv.org/abs/1806.01810.

Differs from the paper: cells of a grid or whole frames are nodes, not detected
regions, so similarity and time are the only edges; only the most similar nodes
are tied, and edges know whether the other end is earlier or later; attention or
perceptrons pass the messages instead of a graph convolution.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Array, Tokens
from mmjax.encoders.video import StepPooling, expand_frame_mask, fold_steps
from mmjax.nn.dense import Dense
from mmjax.nn.edges import EdgeList
from mmjax.nn.graph import make_graph
from mmjax.nn.graph_block import GraphBlock

_LOWEST = -2.0  # below every cosine


def tie_steps(
  num_steps: int, num_places: int, skips: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Ties each node to those in the same place, some steps earlier and later.

  Args:
    num_steps: T.
    num_places: P, nodes of a step; node number t * P + p is place p of step t.
    skips: distances in steps.

  Returns:
    Senders, receivers and kinds, int [E]. Kind 2 i is an edge from `skips[i]`
    steps earlier, kind 2 i + 1 from as many later.
  """
  times, places = np.arange(num_steps), np.arange(num_places)
  parts = []
  for i, skip in enumerate(skips):
    for later, distance in enumerate((-skip, skip)):
      there = times[(times + distance >= 0) & (times + distance < num_steps)]
      receivers = (there[:, None] * num_places + places).ravel()
      senders = receivers + distance * num_places
      parts.append((senders, receivers, np.full_like(senders, 2 * i + later)))
  senders, receivers, kinds = (
    np.concatenate(part) for part in zip(*parts, strict=True)
  )
  return senders, receivers, kinds


def find_similar(
  values: Array, mask: Array, steps: np.ndarray, number: int
) -> tuple[Array, Array]:
  """Finds the nodes of other steps that point most nearly the same way.

  Args:
    values: [B, N, D].
    mask: bool [B, N], True = present.
    steps: int [N], the step of each node.
    number: k, how many for each node.

  Returns:
    The nodes int [B, N, k], the most similar first, and the cosines
    float32 [B, N, k]; where too few are there, the cosine is below -1.
  """
  squares = jnp.square(values.astype(jnp.float32)).sum(axis=-1, keepdims=True)
  directions = values * jax.lax.rsqrt(squares + 1e-6).astype(values.dtype)
  cosines = jnp.einsum(
    "bid,bjd->bij",
    directions,
    directions,
    preferred_element_type=jnp.float32,
  )
  allowed = mask[:, :, None] & mask[:, None] & (steps[:, None] != steps)
  cosines, nodes = jax.lax.top_k(jnp.where(allowed, cosines, _LOWEST), number)
  return nodes, cosines


class VideoGraphEncoder(nn.Module):
  """Passes messages between frames, or between tokens of frames.

  Of T frames of P tokens it gives T tokens, or T * P, frame by frame. Sows
  `senders`, `receivers`, `kinds` and `present`, [B, E] of each edge; of
  attention the shares of the edges are sown, too, see
  `DynamicGraphAttention`.

  Attributes:
    width: width of the tokens.
    frame_encoder: image encoder of single frames, with a dtype of its own.
    nodes: "frames" or "tokens".
    pooling: of the tokens of a frame that is one node: "mean", "max" or
      "attention".
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
  frame_encoder: nn.Module
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

  @nn.compact
  def __call__(self, values: Array, mask: Array, *, train: bool) -> Tokens:
    """Encodes clips.

    Args:
      values: [R, T, h, w, channels], uint8 or floating point in [0, 1].
      mask: bool [R] or [R, T], True = present.
      train: whether dropout is on.

    Returns:
      Tokens [R, T, width] or [R, T * P, width].

    Raises:
      ValueError: see `expand_frame_mask` and `GraphBlock`; attributes that do
        not fit together.
    """
    self._check_attributes()
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    mask = expand_frame_mask(values, mask)
    tokens = self.frame_encoder(
      fold_steps(values), mask.reshape(-1), train=train
    )
    nodes = self._make_nodes(tokens, mask)
    states = Dense(self.width, name="project", **dtypes)(nodes.values)
    states = nn.LayerNorm(name="project_norm", **dtypes)(states)
    states = jnp.where(nodes.mask[..., None], states, 0)
    nodes = Tokens(states, nodes.mask)
    graph = make_graph(nodes, self._make_edges(nodes, mask.shape[1]))
    for i in range(self.num_rounds):
      graph = GraphBlock(
        self.width,
        messages=self.messages,
        num_heads=self.num_heads,
        mlp_dim=self.mlp_dim,
        dropout_rate=self.dropout_rate,
        name=f"block_{i}",
        **dtypes,
      )(graph, train=train)
    states = nn.LayerNorm(name="out_norm", **dtypes)(graph.nodes)
    return Tokens(jnp.where(nodes.mask[..., None], states, 0), nodes.mask)

  def _make_nodes(self, tokens: Tokens, mask: Array) -> Tokens:
    """Makes nodes [R, N, D] of the tokens [R * T, P, D] of all frames."""
    if self.nodes == "tokens":
      rows = mask.shape[0]
      return Tokens(
        tokens.values.reshape(rows, -1, tokens.values.shape[-1]),
        tokens.mask.reshape(rows, -1),
      )
    values = StepPooling(
      self.pooling,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="pooling",
    )(
      tokens.values.reshape(*mask.shape, *tokens.values.shape[1:]),
      tokens.mask.reshape(*mask.shape, -1),
    )
    return Tokens(values, mask)

  def _make_edges(self, nodes: Tokens, num_steps: int) -> EdgeList:
    """Makes edges whose features are their kind and their similarity."""
    rows, number = nodes.mask.shape
    parts = []
    if self.skips:
      tied = tie_steps(num_steps, number // num_steps, self.skips)
      senders, receivers, kinds = (
        jnp.broadcast_to(jnp.asarray(part, jnp.int32), (rows, len(part)))
        for part in tied
      )
      present = jnp.ones(senders.shape, bool)
      cosines = jnp.zeros(senders.shape, jnp.float32)
      parts.append((senders, receivers, kinds, present, cosines))
    if self.num_similar:
      parts.append(self._tie_similar(nodes, num_steps))
    senders, receivers, kinds, present, cosines = (
      jnp.concatenate(part, axis=1) for part in zip(*parts, strict=True)
    )
    num_kinds = 2 * len(self.skips) + 2 * bool(self.num_similar)
    features = [jax.nn.one_hot(kinds, num_kinds, dtype=self.dtype)]
    if self.num_similar:
      features.append(cosines[..., None].astype(self.dtype))
    edges = EdgeList(
      senders, receivers, present, jnp.concatenate(features, axis=-1)
    ).restrict(nodes.mask, nodes.mask)
    self.sow("intermediates", "senders", senders)
    self.sow("intermediates", "receivers", receivers)
    self.sow("intermediates", "kinds", kinds)
    self.sow("intermediates", "present", edges.mask)
    return edges

  def _tie_similar(
    self, nodes: Tokens, num_steps: int
  ) -> tuple[Array, Array, Array, Array, Array]:
    """Makes edges from the most similar nodes; everything [R, N * k]."""
    rows, number = nodes.mask.shape
    steps = np.arange(number) // (number // num_steps)
    similar = min(self.num_similar, number)
    senders, cosines = find_similar(nodes.values, nodes.mask, steps, similar)
    senders, cosines = senders.reshape(rows, -1), cosines.reshape(rows, -1)
    receivers = jnp.repeat(jnp.arange(number, dtype=jnp.int32), similar)
    receivers = jnp.broadcast_to(receivers, senders.shape)
    times = jnp.asarray(steps)
    kinds = 2 * len(self.skips) + (times[senders] > times[receivers])
    return senders, receivers, kinds, cosines > _LOWEST, cosines

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
