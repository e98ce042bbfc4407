"""Numbers of parameters at the settings of papers, worked out by hand."""

import pytest
from vector_tokens import count_parameters

from mmjax.fusion.low_rank import LowRankFusion
from mmjax.fusion.tensor import TensorFusion

# Module, widths of the modalities, parameters.
PUBLISHED = {
  # Zadeh et al. 2017: a weight for each element of the tensor and each output.
  "tensor fusion on MOSI": (
    TensorFusion(64),
    {"audio": 32, "text": 128, "video": 32},
    33 * 129 * 33 * 64 + 64,
  ),
  # Liu et al. 2018: three factors of rank one a modality, weighed, one output.
  "low-rank fusion on MOSI": (
    LowRankFusion(1, rank=3),
    {"audio": 16, "text": 128, "video": 64},
    3 * (17 + 129 + 65) + 3 + 1,
  ),
}
TOTALS = {"tensor fusion on MOSI": 8_990_848, "low-rank fusion on MOSI": 637}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_at_published_settings(name):
  module, widths, expected = PUBLISHED[name]
  assert expected == TOTALS[name]
  assert count_parameters(module, widths) == expected
