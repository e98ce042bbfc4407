"""A classifier over pooled tokens: one pool for each group, then a perceptron.

The groups of the fused tokens, one a modality, are pooled apart and put side
by side; pooled together, many image cells would drown a few words.

Pooling by attention follows Yang et al. 2016, "Hierarchical Attention
Networks", https://aclanthology.org/N16-1174.

Differs from the paper: each group has attention of its own, without recurrent
layers, and a group without any token gives zeros.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.nn.dropout import Dropout
from mmjax.nn.pooling import AttentionPooling, masked_max, masked_mean


class Classifier(nn.Module):
  """Pools each group of tokens and classifies what comes out.

  With attention the weights of group number g are sown as `pool` under
  `pool_g`.

  Attributes:
    num_classes: classes C.
    hidden: width of the hidden layer.
    pooling: "mean", "max" or "attention".
    dropout_rate: dropout of the hidden layer.
    norm: whether what was pooled is normed first. Without, how much there is of
      a feature, such as a count, stays as it is.
    dtype: dtype of the computation; the last layer runs in float32.
    param_dtype: dtype of the parameters.
  """

  num_classes: int
  hidden: int = 128
  pooling: str = "mean"
  dropout_rate: float = 0.0
  norm: bool = True
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: Tokens, *, train: bool) -> dict[str, Array]:
    """Classifies tokens.

    Args:
      tokens: [B, N, D] with groups.
      train: whether dropout is on.

    Returns:
      {"logits": float32 [B, C]}.

    Raises:
      ValueError: an unknown pooling, or groups that do not add up to N.
    """
    if sum(tokens.groups) != tokens.values.shape[1]:
      raise ValueError(
        f"head 'classifier' got groups {tokens.groups}, which do not add up"
        f" to the tokens {list(tokens.values.shape)}"
      )
    pools = [
      self._pool(group, f"pool_{number}")
      for number, group in enumerate(tokens.split_groups())
    ]
    pooled = jnp.concatenate(pools, axis=-1).astype(self.dtype)
    if self.norm:
      pooled = nn.LayerNorm(
        dtype=self.dtype, param_dtype=self.param_dtype, name="norm"
      )(pooled)
    hidden = nn.Dense(
      self.hidden,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="hidden",
    )(pooled)
    hidden = Dropout(self.dropout_rate)(
      nn.relu(hidden), deterministic=not train
    )
    logits = nn.Dense(
      self.num_classes,
      dtype="float32",
      param_dtype=self.param_dtype,
      name="logits",
    )(hidden)
    return {"logits": logits}

  def _pool(self, group: Tokens, name: str) -> Array:
    """Pools one group into [B, D]."""
    if self.pooling == "mean":
      return masked_mean(group.values, group.mask)
    if self.pooling == "max":
      return masked_max(group.values, group.mask)
    if self.pooling == "attention":
      return AttentionPooling(
        group.values.shape[-1],
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=name,
      )(group.values, group.mask)
    raise ValueError(
      "head 'classifier' needs pooling 'mean', 'max' or 'attention', got"
      f" {self.pooling!r}"
    )
