"""Scores of how well regions of a picture and the words of a caption match.

Modules with one interface, (regions, words, phrases, pairs) -> scores [Q]:
pooled vectors that are compared, and words that look at regions; a graph of
regions, words and phrases is in `mmjax.nn.graph_matching`. Pictures and
captions come once, and pairs by index, so that what concerns one side alone is
computed once.

The parts of a caption, words or phrases, are judged one by one, and a caption
is as true as all of its parts together: its score is the sum of the logarithms
of their probabilities.

Pooled: Radford et al. 2021 (CLIP), https://arxiv.org/abs/2103.00020. Attention:
Lee et al. 2018, "Stacked Cross Attention for Image-Text Matching",
https://arxiv.org/abs/1803.08024.

Differs from the papers: the temperature of pooled vectors is learned without a
bound; attention is that of Transformers; parts are judged by a perceptron of
what they have seen and not by cosines, and joined by "and", not by a mean; the
graph is one over both sides, whose phrases are nodes and hear from their
words, their neighbours and all regions.
"""

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.cross_attention import CrossAttentionBlock
from mmjax.nn.dense import Dense
from mmjax.nn.pooling import AttentionPooling
from mmjax.nn.tokens import clear_masked


@flax.struct.dataclass
class Phrases:
  """Phrases of captions, in order.

  Attributes:
    spans: int [C, P, 2], the first word of each and the word after its last.
    mask: bool [C, P], True = present.
  """

  spans: Array
  mask: Array

  def words(self, num_words: int) -> Array:
    """Which words belong to each phrase: bool [C, P, T]."""
    place = jnp.arange(num_words)
    inside = (place >= self.spans[..., :1]) & (place < self.spans[..., 1:])
    return inside & self.mask[..., None]


@flax.struct.dataclass
class Pairs:
  """Which pictures and captions are compared.

  Attributes:
    picture: int [Q].
    caption: int [Q].
  """

  picture: Array
  caption: Array


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
    self,
    regions: Tokens,
    words: Tokens,
    phrases: Phrases,
    pairs: Pairs,
    *,
    train: bool,
  ) -> Array:
    """Scores pairs.

    Args:
      regions: [I, N, D] of the pictures.
      words: [C, T, D] of the captions.
      phrases: P of each caption.
      pairs: Q of them.
      train: whether dropout is on.

    Returns:
      float32 [Q].
    """
    del phrases, train
    regions, words = clear(regions, self.dtype), clear(words, self.dtype)
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
    both = vectors[0][pairs.picture] * vectors[1][pairs.caption]
    return both.sum(axis=-1) * jnp.exp(scale)


class CrossAttentionMatcher(nn.Module):
  """Words look at regions; each is judged by what it has seen.

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
    self,
    regions: Tokens,
    words: Tokens,
    phrases: Phrases,
    pairs: Pairs,
    *,
    train: bool,
  ) -> Array:
    """Scores pairs of regions and words of one width; see `PooledMatcher`."""
    del phrases
    regions = take_rows(clear(regions, self.dtype), pairs.picture)
    words = take_rows(clear(words, self.dtype), pairs.caption)
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
    return judge_parts(self, values, words.mask)


def clear(tokens: Tokens, dtype: str) -> Tokens:
  """Puts zeros in `dtype` where nothing is there."""
  return Tokens(clear_masked(tokens, dtype), tokens.mask)


def take_rows(tokens: Tokens, index: Array) -> Tokens:
  """Gives each pair its row."""
  return Tokens(
    jnp.take(tokens.values, index, axis=0), jnp.take(tokens.mask, index, axis=0)
  )


def judge_parts(matcher: nn.Module, values: Array, mask: Array) -> Array:
  """Judges parts [Q, P, D]; the sum of log probabilities, float32 [Q]."""
  dtypes = {"dtype": matcher.dtype, "param_dtype": matcher.param_dtype}
  values = nn.LayerNorm(name="part_norm", **dtypes)(values)
  hidden = Dense(matcher.mlp_dim, name="part_hidden", **dtypes)(values)
  logits = nn.Dense(
    1, dtype="float32", param_dtype=matcher.param_dtype, name="part"
  )(nn.relu(hidden))[..., 0]
  return jnp.where(mask, nn.log_sigmoid(logits), 0.0).sum(axis=-1)
