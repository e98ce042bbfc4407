"""Changing, showing and comparing configurations, on small parts of our own."""

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Literal

import fiddle as fdl
import flax.linen as nn
import pytest
from fiddle.experimental.auto_config import auto_config

from mmjax.config import (
  ConfigError,
  apply_overrides,
  build_config,
  difference,
  flatten,
  unknown_name,
)


class Encoder(nn.Module):
  width: int = 8
  features: tuple[int, ...] = (3, 5)
  cell: str | None = None
  rate: float = 0.5
  bidirectional: bool = True
  kind: Literal["grid", "patch"] = "grid"
  note: str = ""
  flags: tuple[bool, ...] = ()
  size: int | float = 7
  anything: Any = None
  kernel_init: Any = nn.initializers.lecun_normal()


class Model(nn.Module):
  encoders: Mapping[str, nn.Module]
  fusion: "nn.Module | None" = None
  layers: tuple[nn.Module, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
  num_steps: int
  weights: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: {"image": 0.25, "text": 0.75}
  )


@dataclasses.dataclass(frozen=True)
class Run:
  name: str
  model: nn.Module
  plan: Plan
  seed: int = 0


@auto_config
def small_run(width: int = 11, num_steps=7, seed: int = 0):
  """A run of two encoders."""
  return Run(
    name="small",
    model=Model(
      encoders={
        "image": Encoder(width=width),
        "text": Encoder(width=2 * width, features=(13,)),
      },
      fusion=Encoder(),
      layers=(Encoder(width=17),),
    ),
    plan=Plan(num_steps=num_steps, weights={"image": 0.5, "text": 0.5}),
    seed=seed,
  )


def change(*overrides):
  return fdl.build(build_config(small_run, overrides))


def test_flatten_shows_settings_defaults_and_parts():
  flat = flatten(build_config(small_run))
  assert flat["name"] == "small"
  assert flat["model.encoders.text.width"] == 22
  assert flat["model.encoders.text.rate"] == 0.5  # a default
  assert flat["model.encoders.text.features"] == (13,)
  assert flat["model.layers.0.width"] == 17
  assert flat["plan.weights.image"] == 0.5
  assert repr(flat["model.fusion"]) == "Encoder"
  assert not any(path.endswith((".parent", ".name")) for path in flat)
  assert not any(path.endswith("kernel_init") for path in flat)


def test_parameters_of_the_function_reach_all_that_they_decide():
  run = change("width=5", "num_steps=9", "model.fusion.width=3")
  assert run.model.encoders["image"].width == 5
  assert run.model.encoders["text"].width == 10
  assert run.model.fusion.width == 3
  assert run.plan.num_steps == 9


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("width=4", 4),
    ("rate=1", 1.0),
    ("rate=1e-3", 1e-3),
    ("size=1", 1),
    ("size=1.5", 1.5),
    ("cell=lstm", "lstm"),
    ("cell='lstm'", "lstm"),
    ("cell=None", None),
    ("cell=none", None),
    ("note=None", "None"),
    ("note=12", "12"),
    ("note=a=b", "a=b"),
    ("note=", ""),
    ("bidirectional=false", False),
    ("bidirectional=False", False),
    ("features=(2,)", (2,)),
    ("features=[2, 3]", (2, 3)),
    ("features=2,3", (2, 3)),
    ("flags=(True, False)", (True, False)),
    ("kind=patch", "patch"),
    ("anything=3", 3),
  ],
)
def test_a_value_gets_the_type_of_its_field(text, expected):
  value = getattr(
    change(f"model.encoders.image.{text}").model.encoders["image"],
    text.partition("=")[0],
  )
  assert value == expected
  assert type(value) is type(expected)


@pytest.mark.parametrize(
  ("override", "expected", "found"),
  [
    ("model.encoders.image.width=x", "int", "'x' (str)"),
    ("model.encoders.image.width=True", "int", "True (bool)"),
    ("model.encoders.image.width=1.0", "int", "1.0 (float)"),
    ("model.encoders.image.rate=True", "float", "True (bool)"),
    ("model.encoders.image.bidirectional=1", "bool", "1 (int)"),
    ("model.encoders.image.cell=(1,)x", "", ""),
    ("model.encoders.image.features=2", "tuple[int, ...]", "2 (int)"),
    ("model.encoders.image.features=(2,True)", "tuple[int, ...]", "(2, True)"),
    ("model.encoders.image.flags=(1,)", "tuple[bool, ...]", "(1,) (tuple)"),
    ("model.encoders.image.kind=cell", "Literal['grid', 'patch']", "'cell'"),
    ("plan.weights.image=heavy", "float", "'heavy' (str)"),
    ("width=wide", "int", "'wide' (str)"),
    ("num_steps=many", "int", "'many' (str)"),
    ("num_steps=False", "int", "False (bool)"),
  ],
)
def test_a_wrong_type_is_refused(override, expected, found):
  path = override.partition("=")[0]
  if not expected:  # any text is a str
    assert change(override).model.encoders["image"].cell == "(1,)x"
    return
  with pytest.raises(ConfigError) as error:
    build_config(small_run, [override])
  assert str(error.value).startswith(f"{path} must be {expected}, got {found}")


