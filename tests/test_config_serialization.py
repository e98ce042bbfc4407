"""Configurations to text and back."""

import dataclasses

import fiddle as fdl
import pytest
from fiddle.experimental.auto_config import auto_config

from mmjax.config import ConfigError, difference, dump, flatten, load
from mmjax.encoders.image import GridEncoder
from mmjax.fusion.concat import Concat
from mmjax.heads.classifier import Classifier
from mmjax.models.multimodal import MultimodalModel


@auto_config
def small_model():
  return MultimodalModel(
    encoders={"image": GridEncoder(features=(3, 5), width=7)},
    fusion=Concat(width=7),
    head=Classifier(num_classes=11),
  )


@pytest.fixture
def config():
  return small_model.as_buildable()


def test_round_trip(config):
  text = dump(config)
  again = load(text)
  assert difference(config, again) == []
  assert flatten(again) == flatten(config)
  assert fdl.build(again) == fdl.build(config)
  assert dump(again) == text


def test_defaults_are_written_out(config):
  assert "max" not in config.head.__arguments__
  text = dump(config)
  assert "dropout_rate" not in config.head.__arguments__  # a copy was dumped
  assert load(text).head.__arguments__["dropout_rate"] == 0.0


def test_a_cut_text_is_refused(config):
  text = dump(config)
  for cut in range(0, len(text) - 1, 97):
    with pytest.raises(ConfigError):
      load(text[:cut])


class Local:
  """Functions and classes that a checkpoint could not find again."""

  @dataclasses.dataclass
  class Inner:
    width: int = 3


def make_inner():
  @dataclasses.dataclass
  class Lost:
    width: int = 3

  return Lost


def test_dump_refuses_what_load_could_not_read(config):
  for cls in (Local.Inner, make_inner()):
    with pytest.raises(ConfigError, match="cannot be kept in a checkpoint"):
      dump(fdl.Config(cls, width=5))
  config.encoders["image"].width = "wide"
  with pytest.raises(ConfigError, match="width must be int, got 'wide'"):
    dump(config)
  config.encoders["image"].width = object()
  with pytest.raises(ConfigError, match="width is a object; a configuration"):
    dump(config)
