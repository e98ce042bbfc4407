"""Every fusion is held to the contract, and compared with the others."""

import importlib
import inspect
import pathlib
import pkgutil

import fiddle as fdl
import flax.linen as nn
import pytest
from cases_catalogue import CASES

import mmjax.fusion
from experiments.comparisons.fusions import make_fusions

TESTS = pathlib.Path(__file__).resolve().parent.parent
FILES = [module.name for module in pkgutil.iter_modules(mmjax.fusion.__path__)]
ADD_CASE = "add a case to one of " + ", ".join(
  sorted(f"tests/{p.name}" for p in TESTS.glob("cases_*.py"))
)
IN_CASES = {type(case.make(2)) for case in CASES.values()}
COMPARED = {fdl.get_callable(c) for c in make_fusions("image").values()}


def find_fusions(file):
  """The public modules of a file that map the tokens of all modalities."""
  module = importlib.import_module(f"mmjax.fusion.{file}")
  return [
    cls
    for name, cls in inspect.getmembers(module, inspect.isclass)
    if cls.__module__ == module.__name__
    and not name.startswith("_")
    and issubclass(cls, nn.Module)
    and list(inspect.signature(cls.__call__).parameters)
    == ["self", "tokens", "train"]
  ]


@pytest.mark.parametrize("file", FILES)
def test_every_fusion_is_held_to_the_contract(file):
  fusions = find_fusions(file)
  assert fusions, f"mmjax/fusion/{file}.py has no fusion: move it to mmjax/nn/"
  for cls in fusions:
    assert cls in IN_CASES, f"{cls.__name__} has no case: {ADD_CASE}"


@pytest.mark.parametrize("name", CASES)
def test_every_fusion_is_compared_or_says_why_not(name):
  case = CASES[name]
  cls = type(case.make(2))
  if cls in COMPARED:
    assert case.not_compared is None, f"{cls.__name__} is compared after all"
  else:
    assert case.not_compared, (
      f"{cls.__name__} is not among experiments/comparisons/fusions.py: add it"
      f" there, or say why not as `not_compared` of the case {name!r}"
    )


def test_everything_compared_is_held_to_the_contract():
  missing = {cls.__name__ for cls in COMPARED - IN_CASES}
  assert not missing, ADD_CASE


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_tried_with_one_to_five_modalities(name):
  assert list(CASES[name].counts) == [1, 2, 3, 4, 5]
