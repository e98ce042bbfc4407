"""Fusion by concatenation: the baseline that every other fusion must beat.

Each modality is projected to one width and the tokens are put side by side;
modalities meet only in the head. It is the "late concatenation" row of
Baltrusaitis et al. 2019, "Multimodal Machine Learning: A Survey and Taxonomy",
https://arxiv.org/abs/1705.09406.

Differs from the paper: tokens are kept apart until the head pools them.
"""

from collections.abc import Mapping

import flax.linen as nn

from mmjax.array_types import Tokens
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout
from mmjax.nn.tokens import check_modalities, clear_masked, join_modalities


class Concat(nn.Module):
  """Projects each modality to one width and concatenates the tokens.

  Attributes:
    width: width of the tokens that come out.
    dropout_rate: dropout of the projected tokens.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
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
      Tokens [B, sum of N_m, width], a group for each modality in sorted
      order.

    Raises:
      ValueError: there is no modality, or shapes do not belong together.
    """
    check_modalities(tokens, "fusion 'concat'")
    values = {}
    for modality in sorted(tokens):
      projected = Dense(
        self.width,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=modality,
      )(clear_masked(tokens[modality], self.dtype))
      values[modality] = Dropout(self.dropout_rate)(
        projected, deterministic=not train
      )
    return join_modalities(values, tokens)
