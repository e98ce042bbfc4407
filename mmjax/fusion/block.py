r"""BLOCK: a block-term decomposition, many small bilinear forms side by side.

Every modality is projected and cut into C chunks. Chunk c of the modalities
meets chunk c of the others only, in a bilinear form whose slices have rank R;
the chunks that come out are normalized, concatenated and projected:

.. math:: z_{co} = \sum_{r < R} \prod_m \tilde x_{mc}^\top d_{mc}^{(r, o)}

But for norm and tanh, one chunk is MUTAN, and chunks of one number would be
MLB; with the norm, these would be signs, and nothing before them would learn.

Ben-younes et al. 2019, "BLOCK: Bilinear Superdiagonal Fusion for Visual
Question Answering and Visual Relationship Detection",
https://arxiv.org/abs/1902.00038.

Differs from the paper: any number of modalities instead of two; each chunk
passes a signed square root and is brought to norm one, as in the authors'
program; the projections have biases; chunks have one size, in and out; a
missing modality is a factor of one.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Tokens
from mmjax.nn.bilinear import (
  check_norm,
  check_sizes,
  l2_normalize,
  multiply_present,
  signed_sqrt,
)
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout
from mmjax.nn.pooling import ModalityPooling, single_token
from mmjax.nn.tokens import check_modalities


class BlockFusion(nn.Module):
  """Pools and projects each modality, multiplies chunk by chunk, projects.

  Attributes:
    width: width of the token that comes out.
    joint_dim: width of the projections, all chunks together; the paper has
      1600.
    num_chunks: C, chunks; they divide `joint_dim`. The paper has 20.
    rank: R, the rank of the slices of a chunk's bilinear form.
    pooling: that of `ModalityPooling`.
    dropout_rate: dropout of the concatenated chunks.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  joint_dim: int = 256
  num_chunks: int = 16
  rank: int = 15
  pooling: str = "mean"
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses the modalities.

    Args:
      tokens: [B, N_m, D_m] of each modality m, of any widths.
      train: whether dropout is on.

    Returns:
      Tokens [B, 1, width].

    Raises:
      ValueError: there is no modality, shapes do not belong together, a size
        is not positive, or the chunks do not divide `joint_dim` or are of one
        number each.
    """
    check_modalities(tokens, "fusion 'block'")
    sizes = {
      "joint_dim": self.joint_dim,
      "num_chunks": self.num_chunks,
      "rank": self.rank,
    }
    check_sizes("fusion 'block'", sizes)
    if self.joint_dim % self.num_chunks:
      raise ValueError(
        "fusion 'block' needs a joint_dim that its chunks divide, got"
        f" joint_dim {self.joint_dim} and {self.num_chunks} chunks"
      )
    size = self.joint_dim // self.num_chunks
    check_norm("fusion 'block'", "joint_dim / num_chunks", size)
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    vectors, present = ModalityPooling(
      self.joint_dim, self.pooling, name="pooling", **dtypes
    )(tokens)
    factors = {}
    for m in vectors:
      core = self.param(
        f"{m}_core",
        nn.initializers.lecun_normal(batch_axis=(0, 1)),
        (self.num_chunks, self.rank, size, size),
        jnp.dtype(self.param_dtype),
      ).astype(self.dtype)
      chunks = vectors[m].reshape(-1, self.num_chunks, size)
      factors[m] = jnp.einsum("bcd,crdo->bcro", chunks, core)
    product = multiply_present(factors, present).sum(axis=2)
    product = l2_normalize(signed_sqrt(product))
    product = product.reshape(-1, self.joint_dim)
    product = Dropout(self.dropout_rate)(product, deterministic=not train)
    fused = Dense(self.width, name="out", **dtypes)(product)
    return single_token(fused, present)
