r"""MFB: multimodal factorized bilinear pooling, expand and then squeeze.

Every modality is projected to k times the width of the output; the projections
are multiplied, each k neighbours are added, and the sum is brought to a fair
size by a signed square root and a norm of one:

.. math:: z_o = \sum_{i < k} \prod_m (U_m^\top x_m + b_m)_{ok + i}

Yu et al. 2017, "Multi-modal Factorized Bilinear Pooling with Co-Attention
Learning for Visual Question Answering", https://arxiv.org/abs/1708.01471.

Differs from the paper: any number of modalities instead of two; projections
have biases, as in the authors' program; a missing modality is a factor of one;
the co-attention before it is an encoder's or a pooling's matter.
"""

from collections.abc import Mapping

import flax.linen as nn

from mmjax.array_types import Tokens
from mmjax.nn.bilinear import (
  check_norm,
  check_sizes,
  l2_normalize,
  multiply_present,
  signed_sqrt,
)
from mmjax.nn.dropout import Dropout
from mmjax.nn.pooling import ModalityPooling, single_token
from mmjax.nn.tokens import check_modalities


class MfbFusion(nn.Module):
  """Pools and expands each modality, multiplies them, adds, normalizes.

  Attributes:
    width: width of the token that comes out; its norm is one.
    factor: k, products that are added for a number of the output, the rank of
      its bilinear form.
    pooling: that of `ModalityPooling`.
    dropout_rate: dropout of the product.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  factor: int = 5
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
      ValueError: there is no modality, shapes do not belong together, the
        factor is not positive, or the width is one.
    """
    check_modalities(tokens, "fusion 'mfb'")
    check_sizes("fusion 'mfb'", {"factor": self.factor})
    check_norm("fusion 'mfb'", "width", self.width)
    vectors, present = ModalityPooling(
      self.width * self.factor,
      self.pooling,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="pooling",
    )(tokens)
    product = multiply_present(vectors, present)
    product = Dropout(self.dropout_rate)(product, deterministic=not train)
    fused = product.reshape(-1, self.width, self.factor).sum(axis=-1)
    return single_token(l2_normalize(signed_sqrt(fused)), present)
