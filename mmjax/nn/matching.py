"""Scores of how well regions of a picture and the words of a caption match.

Three modules with one interface, (regions, words, phrases) -> scores [B]:
pooled vectors that are compared, words that look at regions, and a graph of
regions, words and phrases.

Pooled: Radford et al. 2021 (CLIP), https://arxiv.org/abs/2103.00020. Attention:
Lee et al. 2018, "Stacked Cross Attention for Image-Text Matching",
https://arxiv.org/abs/1803.08024. Graph: Liu et al. 2020, "Graph Structured
Network for Image-Text Matching", https://arxiv.org/abs/2004.00277.

Differs from the papers: the temperature of pooled vectors is learned without a
bound; attention is that of Transformers and its score is read off the words;
the graph is one over both sides, whose phrases are nodes and hear from their
words, their neighbours and all regions.
"""

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.cross_attention import CrossAttentionBlock
from mmjax.nn.dense import Dense
from mmjax.nn.edges import EdgeMatrix
from mmjax.nn.graph_attention import DynamicGraphAttention
from mmjax.nn.graph_convolution import GraphConvolution
from mmjax.nn.heterogeneous_graph import HeterogeneousGraph, HeterogeneousLayer
from mmjax.nn.pooling import AttentionPooling, masked_mean
from mmjax.nn.transformer import MlpBlock


@flax.struct.dataclass
class Phrases:
  """Phrases of captions, in order.

  Attributes:
    spans: int [B, P, 2], the first word of each and the word after its last.
    mask: bool [B, P], True = present.
  """

  spans: Array
  mask: Array

  def words(self, num_words: int) -> Array:
    """Which words belong to each phrase: bool [B, P, T]."""
    place = jnp.arange(num_words)
    inside = (place >= self.spans[..., :1]) & (place < self.spans[..., 1:])
    return inside & self.mask[..., None]


class PooledMatcher(nn.Module):
  """Compares one vector of the picture with one of the caption, by cosine.

  Attributes:
    width: of the vectors that are compared.
    dtype: dtype of the computation; scores are float32.
    param_dtype: dtype of the parameters.
  """

  width: int
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self, regions: Tokens, words: Tokens, phrases: Phrases, *, train: bool
  ) -> Array:
    """Scores pairs of regions [B, N, D] and words [B, T, D]: float32 [B]."""
    del phrases, train
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    vectors = []
    for name, tokens in (("region", regions), ("word", words)):
      pooled = AttentionPooling(
        tokens.values.shape[-1], name=f"{name}_pool", **dtypes
      )(tokens.values, tokens.mask)
      vector = Dense(self.width, name=f"{name}_vector", **dtypes)(pooled)
      vector = vector.astype(jnp.float32)
      squared = jnp.square(vector).sum(axis=-1, keepdims=True)
      vectors.append(vector / jnp.sqrt(jnp.maximum(squared, 1e-12)))
    scale = self.param(
      "log_scale", nn.initializers.constant(2.0), (), jnp.float32
    )
    return (vectors[0] * vectors[1]).sum(axis=-1) * jnp.exp(scale)


