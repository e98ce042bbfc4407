"""Configurations as text, and back without running anybody's code.

A saved configuration names Python classes, and loading imports them, so a
hostile file could name anything: `os:system` would do. Admitted are dataclasses
defined in mmjax, by undotted name, and Fiddle's own `Config` with dicts, lists
and tuples: never a function, never an object that a module merely imported.
All names in the file are judged before the first of them is imported, all
values before any is built. A package prefix alone would not do, because
packages import dangerous things under their own names.
"""

import copy
import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import fiddle as fdl
from fiddle.experimental import serialization

from mmjax.config_tree import ConfigError, check_types, list_settings

_OWN_PACKAGE = "mmjax"
_CONTAINERS = {
  ("builtins", "dict"),
  ("builtins", "list"),
  ("builtins", "tuple"),
  ("fiddle._src.config", "Config"),
  ("fiddle._src.config", "BuildableTraverserMetadata"),
}
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def dump(buildable: fdl.Buildable) -> str:
  """Returns a configuration as JSON text, with the defaults written out.

  So a checkpoint keeps its meaning when a default changes later.

  Raises:
    ConfigError: the configuration could not be loaded again: a value or a
      part is of a kind that is not admitted, or of a wrong type.
  """
  buildable = copy.deepcopy(buildable)
  settings = list_settings(buildable)
  check_types(settings)
  for setting in settings.values():
    if isinstance(setting.owner, fdl.Config):
      unset = setting.key not in setting.owner.__arguments__
      if unset:
        setattr(setting.owner, setting.key, setting.value)
  try:
    return serialization.dump_json(buildable, _DumpPolicy())
  except serialization.PyrefPolicyError as error:
    raise ConfigError(
      f"{error.module}:{error.symbol} cannot be kept in a checkpoint; use a "
      "dataclass defined at the top of a module that can be imported"
    ) from error


def load(text: str, *, trust: Sequence[str] = ()) -> fdl.Buildable:
  """Makes a configuration from the text that `dump` returned.

  Args:
    text: the JSON; it may come from anybody.
    trust: packages whose dataclasses are admitted too. They are imported,
      which runs their code.

  Raises:
    ConfigError: the text names something that is not admitted, or is not a
      configuration that this version of mmjax can build.
  """
  try:
    references = list(_iterate_references(json.loads(text)))
    policy = _LoadPolicy(trust)
    for module, name in references:
      if not policy.allows_import(module, name):
        raise ConfigError(_describe_refusal(module, name))
    buildable = serialization.load_json(text, policy)
    check_types(list_settings(buildable))
  except ConfigError:
    raise
  except serialization.PyrefPolicyError as error:
    raise ConfigError(_describe_refusal(error.module, error.symbol)) from error
  except Exception as error:
    first, *_ = str(error).strip().splitlines() or [""]
    raise ConfigError(
      "the saved configuration cannot be read by this version of mmjax "
      f"({type(error).__name__}: {first[:200]})"
    ) from error
  return buildable


class _LoadPolicy(serialization.PyrefPolicy):
  """Admits dataclasses defined in mmjax and in trusted packages."""

  def __init__(self, trust: Sequence[str]):
    self._packages = (_OWN_PACKAGE, *trust)
    self._asked = ("", "")

  def allows_import(self, module: Any, symbol: Any) -> bool:
    """Judges a name; nothing is imported if this returns False."""
    self._asked = (module, symbol)
    if self._asked in _CONTAINERS:
      return True
    return (
      isinstance(module, str)
      and isinstance(symbol, str)
      and _MODULE.fullmatch(module) is not None
      and _NAME.fullmatch(symbol) is not None
      and any(f"{module}.".startswith(f"{p}.") for p in self._packages)
    )

  def allows_value(self, value: Any) -> bool:
    """Judges what the name that was asked for last refers to."""
    return self._asked in _CONTAINERS or _is_defined_at(value, *self._asked)


class _DumpPolicy(serialization.PyrefPolicy):
  """Admits dataclasses of any package, if they can be found by name."""

  def allows_import(self, module: str, symbol: str) -> bool:
    return module != "__main__" and _NAME.fullmatch(symbol) is not None

  def allows_value(self, value: Any) -> bool:
    return (
      isinstance(value, type)
      and (value.__module__, value.__qualname__) in _CONTAINERS
    ) or _is_defined_at(
      value,
      getattr(value, "__module__", ""),
      getattr(value, "__qualname__", ""),
    )


def _is_defined_at(value: Any, module: str, name: str) -> bool:
  """Says whether a value is a dataclass that a module itself defines."""
  return (
    isinstance(value, type)
    and dataclasses.is_dataclass(value)
    and value.__module__ == module
    and value.__qualname__ == name
    and _NAME.fullmatch(name) is not None
    and getattr(sys.modules.get(module), name, None) is value
  )


def _iterate_references(document: Any) -> Iterator[tuple[Any, Any]]:
  """Yields module and name of every Python reference in a document."""
  pending = [document]
  while pending:
    node = pending.pop()
    if isinstance(node, list):
      pending.extend(node)
    elif isinstance(node, dict):
      pending.extend(node.values())
      if node.get("type") == "pyref":
        yield node.get("module"), node.get("name")


def _describe_refusal(module: Any, name: Any) -> str:
  package = str(module).partition(".")[0]
  advice = f"pass --trust {package} if that is a package of yours"
  if not _NAME.fullmatch(package) or package in (
    _OWN_PACKAGE,
    "builtins",
    "fiddle",
  ):
    advice = "do not use this file if you do not know who wrote it"
  reference = ascii(f"{module}:{name}")[:100]
  return (
    f"the saved configuration names {reference}, which is not a dataclass "
    f"defined in mmjax, so nothing was loaded; {advice}"
  )
