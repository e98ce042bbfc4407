"""Hybrid fusion: modalities exchange information at chosen depths.

Encoders work in stages: convolutions, recurrent layers, Transformer blocks.
After a stage a unit, which may be any fusion, sees what all modalities have so
far, and each adds what the unit gives to its own: low units can be local and
cheap, high ones global. At the top a fusion joins what is left, as in every
other model.

The idea of fusing at several levels is in Vielzeuf et al. 2018, "CentralNet",
https://arxiv.org/abs/1808.07275, and in Joze et al. 2020, "MMTM",
https://arxiv.org/abs/1911.08670; early and late fusion together are called
hybrid in Atrey et al. 2010, https://doi.org/10.1007/s00530-010-0182-0.
Projections that start at zero: Zhang et al. 2023, "Adding Conditional Control
to Text-to-Image Diffusion Models", https://arxiv.org/abs/2302.05543.

Differs from the papers: the unit is any fusion of the catalogue, there is no
central network of its own, and what a unit gives is projected and added.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict

from mmjax.array_types import Array, Batch, Tokens
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.models.encode import encode_rows, hand_out
from mmjax.nn.dense import Dense
from mmjax.nn.pooling import masked_mean


class Exchange(nn.Module):
  """Gives every modality what a fusion makes of all of them.

  Where the fusion keeps the tokens of each modality apart (a group each, as
  long as before), every token gets what became of it. Where it makes other
  tokens, one or several, every token of every modality gets their mean.

  What is added passes through a projection that starts at zero. So a model
  begins as if there were no exchange, and is not disturbed by one that has
  learned nothing.

  Attributes:
    unit: any fusion, tokens by modality -> Tokens.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  unit: nn.Module
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self, tokens: Mapping[str, Tokens], *, train: bool
  ) -> dict[str, Tokens]:
    """Maps tokens [B, N_m, D_m] by modality to tokens of the same shapes."""
    fused = self.unit(tokens, train=train)
    modalities = sorted(tokens)
    sizes = tuple(tokens[m].values.shape[1] for m in modalities)
    if fused.groups == sizes:
      pieces = dict(zip(modalities, fused.split_groups(), strict=True))
    else:
      mean = masked_mean(fused.values, fused.mask)[:, None]
      there = fused.mask.any(axis=-1, keepdims=True)
      pieces = dict.fromkeys(modalities, Tokens(mean, there))
    updated = {}
    for m in modalities:
      values, mask = tokens[m].values, tokens[m].mask[..., None]
      update = Dense(
        values.shape[-1],
        kernel_init=nn.initializers.zeros,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=m,
      )(pieces[m].values)
      update = jnp.where(mask & pieces[m].mask[..., None], update, 0)
      values = jnp.where(mask, values.astype(update.dtype), 0) + update
      updated[m] = tokens[m].replace(values=values)
    return updated


class HybridModel(nn.Module):
  """Encoders with exchanges between their stages, a fusion, a head.

  Depth 0 is behind the beginning of every encoder, depth k behind its stage
  number k; encoders with fewer stages pass their state on. Every place of a
  grid takes part as a token: low stages may have many, and attention between
  them costs accordingly. Rows that several examples share are encoded once as
  far as the first exchange.

  Attributes:
    encoders: for each modality a `StagedEncoder`; `ExtendedEncoder` makes one
      of any other.
    exchanges: for each depth from 0 an `Exchange`, or None where modalities
      do not meet; depths beyond the last one have none.
    fusion: a module (tokens by modality, *, train) -> Tokens.
    head: a module (tokens, *, train) -> outputs.
  """

  encoders: Mapping[str, StagedEncoder]
  exchanges: tuple[Exchange | None, ...]
  fusion: nn.Module
  head: nn.Module

  def __post_init__(self) -> None:
    """Freezes the encoders: a plain dict would make the module unhashable."""
    object.__setattr__(self, "encoders", FrozenDict(self.encoders))
    super().__post_init__()

  def __call__(self, batch: Batch, *, train: bool) -> dict[str, Array]:
    """Maps a batch to outputs, as `MultimodalModel` does.

    Raises:
      ValueError: an encoder without stages; an exchange at a depth that no
        encoder reaches; see `encode_modalities` for the batch.
    """
    depths = self._count_depths()
    missing = depths + 1 - len(self.exchanges)
    exchanges = (*self.exchanges, *[None] * missing)
    first = next((d for d, e in enumerate(exchanges) if e), depths + 1)
    begin_fns = {m: encoder.begin for m, encoder in self.encoders.items()}
    stages = encode_rows(begin_fns, batch, train=train)
    for depth, exchange in enumerate(exchanges):
      if depth > 0:
        stages = self._run_stages(depth - 1, stages, train=train)
      if depth == first:
        stages = hand_out(stages, batch)
      if exchange:
        tokens = {m: stage.to_tokens() for m, stage in stages.items()}
        tokens = exchange(tokens, train=train)
        stages = {m: stages[m].with_tokens(tokens[m]) for m in stages}
    tokens = {
      m: self.encoders[m].finish(stage, train=train)
      for m, stage in stages.items()
    }
    if first > depths:
      tokens = hand_out(tokens, batch)
    return self.head(self.fusion(tokens, train=train), train=train)

  def _count_depths(self) -> int:
    """Counts the stages of the longest encoder, and checks the exchanges."""
    for m, encoder in self.encoders.items():
      if not isinstance(encoder, StagedEncoder):
        raise ValueError(
          f"a hybrid model needs encoders in stages, got {type(encoder)} for"
          f" {m!r}; put it into an ExtendedEncoder"
        )
    for depth, exchange in enumerate(self.exchanges):
      if not isinstance(exchange, Exchange | None):
        raise ValueError(
          f"a hybrid model needs an Exchange or None at each depth, got"
          f" {type(exchange)} at depth {depth}; put it into an Exchange"
        )
    depths = max((e.num_stages for e in self.encoders.values()), default=0)
    if len(self.exchanges) > depths + 1:
      raise ValueError(
        f"there are exchanges up to depth {len(self.exchanges) - 1}, but the"
        f" encoders have {depths} stages; give at most {depths + 1} exchanges"
      )
    return depths

  def _run_stages(
    self, depth: int, stages: Mapping[str, Stage], *, train: bool
  ) -> dict[str, Stage]:
    """Runs a stage of each encoder that has so many."""
    return {
      m: self.encoders[m].run_stage(depth, stage, train=train)
      if depth < self.encoders[m].num_stages
      else stage
      for m, stage in stages.items()
    }
