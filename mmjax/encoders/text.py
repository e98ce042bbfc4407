"""Text encoders: recurrent (LSTM or GRU) and Transformer, over word ids.

Bidirectional states as in Bahdanau et al. 2015,
https://arxiv.org/abs/1409.0473; the Transformer encoder is Vaswani et al.
2017, https://arxiv.org/abs/1706.03762, with learned positions.

Differs from the papers: norms stand before the parts of a block and after the
last one; a masked word gives a zero token.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array
from mmjax.encoders.stacks import RecurrentStack, TransformerStack
from mmjax.encoders.staged import Stage
from mmjax.nn.dropout import Dropout
from mmjax.nn.positions import LearnedPositions


def _check_ids(values: Array, mask: Array, vocabulary_size: int) -> Array:
  """Checks shapes; makes masked ids 0 and impossible ids give NaN.

  Values are not known while a program is traced, so a wrong id cannot raise
  here. It must not pass for another word either: its embedding becomes NaN,
  and training stops at once with the step and the records named.
  """
  if values.ndim != 2 or mask.shape != values.shape:
    raise ValueError(
      "a text encoder needs ids [R, T] and a mask [R, T], got"
      f" {list(values.shape)} and {list(mask.shape)}"
    )
  if not jnp.issubdtype(values.dtype, jnp.integer):
    raise ValueError(f"a text encoder needs integer ids, got {values.dtype}")
  # Negative ids would count from the end of the table.
  values = jnp.where(values < 0, vocabulary_size, values)
  return jnp.where(mask, values, 0)


class RecurrentEncoder(RecurrentStack):
  """Word embeddings, then LSTM or GRU layers; each word becomes a token.

  A present id outside [0, vocabulary_size) gives NaN.

  Attributes:
    vocabulary_size: number of word ids.
    embedding_dim: width of the embeddings.
    width: width of the tokens; each direction has half of it, rounded up.
    cell: "lstm" or "gru".
    bidirectional: whether the words are read from both ends.
    num_layers: recurrent layers.
    dropout_rate: dropout of the embeddings and between layers.
    max_length: longest sequence accepted; None is any.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  vocabulary_size: int
  embedding_dim: int
  width: int
  cell: str = "lstm"
  bidirectional: bool = True
  num_layers: int = 1
  dropout_rate: float = 0.0
  max_length: int | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  def setup(self) -> None:
    """Makes the layers."""
    super().setup()
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.embed = nn.Embed(self.vocabulary_size, self.embedding_dim, **dtypes)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads texts; a stage is a sequence of words.

    Args:
      values: integer [R, T], word ids.
      mask: bool [R, T], True = present.
      train: not used, dropout is that of the layers.

    Raises:
      ValueError: wrong shapes or dtypes, or texts beyond `max_length`.
    """
    del train
    ids = _check_ids(values, mask, self.vocabulary_size)
    if self.max_length is not None and ids.shape[1] > self.max_length:
      raise ValueError(
        f"texts of at most {self.max_length} words are expected, got"
        f" {list(ids.shape)}; raise max_length"
      )
    return Stage(self.embed(ids), mask)


class TransformerEncoder(TransformerStack):
  """Word embeddings, learned positions, Transformer blocks, norm.

  A present id outside [0, vocabulary_size) gives NaN.

  Attributes:
    vocabulary_size: number of word ids.
    width: width of embeddings and tokens.
    num_layers: Transformer blocks.
    num_heads: attention heads.
    mlp_dim: hidden width of the perceptrons.
    max_length: longest sequence accepted, rows of the position table.
    dropout_rate: dropout of the embeddings and in the blocks.
    implementation: that of `MultiHeadAttention`.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  vocabulary_size: int
  width: int
  num_layers: int
  num_heads: int
  mlp_dim: int
  max_length: int
  dropout_rate: float = 0.0
  implementation: str | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  def setup(self) -> None:
    """Makes the layers."""
    super().setup()
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.embed = nn.Embed(self.vocabulary_size, self.width, **dtypes)
    self.positions = LearnedPositions(self.max_length, **dtypes)
    # The name is part of the random numbers: another one gives other masks.
    self.dropout = Dropout(self.dropout_rate, name="Dropout_0")

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads texts; a stage is a sequence of words.

    Args:
      values: integer [R, T], word ids, T at most `max_length`.
      mask: bool [R, T], True = present.
      train: whether dropout is on.

    Raises:
      ValueError: wrong shapes or dtypes, or texts beyond `max_length`.
    """
    ids = _check_ids(values, mask, self.vocabulary_size)
    states = self.positions(self.embed(ids))
    return Stage(self.dropout(states, deterministic=not train), mask)
