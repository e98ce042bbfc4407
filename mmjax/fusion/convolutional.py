"""Fusion by stacking aligned sequences or maps and convolving them.

Token i of every modality belongs to one moment or place: their features are
stacked, and a convolution over time, or over both directions of a grid, maps
each neighbourhood to a token.

Feichtenhofer et al. 2016, "Convolutional Two-Stream Network Fusion for Video
Action Recognition", https://arxiv.org/abs/1604.06573.

Differs from the paper: any number of modalities of any widths, one-dimensional
sequences too, which may be resampled to one length; no pooling over time; a
token that is missing is zeros.
"""

import math
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Tokens
from mmjax.nn.dropout import Dropout
from mmjax.nn.resampling import resample_tokens
from mmjax.nn.tokens import check_modalities, clear_masked


def stack_tokens(tokens: Mapping[str, Tokens], dtype: str) -> Tokens:
  """Stacks the features of aligned tokens.

  Args:
    tokens: [B, N, D_m] of each modality m.
    dtype: dtype of the result.

  Returns:
    Tokens [B, N, sum of D_m] in sorted order of the modalities; those are
    present that any modality has, with zeros for the modalities that do not.
  """
  modalities = sorted(tokens)
  return Tokens(
    jnp.concatenate(
      [clear_masked(tokens[m], dtype) for m in modalities], axis=-1
    ),
    jnp.stack([tokens[m].mask for m in modalities]).any(axis=0),
  )


class ConvolutionalFusion(nn.Module):
  """Convolves the stacked features of aligned tokens.

  Attributes:
    width: width of the tokens that come out.
    kernel_size: length of the filters, or their height and width on a grid;
      1 sees each token on its own.
    grid: (height, width) of the tokens, row by row; None is a sequence.
    length: tokens that each modality is brought to first, see
      `resample_tokens`; None needs them equally many.
    dropout_rate: dropout of the tokens that come out.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  kernel_size: int = 3
  grid: tuple[int, int] | None = None
  length: int | None = None
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses the modalities.

    Args:
      tokens: [B, N, D_m] of each modality m, of any widths, and of one N
        unless `length` is given.
      train: whether dropout is on.

    Returns:
      Tokens [B, N, width], N = `length` if given. Beyond the ends there are
      zeros.

    Raises:
      ValueError: there is no modality, shapes do not belong together, numbers
        of tokens differ, or they do not fill the grid.
    """
    check_modalities(tokens, "fusion 'convolutional'")
    if self.length is not None:
      tokens = {m: resample_tokens(tokens[m], self.length) for m in tokens}
    self._check_alignment(tokens)
    stacked = stack_tokens(tokens, self.dtype)
    batch, number, features = stacked.values.shape
    places = self.grid or (number,)
    values = nn.Conv(
      self.width,
      (self.kernel_size,) * len(places),
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="conv",
    )(stacked.values.reshape(batch, *places, features))
    values = values.reshape(batch, number, self.width)
    values = Dropout(self.dropout_rate)(values, deterministic=not train)
    return stacked.replace(values=values)

  def _check_alignment(self, tokens: Mapping[str, Tokens]) -> None:
    """Checks that the tokens are equally many and fill the grid."""
    sizes = {m: tokens[m].values.shape[1] for m in sorted(tokens)}
    found = ", ".join(f"{m} {size}" for m, size in sizes.items())
    if len(set(sizes.values())) > 1:
      raise ValueError(
        "fusion 'convolutional' needs aligned tokens, equally many of every"
        f" modality, got {found}; set length to resample them"
      )
    if self.grid is not None and {math.prod(self.grid)} != set(sizes.values()):
      raise ValueError(
        f"fusion 'convolutional' with grid {self.grid} needs"
        f" {math.prod(self.grid)} tokens of every modality, got {found}"
      )