class CrossAttentionMatcher(nn.Module):
  """Words look at regions; a score is read off what they have seen.

  Attributes:
    width: width of regions and words.
    num_heads: attention heads.
    num_rounds: blocks, one after the other.
    mlp_dim: hidden width of the perceptrons.
    dropout_rate: dropout in the blocks.
    dtype: dtype of the computation; scores are float32.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_heads: int = 4
  num_rounds: int = 2
  mlp_dim: int = 128
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self, regions: Tokens, words: Tokens, phrases: Phrases, *, train: bool
  ) -> Array:
    """Scores pairs of regions [B, N, width] and words [B, T, width]: [B]."""
    del phrases
    values = words.values
    for i in range(self.num_rounds):
      values, weights = CrossAttentionBlock(
        self.width,
        self.num_heads,
        self.mlp_dim,
        dropout_rate=self.dropout_rate,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f"round_{i}",
      )(values, regions.values, regions.mask, train=train)
      self.sow("intermediates", "word_over_region", weights)
    return _read_score(self, masked_mean(values, words.mask))


class GraphMatcher(nn.Module):
  """Regions, words and phrases are nodes of one graph.

  A phrase hears from its words, from the phrase before and the one after, each
  by weights of its own, and from all regions by attention; regions hear from
  all phrases and from each other. Attention is sown by the layers as
  `attention`.

  Attributes:
    width: width of regions and words, and of all nodes.
    num_heads: heads of the attention.
    num_rounds: rounds of messages.
    mlp_dim: hidden width of the perceptrons of the nodes.
    dtype: dtype of the computation; scores are float32.
    param_dtype: dtype of the parameters.
  """

  width: int
  num_heads: int = 4
  num_rounds: int = 3
  mlp_dim: int = 128
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self, regions: Tokens, words: Tokens, phrases: Phrases, *, train: bool
  ) -> Array:
    """Scores pairs of regions [B, N, width] and words [B, T, width]: [B]."""
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    graph = connect_caption(regions, words, phrases)
    for i in range(self.num_rounds):
      normed = {
        t: Tokens(
          nn.LayerNorm(name=f"{t}_norm_{i}", **dtypes)(nodes.values), nodes.mask
        )
        for t, nodes in graph.nodes.items()
      }
      heard = self._make_layer(f"round_{i}")(
        graph.replace(nodes=normed), train=train
      )
      nodes = dict(graph.nodes)
      for t in ("phrase", "region"):
        values = nodes[t].values + heard.nodes[t].values
        update = nn.LayerNorm(name=f"{t}_mlp_norm_{i}", **dtypes)(values)
        update = MlpBlock(self.mlp_dim, name=f"{t}_mlp_{i}", **dtypes)(
          update, train=train
        )
        nodes[t] = Tokens(values + update, nodes[t].mask)
      graph = graph.replace(nodes=nodes)
    pools = [
      masked_mean(graph.nodes[t].values, graph.nodes[t].mask)
      for t in ("phrase", "region")
    ]
    return _read_score(self, jnp.concatenate(pools, axis=-1))

  def _make_layer(self, name: str) -> HeterogeneousLayer:
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}

    def attention() -> nn.Module:
      return DynamicGraphAttention(
        self.width, self.num_heads, parent=None, **dtypes
      )

    def convolution() -> nn.Module:
      return GraphConvolution(
        self.width, self_loops=False, parent=None, **dtypes
      )

    layers = {
      "word_in_phrase": attention(),
      "phrase_before_phrase": convolution(),
      "phrase_after_phrase": convolution(),
      "region_under_phrase": attention(),
      "phrase_over_region": attention(),
      "region_beside_region": attention(),
    }
    return HeterogeneousLayer(layers, name=name)


def connect_caption(
  regions: Tokens, words: Tokens, phrases: Phrases
) -> HeterogeneousGraph:
  """Makes the graph of regions, words and phrases.

  Args:
    regions: [B, N, D].
    words: [B, T, D].
    phrases: P of each caption; a phrase starts as the mean of its words.

  Returns:
    A graph whose edges are matrices.
  """
  num_words, num_phrases = words.mask.shape[1], phrases.mask.shape[1]
  inside = phrases.words(num_words) & words.mask[:, None]
  shares = inside / jnp.maximum(inside.sum(axis=-1, keepdims=True), 1)
  start = jnp.einsum(
    "bpt,btd->bpd",
    shares.astype(words.values.dtype),
    jnp.where(words.mask[..., None], words.values, 0),
  )
  place = jnp.arange(num_phrases)
  pairs = phrases.mask[:, :, None] & phrases.mask[:, None]
  before = (place[:, None] == place + 1) & pairs  # [B, receiver, sender]
  across = phrases.mask[:, :, None] & regions.mask[:, None]
  beside = regions.mask[:, :, None] & regions.mask[:, None]
  return HeterogeneousGraph(
    {"region": regions, "word": words, "phrase": Tokens(start, phrases.mask)},
    {
      ("word", "in", "phrase"): EdgeMatrix(inside),
      ("phrase", "before", "phrase"): EdgeMatrix(before),
      ("phrase", "after", "phrase"): EdgeMatrix(before.swapaxes(1, 2)),
      ("region", "under", "phrase"): EdgeMatrix(across),
      ("phrase", "over", "region"): EdgeMatrix(across.swapaxes(1, 2)),
      ("region", "beside", "region"): EdgeMatrix(beside),
    },
  )


def _read_score(matcher: nn.Module, pooled: Array) -> Array:
  """Turns vectors [B, D] into scores, float32 [B]."""
  dtypes = {"dtype": matcher.dtype, "param_dtype": matcher.param_dtype}
  pooled = nn.LayerNorm(name="score_norm", **dtypes)(pooled)
  hidden = Dense(matcher.mlp_dim, name="score_hidden", **dtypes)(pooled)
  score = nn.Dense(
    1,
    use_bias=False,  # one number for all scores alike would change nothing
    dtype="float32",
    param_dtype=matcher.param_dtype,
    name="score",
  )(nn.relu(hidden))
  return score[..., 0]
