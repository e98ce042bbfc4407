"""Fusion by a perceptron over everything at once: the baseline of relations.

The tokens of all modalities are laid into one vector, in their places, and pass
through dense layers. Nothing says that tokens are objects: the perceptron has
to learn each relation for each pair of places anew. It is the MLP in "CNN+MLP",
the baseline of Santoro et al. 2017, "A simple neural network module for
relational reasoning", https://arxiv.org/abs/1706.01427.

Differs from the paper: any number of modalities and of tokens, which may be
masked and then count as zeros.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Tokens
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout
from mmjax.nn.pooling import single_token
from mmjax.nn.tokens import check_modalities, clear_masked


class FlatMlp(nn.Module):
  """Lays all tokens into one vector and applies dense layers.

  The parameters depend on the numbers of tokens, which must not change.

  Attributes:
    width: width of the token that comes out.
    hidden: widths of the layers before, at least one, each with a rectifier.
    dropout_rate: dropout of the hidden layers.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  hidden: Sequence[int] = (256, 256)
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  def __post_init__(self) -> None:
    """Freezes the widths: a list would make the module unhashable."""
    object.__setattr__(self, "hidden", tuple(self.hidden))
    super().__post_init__()

  @nn.compact
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses the modalities.

    Args:
      tokens: [B, N_m, D_m] of each modality m, of any widths.
      train: whether dropout is on.

    Returns:
      Tokens [B, 1, width].

    Raises:
      ValueError: there is no modality or no hidden layer, or shapes do not
        belong together.
    """
    check_modalities(tokens, "fusion 'flat_mlp'")
    if not self.hidden:
      raise ValueError("fusion 'flat_mlp' needs a hidden layer, got hidden=()")
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    dropout = Dropout(self.dropout_rate, deterministic=not train)
    first, *others = self.hidden
    # Dense layers of the parts, added, are one of all side by side.
    total, present = 0.0, {}
    for m in sorted(tokens):
      flat = clear_masked(tokens[m], self.dtype)
      flat = flat.reshape(flat.shape[0], -1)
      total = total + Dense(first, use_bias=False, name=m, **dtypes)(flat)
      present[m] = tokens[m].mask.any(axis=1)
    bias = self.param(
      "bias", nn.initializers.zeros, (first,), jnp.dtype(self.param_dtype)
    )
    hidden = dropout(nn.relu(total + bias.astype(self.dtype)))
    for number, width in enumerate(others, start=1):
      hidden = nn.relu(Dense(width, name=f"hidden_{number}", **dtypes)(hidden))
      hidden = dropout(hidden)
    out = Dense(self.width, name="out", **dtypes)(hidden)
    return single_token(out, present)
