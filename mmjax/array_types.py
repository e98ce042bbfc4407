"""The currency of mmjax: `Tokens`, `Batch`, and the letters that shapes use.

Every docstring in this package gives shapes with these letters:

  ======  =====================================================================
  B       examples on this device
  N       tokens (image cells, words, frames, columns)
  T       time steps or words of a sequence
  M       modalities
  D       width (channels, features)
  H       attention heads
  E       edges of a graph
  V       vocabulary
  C       classes
  ======  =====================================================================

Encoders make `Tokens`, fusions take a mapping of them and return one, heads
take one. That is all that any encoder, fusion and head have to agree on.
"""

from collections.abc import Mapping

import flax.struct
import jax

Array = jax.Array

# A batch is a flat mapping. For each modality `m` it holds
#   m          [R, ...]  raw values of R rows, often R = B
#   m_mask     [R] or [R, T] bool, True = present
#   m_index    [B] int32, optional: the row of `m` that each example uses; of
#              a padding example any row that exists, for instance 0
# and besides `label` [B] int32 and `example_mask` [B] bool (False = padding).
Batch = Mapping[str, Array]

# Modules sow here what a parameter without gradient becomes in training, at its
# own path and by its own name: (weight * new value, weight), added over calls,
# slices and devices; see `mmjax.nn.batch_norm` and `mmjax.training.step`.
RUNNING = "running"


@flax.struct.dataclass
class Tokens:
  """A set or sequence of feature vectors for each example.

  Attributes:
    values: [B, N, D] features. Where `mask` is False their content means
      nothing and must not reach any output.
    mask: [B, N] bool, True = present. A missing modality is all False: same
      shapes, same compiled program.
    group_sizes: static lengths of the consecutive groups that the N tokens
      fall into, for instance `(64, 7)` for 64 image cells and then 7 words.
      Heads pool each group on its own; None is one group of all tokens.
  """

  values: Array
  mask: Array
  group_sizes: tuple[int, ...] | None = flax.struct.field(
    pytree_node=False, default=None
  )

  @property
  def groups(self) -> tuple[int, ...]:
    """The group sizes, with None spelled out as one group of N tokens."""
    if self.group_sizes is None:
      return (self.values.shape[1],)
    return self.group_sizes

  def split_groups(self) -> list["Tokens"]:
    """Splits into one `Tokens` for each group, in order."""
    pieces, start = [], 0
    for size in self.groups:
      stop = start + size
      pieces.append(
        Tokens(self.values[:, start:stop], self.mask[:, start:stop])
      )
      start = stop
    return pieces
