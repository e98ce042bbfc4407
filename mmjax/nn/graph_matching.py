"""A graph of regions, words and phrases that scores how well they match.

Liu et al. 2020, "Graph Structured Network for Image-Text Matching",
https://arxiv.org/abs/2004.00277.

Differs from the paper: phrases are nodes, beside words and regions. Words send
once, to the phrase that they are in, before any region is seen; regions send
once to each other. After that, phrases alone hear, in every round: from all
regions, and from the phrase before and the one after. These are all edges. None
joins words to words or words to regions, and none leads from text to regions,
which never hear of it: region to phrase is the only type across. Words and
regions send by attention, phrases by graph convolution. Each phrase is judged
by itself, see `mmjax.nn.matching`.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.edges import EdgeMatrix
from mmjax.nn.graph_convolution import GraphConvolution
from mmjax.nn.graph_dot_attention import DotGraphAttention
from mmjax.nn.heterogeneous_graph import HeterogeneousGraph, HeterogeneousLayer
from mmjax.nn.matching import Pairs, Phrases, clear, judge_parts, take_rows
from mmjax.nn.transformer import MlpBlock


class GraphMatcher(nn.Module):
  """Regions, words and phrases are nodes of one graph.

  First each side by itself: a phrase hears from its words by attention, and
  regions from each other. Then in every round phrases hear from all regions by
  attention, and from the phrase before and the one after, each by weights of
  its own. The layers sow their attention as `attention`.

  Attributes:
    width: width of regions and words, and of all nodes.
    num_heads: heads of the attention.
    num_rounds: rounds of messages across.
    mlp_dim: hidden width of the perceptrons of the nodes.
    within: whether regions hear from each other, and phrases from those before
      and after; without these messages each phrase just looks at regions. The
      perceptrons of regions and phrases stay.
    dtype: dtype of the computation; scores are float32.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_heads: int = 4
  num_rounds: int = 3
  mlp_dim: int = 128
  within: bool = True
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self,
    regions: Tokens,
    words: Tokens,
    phrases: Phrases,
    pairs: Pairs,
    *,
    train: bool,
  ) -> Array:
    """Scores pairs of regions and words of one width; see `PooledMatcher`."""
    regions, words = clear(regions, self.dtype), clear(words, self.dtype)
    attention = {"word_in_phrase": self._attend()}
    caption = self._hear(
      connect_caption(words, phrases), attention, ("phrase",), "words", train
    )
    beside = {"region_beside_region": self._attend()} if self.within else {}
    picture = self._hear(
      connect_picture(regions), beside, ("region",), "regions", train
    )
    graph = connect_pairs(
      take_rows(picture.nodes["region"], pairs.picture),
      take_rows(caption.nodes["phrase"], pairs.caption),
    )
    for i in range(self.num_rounds):
      layers = {"region_under_phrase": self._attend()}
      if self.within:
        layers["phrase_before_phrase"] = self._convolve()
        layers["phrase_after_phrase"] = self._convolve()
      graph = self._hear(graph, layers, ("phrase",), f"round_{i}", train)
    phrase = graph.nodes["phrase"]
    return judge_parts(self, phrase.values, phrase.mask)

  def _hear(
    self,
    graph: HeterogeneousGraph,
    layers: dict[str, nn.Module],
    hearers: tuple[str, ...],
    name: str,
    train: bool,
  ) -> HeterogeneousGraph:
    """Adds what nodes of some types hear, and a perceptron, to them."""
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    heard = self._listen(graph, layers, name, train) if layers else None
    nodes = dict(graph.nodes)
    for t in hearers:
      values = nodes[t].values
      if heard is not None:
        values = values + heard.nodes[t].values
      update = nn.LayerNorm(name=f"{name}_{t}_mlp_norm", **dtypes)(values)
      update = MlpBlock(self.mlp_dim, name=f"{name}_{t}_mlp", **dtypes)(
        update, train=train
      )
      nodes[t] = Tokens(values + update, nodes[t].mask)
    return graph.replace(nodes=nodes)

  def _listen(
    self,
    graph: HeterogeneousGraph,
    layers: dict[str, nn.Module],
    name: str,
    train: bool,
  ) -> HeterogeneousGraph:
    """Passes messages between normed nodes; these do not come with them."""
    normed = {
      t: Tokens(
        nn.LayerNorm(
          dtype=self.dtype,
          param_dtype=self.param_dtype,
          name=f"{name}_{t}_norm",
        )(nodes.values),
        nodes.mask,
      )
      for t, nodes in graph.nodes.items()
    }
    return HeterogeneousLayer(layers, keep_own=False, name=name)(
      graph.replace(nodes=normed), train=train
    )

  def _attend(self) -> nn.Module:
    return DotGraphAttention(
      self.width,
      self.num_heads,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      parent=None,
    )

  def _convolve(self) -> nn.Module:
    return GraphConvolution(
      self.width,
      self_loops=False,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      parent=None,
    )


def connect_caption(words: Tokens, phrases: Phrases) -> HeterogeneousGraph:
  """Makes the graph of captions: each phrase hears from its words.

  Args:
    words: [C, T, D].
    phrases: P of each caption; a phrase starts as the mean of its words.

  Returns:
    A graph whose edges are matrices, as those of the next two.
  """
  inside = phrases.words(words.mask.shape[1]) & words.mask[:, None]
  shares = inside / jnp.maximum(inside.sum(axis=-1, keepdims=True), 1)
  start = jnp.einsum(
    "cpt,ctd->cpd",
    shares.astype(words.values.dtype),
    jnp.where(words.mask[..., None], words.values, 0),
  )
  return HeterogeneousGraph(
    {"word": words, "phrase": Tokens(start, phrases.mask)},
    {("word", "in", "phrase"): EdgeMatrix(inside)},
  )


def connect_picture(regions: Tokens) -> HeterogeneousGraph:
  """Makes the graph of pictures: all regions [I, N, D] hear from all."""
  beside = regions.mask[:, :, None] & regions.mask[:, None]
  return HeterogeneousGraph(
    {"region": regions}, {("region", "beside", "region"): EdgeMatrix(beside)}
  )


def connect_pairs(regions: Tokens, phrases: Tokens) -> HeterogeneousGraph:
  """Makes the graph of pairs of regions [Q, N, D] and phrases [Q, P, D].

  Phrases hear from all regions, and from the phrases that stand before and
  after them.
  """
  place = jnp.arange(phrases.mask.shape[1])
  pairs = phrases.mask[:, :, None] & phrases.mask[:, None]
  before = (place[:, None] == place + 1) & pairs  # [Q, receiver, sender]
  across = phrases.mask[:, :, None] & regions.mask[:, None]
  return HeterogeneousGraph(
    {"region": regions, "phrase": phrases},
    {
      ("region", "under", "phrase"): EdgeMatrix(across),
      ("phrase", "before", "phrase"): EdgeMatrix(before),
      ("phrase", "after", "phrase"): EdgeMatrix(before.swapaxes(1, 2)),
    },
  )
