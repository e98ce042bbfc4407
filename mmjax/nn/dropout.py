"""Dropout that refuses rates which cannot be meant."""

import flax.linen as nn


def check_rate(rate: float) -> None:
  """Raises ValueError unless 0 <= `rate` < 1."""
  if not 0.0 <= rate < 1.0:
    raise ValueError(f"dropout_rate is {rate}; it must be in [0, 1)")


class Dropout(nn.Dropout):
  """`nn.Dropout` (Srivastava et al. 2014), with its rate checked."""

  def __post_init__(self) -> None:
    """Checks the rate.

    Raises:
      ValueError: the rate is not in [0, 1).
    """
    check_rate(self.rate)
    super().__post_init__()
