"""Which experiments the PyTorch twin follows; told without PyTorch."""

import fiddle as fdl
import pytest

from benchmarks import mmjax_side, train_step
from experiments.configs import EXPERIMENTS
from mmjax.config import build_config


def build(name, *overrides):
  return fdl.build(build_config(EXPERIMENTS[name], list(overrides)))


def test_the_twin_follows_its_experiment():
  settings = mmjax_side.read_settings(build(train_step.WITH_TWIN))
  assert settings["width"] == 64
  assert settings["num_classes"] == 13


@pytest.mark.parametrize(
  "name", [n for n in train_step.EXPERIMENTS if n != train_step.WITH_TWIN]
)
def test_no_twin_of_other_fusions(name):
  assert mmjax_side.read_settings(build(name)) is None


@pytest.mark.parametrize(
  ("path", "value"),
  [
    ("model.encoders.image.norm", "batch"),
    ("model.encoders.image.downsampling", "stride"),
    ("model.encoders.text.cell", "gru"),
    ("model.fusion.self_attention", "True"),
    ("model.head.norm", "False"),
    ("model.head.pooling", "max"),
    ("training.accumulation_steps", "2"),
    ("loss.label_smoothing", "0.1"),
  ],
)
def test_what_the_twin_lacks_is_named(path, value):
  experiment = build(train_step.WITH_TWIN, f"{path}={value}")
  part = path.removeprefix("model.").removeprefix("encoders.")
  with pytest.raises(ValueError, match=rf"cannot follow \{{'{part}': .*teach"):
    mmjax_side.read_settings(experiment)
