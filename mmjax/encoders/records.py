"""Records of numbers and categories: a Transformer over columns, and an MLP.

Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data",
https://arxiv.org/abs/2106.11959: the feature tokenizer, FT-Transformer, and the
MLP that it is compared with.

Differs from the paper: a missing value has a learned vector of its column;
each column stays a token, and heads pool them, instead of a [CLS] token; the
bias of a category is part of its vector; every block norms before attention,
the first one too; ReLU instead of ReGLU; the MLP reads the same tokens.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Array, Tokens
from mmjax.encoders.stacks import TransformerStack
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout

# Uniform in +-1 / sqrt(width) on [n, width], as in the paper.
_INIT = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
_LARGEST = 2**24  # float32 holds the integers up to here


class ColumnTokens(nn.Module):
  """Makes a vector of each column of a record.

  A number x gives w x + b, a category its row of a table, NaN the vector of
  what is missing in that column. An id that its column does not have gives NaN:
  values are not known while a program is traced, so that it cannot raise, and
  it must not pass for another category. Training stops at once.

  Attributes:
    width: width of the vectors.
    cardinalities: for each column the number of categories; 0 is a number.
    means: of each column of numbers, subtracted first; () is 0.
    scales: of each column of numbers, divided by next; () is 1.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  cardinalities: tuple[int, ...]
  means: tuple[float, ...] = ()
  scales: tuple[float, ...] = ()
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, values: Array, mask: Array) -> Array:
    """Maps records to vectors.

    Args:
      values: float32 [R, columns]; NaN is missing, ids are whole numbers in
        [0, cardinality).
      mask: bool [R], True = present.

    Returns:
      [R, columns, width].

    Raises:
      ValueError: other shapes or dtypes; cardinalities, means or scales that
        cannot be.
    """
    _check_columns(self.cardinalities, self.means, self.scales)
    columns = len(self.cardinalities)
    if values.shape[1:] != (columns,) or mask.shape != values.shape[:1]:
      raise ValueError(
        f"a record encoder with {columns} cardinalities needs records"
        f" [R, {columns}] and a mask [R], got {list(values.shape)} and"
        f" {list(mask.shape)}"
      )
    if values.dtype != jnp.float32:
      raise ValueError(
        f"a record encoder needs float32, which holds ids and NaN alike, got"
        f" {values.dtype} {list(values.shape)}"
      )
    values = jnp.where(mask[:, None], values, 0)
    absent = jnp.isnan(values)
    values = jnp.where(absent, 0, values)
    sizes = np.array(self.cardinalities)
    numbers, categories = np.flatnonzero(sizes == 0), np.flatnonzero(sizes)
    pieces = []
    if len(numbers):
      pieces.append(self._embed_numbers(values[:, numbers]))
    if len(categories):
      ids = values[:, categories]
      pieces.append(self._embed_categories(ids, sizes[categories]))
    order = np.argsort(np.concatenate([numbers, categories]))
    vectors = jnp.concatenate(pieces, axis=1)[:, order]
    missing = self._param("missing", columns)
    return jnp.where(absent[..., None], missing, vectors)

  def _embed_numbers(self, values: Array) -> Array:
    """Maps numbers [R, n] to [R, n, width]."""
    n = values.shape[1]
    means = np.array(self.means or [0] * n, np.float32)
    scales = np.array(self.scales or [1] * n, np.float32)
    values = ((values - means) / scales).astype(self.dtype)
    weight, bias = self._param("weight", n), self._param("bias", n)
    return values[..., None] * weight + bias

  def _embed_categories(self, ids: Array, sizes: np.ndarray) -> Array:
    """Maps ids [R, n] to [R, n, width]; `sizes` [n] is how many there are."""
    exists = (ids >= 0) & (ids < sizes) & (ids == jnp.floor(ids))
    starts = np.cumsum(sizes) - sizes
    rows = jnp.where(exists, ids, 0).astype(jnp.int32) + starts
    table = self._param("table", int(sizes.sum()))
    vectors = jnp.take(table, rows, axis=0, mode="clip")
    return jnp.where(exists[..., None], vectors, jnp.nan)

  def _param(self, name: str, rows: int) -> Array:
    """Makes a parameter [rows, width] and casts it."""
    return self.param(
      name, _INIT, (rows, self.width), jnp.dtype(self.param_dtype)
    ).astype(self.dtype)