@pytest.mark.parametrize(
  ("path", "nearest"),
  [
    ("plan.num_step", "'plan.num_steps' (int, now 7)"),
    ("model.encoders.imag.width", "'model.encoders.image.width' (int, now 11)"),
    ("model.encoders.image.parent", "'model.encoders.image.rate'"),
    ("widht", "'width' (int, now 11)"),
    ("model.layers.1.width", "'model.layers.0.width'"),
    ("training.num_steps", "'plan.num_steps'"),
  ],
)
def test_an_unknown_path_names_the_nearest(path, nearest):
  with pytest.raises(ConfigError, match="there is no setting") as error:
    build_config(small_run, [f"{path}=3"])
  message = str(error.value)
  assert repr(path) in message
  if "parent" not in path:
    assert f"did you mean {nearest}" in message
  assert "\n" not in message


def test_a_part_cannot_be_set():
  with pytest.raises(ConfigError, match=r"model\.fusion is a Encoder and not"):
    build_config(small_run, ["model.fusion=Encoder"])
  with pytest.raises(ConfigError, match="is written path=value"):
    build_config(small_run, ["model.fusion.width"])
  with pytest.raises(ConfigError, match="is written path=value"):
    build_config(small_run, ["=3"])


def test_settings_inside_mappings_and_tuples_of_parts():
  run = change("plan.weights.text=2", "model.layers.0.width=19")
  assert run.plan.weights == {"image": 0.5, "text": 2.0}
  assert run.model.layers[0].width == 19


def test_apply_overrides_leaves_its_argument_alone():
  before = small_run.as_buildable()
  after = apply_overrides(before, ["seed=3", "seed=5", "plan.num_steps=1"])
  assert (before.seed, before.plan.num_steps) == (0, 7)
  assert (after.seed, after.plan.num_steps) == (5, 1)
  with pytest.raises(ConfigError, match="no setting 'width'"):
    apply_overrides(before, ["width=3"])  # a parameter is no setting


@auto_config
def wrong_type():
  return Plan(num_steps=True)


@auto_config
def wrong_part():
  return Run(name="wrong", model=Plan(num_steps=3), plan=Plan(num_steps=3))


def name_steps():
  return 3


@auto_config
def opaque():
  return Plan(num_steps=name_steps())


def test_a_wrong_config_function_is_refused():
  with pytest.raises(ConfigError, match="num_steps must be int, got True"):
    build_config(wrong_type)
  with pytest.raises(ConfigError, match="model must be Module, got Plan"):
    build_config(wrong_part)
  with pytest.raises(ConfigError, match="name_steps, which is not a dataclass"):
    build_config(opaque)


def test_difference_names_what_changed_and_nothing_else():
  saved = build_config(small_run)
  assert difference(saved, build_config(small_run)) == []
  new = build_config(small_run, ["plan.num_steps=8", "seed=1"])
  assert difference(saved, new) == [
    "plan.num_steps was 7, now 8",
    "seed was 0, now 1",
  ]
  assert difference(saved, new, ignore=["plan", "see"]) == ["seed was 0, now 1"]
  assert difference(saved, new, ignore=["plan.num_steps", "seed"]) == []


def test_difference_sees_types_parts_and_missing_settings():
  saved, new = build_config(small_run), build_config(small_run)
  new.seed = False
  new.model.fusion = fdl.Config(Plan, num_steps=3, weights={})
  del new.model.encoders["text"]
  phrases = difference(saved, new)
  assert "seed was 0, now False" in phrases
  assert "model.fusion was Encoder, now Plan" in phrases
  assert "model.fusion.width was 8, now there is none" in phrases
  assert "model.fusion.num_steps was not there, now 3" in phrases
  assert "model.encoders.text.width was 22, now there is none" in phrases
  new = build_config(small_run, ["model.encoders.image.size=7.0"])
  assert difference(saved, new) == []  # 7 is 7.0


def test_unknown_name_lists_the_known():
  message = str(unknown_name("experiment", "smal", ["large", "small"]))
  assert message == (
    "there is no experiment 'smal'; did you mean 'small' (one of large, small)?"
  )


def test_importing_config_is_cheap():
  code = (
    "import sys, mmjax.config; "
    "print({'orbax', 'jax', 'flax', 'tensorflow_datasets'} & set(sys.modules))"
  )
  result = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == "set()"
