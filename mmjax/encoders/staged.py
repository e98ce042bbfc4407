"""Encoders in stages, between which other modalities may take part.

An encoder of several layers begins with its input, runs a stage at a time, and
finishes with tokens. On its own it is an encoder like every other;
`mmjax.models.hybrid` stops between the stages and lets modalities meet there.
"""

import abc

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens


@flax.struct.dataclass
class Stage:
  """What an encoder has made of its rows so far.

  Attributes:
    values: [R, ..., D]; the axes between are any grid, such as the steps of a
      sequence or the cells of an image.
    mask: bool [R, ...], True = present, of the rows and as many axes of the
      grid as masks differ along.
    group_sizes: those of `Tokens`.
  """

  values: Array
  mask: Array
  group_sizes: tuple[int, ...] | None = flax.struct.field(
    pytree_node=False, default=None
  )

  @classmethod
  def from_tokens(cls, tokens: Tokens) -> "Stage":
    """Takes tokens as they are."""
    return cls(tokens.values, tokens.mask, tokens.group_sizes)

  def to_tokens(self) -> Tokens:
    """Makes each place of the grid a token [R, N, D], zeros where masked."""
    places = self.values.shape[:-1]
    missing = len(places) - self.mask.ndim
    mask = self.mask.reshape(self.mask.shape + (1,) * missing)
    mask = jnp.broadcast_to(mask, places).reshape(places[0], -1)
    values = self.values.reshape(*mask.shape, -1)
    values = jnp.where(mask[..., None], values, 0)
    return Tokens(values, mask, self.group_sizes)

  def with_tokens(self, tokens: Tokens) -> "Stage":
    """Puts tokens of the same shape back on the grid, in its own dtype."""
    values = tokens.values.astype(self.values.dtype)
    return self.replace(values=values.reshape(self.values.shape))


class StagedEncoder(nn.Module):
  """Base of encoders in stages: begin, stage by stage, finish.

  Whoever calls the parts may put other tokens into a `Stage` between them, with
  zeros where masked, as `to_tokens` gives them.
  """

  @property
  def num_stages(self) -> int:
    """How often `run_stage` is to be called."""
    return 0

  @abc.abstractmethod
  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Reads the input, up to the first stage."""

  def run_stage(self, depth: int, stage: Stage, *, train: bool) -> Stage:
    """Runs one stage, counted from 0; here there is none."""
    del depth, train
    return stage

  def finish(self, stage: Stage, *, train: bool) -> Tokens:
    """Makes the tokens, behind the last stage."""
    del train
    return stage.to_tokens()

  def __call__(self, values: Array, mask: Array, *, train: bool) -> Tokens:
    """Encodes; see `begin` for arguments and errors."""
    stage = self.begin(values, mask, train=train)
    for depth in range(self.num_stages):
      stage = self.run_stage(depth, stage, train=train)
    return self.finish(stage, train=train)