class RecordTransformer(TransformerStack):
  """A Transformer over the columns of a record; each column is a token.

  Attributes:
    width: width of the tokens.
    cardinalities: for each column the number of categories; 0 is a number.
    num_layers: Transformer blocks.
    num_heads: attention heads.
    mlp_dim: hidden width of the perceptrons.
    means: of each column of numbers, subtracted first; () is 0.
    scales: of each column of numbers, divided by next; () is 1.
    dropout_rate: dropout in the blocks.
    implementation: that of `MultiHeadAttention`.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  cardinalities: tuple[int, ...]
  num_layers: int
  num_heads: int
  mlp_dim: int
  means: tuple[float, ...] = ()
  scales: tuple[float, ...] = ()
  dropout_rate: float = 0.0
  implementation: str | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  def setup(self) -> None:
    """Makes the layers."""
    super().setup()
    self.columns = ColumnTokens(
      self.width,
      self.cardinalities,
      means=self.means,
      scales=self.scales,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
    )

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads records; a stage is a vector a column.

    Args:
      values: float32 [R, columns]; NaN is missing, ids are whole numbers in
        [0, cardinality).
      mask: bool [R], True = present.
      train: not used, dropout is that of the blocks.

    Raises:
      ValueError: see `ColumnTokens`.
    """
    del train
    states = self.columns(values, mask)
    return Stage(states, jnp.broadcast_to(mask[:, None], states.shape[:2]))


class RecordMlp(StagedEncoder):
  """A perceptron over all columns of a record, which becomes one token.

  Attributes:
    width: width of the token.
    cardinalities: for each column the number of categories; 0 is a number.
    hidden: widths of the hidden layers.
    embedding_dim: width of the vector of a column.
    means: of each column of numbers, subtracted first; () is 0.
    scales: of each column of numbers, divided by next; () is 1.
    dropout_rate: dropout of the hidden layers.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  cardinalities: tuple[int, ...]
  hidden: tuple[int, ...] = (128,)
  embedding_dim: int = 8
  means: tuple[float, ...] = ()
  scales: tuple[float, ...] = ()
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @property
  def num_stages(self) -> int:
    """One for each hidden layer."""
    return len(self.hidden)

  def setup(self) -> None:
    """Makes the layers."""
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    self.columns = ColumnTokens(
      self.embedding_dim,
      self.cardinalities,
      means=self.means,
      scales=self.scales,
      **dtypes,
    )
    self.layer = [
      Dense(hidden, name=f"hidden_{i}", **dtypes)
      for i, hidden in enumerate(self.hidden)
    ]
    # The names are part of the random numbers: others give other masks.
    self.dropout = [
      Dropout(self.dropout_rate, name=f"Dropout_{i}")
      for i in range(len(self.hidden))
    ]
    self.out = Dense(self.width, **dtypes)
    self.out_norm = nn.LayerNorm(**dtypes)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads records; a stage is one vector, at first that of all columns.

    Args:
      values: float32 [R, columns]; NaN is missing, ids are whole numbers in
        [0, cardinality).
      mask: bool [R], True = present.
      train: not used, dropout is that of the layers.

    Raises:
      ValueError: see `ColumnTokens`.
    """
    del train
    states = self.columns(values, mask)
    return Stage(states.reshape(len(states), 1, -1), mask[:, None])

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs a hidden layer."""
    states = nn.relu(self.layer[depth](stage.values))
    states = self.dropout[depth](states, deterministic=not train)
    return stage.replace(values=states)

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Makes Tokens [R, 1, width]."""
    del train
    states = self.out_norm(self.out(stage.values))
    return stage.replace(values=states).to_tokens()


def _check_columns(
  cardinalities: tuple[int, ...],
  means: tuple[float, ...],
  scales: tuple[float, ...],
) -> None:
  """Checks the attributes of `ColumnTokens`."""
  if not cardinalities or not all(0 <= k <= _LARGEST for k in cardinalities):
    raise ValueError(
      "a record encoder needs at least one column, each with a cardinality from"
      f" 0 (a number) to {_LARGEST} (float32 holds no more ids), got"
      f" {cardinalities}"
    )
  num_numbers = cardinalities.count(0)
  for name, given in (("means", means), ("scales", scales)):
    if len(given) not in (0, num_numbers):
      raise ValueError(
        f"{name} are for the {num_numbers} columns of numbers (cardinality 0)"
        f" or none, got {len(given)}"
      )
  if not all(scale > 0 for scale in scales):
    raise ValueError(f"scales must be positive, got {scales}")
