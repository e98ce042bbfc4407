"""Sequences of any length brought to one length."""

import jax.numpy as jnp

from mmjax.array_types import Tokens


def resample_tokens(tokens: Tokens, length: int) -> Tokens:
  """Cuts the present tokens into equal spans and averages each.

  The n present tokens of a row lie side by side, each one unit long; span l
  reaches from l n / L to (l + 1) n / L, and a token that two spans share counts
  for each by the part that lies in it. Many tokens are averaged, few are
  repeated, n = L stay as they are.

  Args:
    tokens: values [B, N, D] and their mask, in the order of time.
    length: L.

  Returns:
    Tokens [B, L, D]; a row that has a token has all L, others have none.

  >>> values = jnp.array([[[1.0], [3.0], [8.0], [2.0], [100.0]]])
  >>> mask = jnp.array([[True, True, True, True, False]])
  >>> resample_tokens(Tokens(values, mask), 2).values[0, :, 0].tolist()
  [2.0, 5.0]
  """
  mask = tokens.mask
  number = mask.sum(axis=-1)
  start = jnp.cumsum(mask, axis=-1) - mask  # [B, N], place among the present
  edges = jnp.arange(length + 1) * number[:, None] / length  # [B, L + 1]
  low = jnp.maximum(edges[:, :-1, None], start[:, None])
  high = jnp.minimum(edges[:, 1:, None], start[:, None] + 1)
  shares = jnp.where(mask[:, None], jnp.maximum(high - low, 0), 0)
  shares = shares * length / jnp.maximum(number, 1)[:, None, None]
  values = jnp.where(mask[..., None], tokens.values, 0)
  resampled = jnp.einsum("bln,bnd->bld", shares.astype(values.dtype), values)
  present = jnp.broadcast_to(number[:, None] > 0, resampled.shape[:2])
  return Tokens(resampled, present)
