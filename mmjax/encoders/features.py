"""Features that another model has extracted: vectors or sequences of any width.

A projection and a norm, then, if asked for, positions and a recurrent network
or a Transformer over time. Such encoders stand before the fusions of Zadeh et
al. 2017, https://arxiv.org/abs/1707.07250 (an LSTM or averages a modality), and
Tsai et al. 2019, https://arxiv.org/abs/1906.00295 (a projection and positions).

Differs from the papers: every step stays a token; the projection is normed and
reads one step, not a window; steps may be masked.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.encoders.stacks import make_block, make_recurrent
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout
from mmjax.nn.positions import sinusoidal_positions
from mmjax.nn.transformer import MlpBlock


class FeatureEncoder(StagedEncoder):
  """Projects features; a vector becomes one token, a sequence one a step.

  Attributes:
    width: width of the tokens; of a bidirectional body each direction has half
      of it, rounded up.
    body: what follows the projection: "none", a perceptron on each step by
      itself ("mlp"), or what reads the sequence: "lstm", "gru" or
      "transformer".
    norm: whether the projection is normed. Without, features that are near
      give projections that are near, which positions of objects need.
    positions: whether fixed waves of the step's number are added to the
      projection.
    num_layers: layers of the body.
    bidirectional: whether an LSTM or GRU reads from both ends.
    num_heads: attention heads of a Transformer.
    mlp_dim: hidden width of the perceptrons, those of a Transformer included.
    dropout_rate: dropout of the features, and in the body.
    implementation: that of `MultiHeadAttention`.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  body: str = "none"
  norm: bool = True
  positions: bool = False
  num_layers: int = 1
  bidirectional: bool = True
  num_heads: int = 4
  mlp_dim: int = 128
  dropout_rate: float = 0.0
  implementation: str | None = None
  dtype: str = "float32"
  param_dtype: str = "float32"

  @property
  def num_stages(self) -> int:
    """One for each layer of the body."""
    return self.num_layers if self.body != "none" else 0

  def setup(self) -> None:
    """Makes the layers.

    Raises:
      ValueError: an unknown body.
    """
    if self.body not in ("none", "mlp", "lstm", "gru", "transformer"):
      raise ValueError(
        f"body is {self.body!r}; it must be 'none', 'mlp', 'lstm', 'gru' or"
        " 'transformer'"
      )
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    # The name is part of the random numbers: another one gives other masks.
    self.dropout = Dropout(self.dropout_rate, name="Dropout_0")
    self.project = Dense(self.width, **dtypes)
    if self.norm:
      self.project_norm = nn.LayerNorm(**dtypes)
    self.layer = [self._make_layer(**dtypes) for _ in range(self.num_stages)]
    if self.body in ("lstm", "gru"):
      self.out = Dense(self.width, **dtypes)
    if self.body != "none":
      self.out_norm = nn.LayerNorm(**dtypes)

  def _make_layer(self, **dtypes: str) -> nn.Module:
    """Makes a layer of the body."""
    if self.body == "transformer":
      return make_block(self)
    if self.body == "mlp":
      return MlpBlock(self.mlp_dim, dropout_rate=self.dropout_rate, **dtypes)
    return make_recurrent(self, self.body)

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Projects features; a stage is a sequence of steps, one of a vector.

    Args:
      values: [R, F] or [R, T, F], floating point.
      mask: bool [R], or [R, T] of sequences, True = present.
      train: whether dropout is on.

    Raises:
      ValueError: other shapes or dtypes; a recurrent body for vectors, which
        have no time.
    """
    values, mask = self._read(values, mask)
    values = self.dropout(values, deterministic=not train)
    states = self.project(values)
    if self.norm:
      states = self.project_norm(states)
    if self.positions:
      table = sinusoidal_positions(*states.shape[1:])
      states = states + jnp.asarray(table, states.dtype)
    return Stage(states, mask)

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs a layer of the body."""
    layer, states = self.layer[depth], stage.values
    if self.body == "transformer":
      states = layer(states, stage.mask, train=train)
    elif self.body == "mlp":
      states = states + layer(states, train=train)
    else:
      if depth > 0:
        states = self.dropout(states, deterministic=not train)
      states, _ = layer(states, stage.mask)
    return stage.replace(values=states)

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Makes Tokens [R, 1, width] or [R, T, width]."""
    del train
    states = stage.values
    if self.body in ("lstm", "gru"):
      states = self.out(states)
    if self.body != "none":
      states = self.out_norm(states)
    return stage.replace(values=states).to_tokens()

  def _read(self, values: Array, mask: Array) -> tuple[Array, Array]:
    """Checks the input; makes it [R, T, F] and [R, T]."""
    if values.ndim not in (2, 3) or mask.shape not in (
      values.shape[:1],
      values.shape[: values.ndim - 1],
    ):
      raise ValueError(
        "a feature encoder needs features [R, F] and a mask [R], or [R, T, F]"
        f" and [R] or [R, T], got {list(values.shape)} and {list(mask.shape)}"
      )
    if not jnp.issubdtype(values.dtype, jnp.floating):
      raise ValueError(
        f"a feature encoder needs floating point, got {values.dtype}"
        f" {list(values.shape)}"
      )
    if values.ndim == 2:
      if self.body in ("lstm", "gru"):
        raise ValueError(
          f"the body {self.body!r} needs sequences [R, T, F], got"
          f" {list(values.shape)}; use the body 'none' for vectors"
        )
      values = values[:, None]
    if mask.ndim == 1:
      mask = jnp.broadcast_to(mask[:, None], values.shape[:2])
    values = jnp.where(mask[..., None], values.astype(self.dtype), 0)
    return values, mask
