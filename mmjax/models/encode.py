"""Encoding of all modalities of a batch, which all models start with.

Rows that several examples share, say an image with eight questions, are encoded
once and handed out by index afterwards.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import jax.numpy as jnp

from mmjax.array_types import Array, Batch, Tokens
from mmjax.encoders.staged import Stage

# What an encoder makes of rows: values [R, ...] and a mask [R, ...].
Rows = TypeVar("Rows", Tokens, Stage)


def encode_modalities(
  encoders: Mapping[str, Callable[..., Tokens]], batch: Batch, *, train: bool
) -> dict[str, Tokens]:
  """Encodes each modality, one row of tokens for each example.

  Of the batch it reads `m`, `m_mask` and, if there, `m_index` of the
  modalities m that have an encoder, and nothing else.

  Args:
    encoders: for each modality (values, mask, *, train) -> Tokens, for
      instance a module that is bound to its parameters.
    batch: see `mmjax.array_types.Batch`.
    train: whether dropout is on.

  Returns:
    Tokens [B, N_m, D_m] of each modality m, in sorted order.

  Raises:
    ValueError: no encoders; a missing entry of the batch; a mask, an index
      or a number of examples that does not fit.
  """
  return hand_out(encode_rows(encoders, batch, train=train), batch)


def encode_rows(
  encoders: Mapping[str, Callable[..., Rows]], batch: Batch, *, train: bool
) -> dict[str, Rows]:
  """Encodes the rows of each modality, as they are in the batch.

  Arguments and errors are those of `encode_modalities`; an encoder may as well
  stop at a `Stage`.
  """
  if not encoders:
    raise ValueError("the model needs at least one encoder, got none")
  rows = {}
  for modality in sorted(encoders):
    _check_entries(batch, modality)
    rows[modality] = encoders[modality](
      batch[modality], batch[f"{modality}_mask"], train=train
    )
  return rows


def hand_out(rows: Mapping[str, Rows], batch: Batch) -> dict[str, Rows]:
  """Gives each example its row of each modality, see `encode_modalities`."""
  examples = {
    m: gather_rows(rows[m], batch[f"{m}_index"])
    if f"{m}_index" in batch
    else rows[m]
    for m in rows
  }
  _check_examples(examples)
  return examples


def gather_rows(rows: Rows, index: Array) -> Rows:
  """Gives each example its row.

  Args:
    rows: of R rows, values [R, ...] and a mask [R, ...].
    index: int [B], rows local to this device. A row that does not exist gives
      NaN, so that the training loop stops, and not somebody else's row.

  Returns:
    The same of B rows.
  """
  exists = (index >= 0) & (index < len(rows.mask))

  def take(x: Array, otherwise: float | bool) -> Array:
    there = exists.reshape(-1, *[1] * (x.ndim - 1))
    return jnp.where(there, jnp.take(x, index, 0, mode="clip"), otherwise)

  return rows.replace(
    values=take(rows.values, jnp.nan), mask=take(rows.mask, True)
  )


def _check_entries(batch: Batch, modality: str) -> None:
  """Checks what the batch holds for one modality."""
  for name in (modality, f"{modality}_mask"):
    if name not in batch:
      raise ValueError(
        f"the model has an encoder for {modality!r} and needs"
        f" batch[{name!r}], the batch has {', '.join(sorted(batch))}"
      )
  values, mask = batch[modality], batch[f"{modality}_mask"]
  if (
    mask.dtype != jnp.bool_
    or mask.ndim not in (1, 2)
    or values.shape[: mask.ndim] != mask.shape
  ):
    raise ValueError(
      f"modality {modality!r} {list(values.shape)} needs a bool mask"
      f" {list(values.shape[:1])} or {list(values.shape[:2])}, got"
      f" {mask.dtype} {list(mask.shape)}"
    )
  index = batch.get(f"{modality}_index")
  if index is not None and (
    index.ndim != 1 or not jnp.issubdtype(index.dtype, jnp.integer)
  ):
    raise ValueError(
      f"modality {modality!r} needs an integer index [B], got {index.dtype}"
      f" {list(index.shape)}"
    )


def _check_examples(rows: Mapping[str, Rows]) -> None:
  """Checks that all modalities have the same number of examples."""
  sizes = {m: len(rows[m].mask) for m in sorted(rows)}
  if len(set(sizes.values())) > 1:
    found = ", ".join(f"{m} {list(rows[m].values.shape)}" for m in sizes)
    raise ValueError(
      f"modalities have different numbers of examples: {found}; one whose rows"
      " are shared by examples needs an entry '<modality>_index' in the batch"
    )
