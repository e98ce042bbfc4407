"""The settings of a Fiddle configuration, by dotted path, with their types.

A configuration is a tree of `fdl.Config`s of dataclasses (linen modules are
dataclasses) with dicts, lists and tuples between them. A setting is a leaf of
that tree: `training.num_steps`, `model.encoders.image.width`. Fiddle does not
look at type hints; here a value is checked against the hint of its field, with
bools and ints kept apart and ints admitted where floats are expected.
"""

import collections.abc
import dataclasses
import functools
import inspect
import operator
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import fiddle as fdl
import typeguard

_SCALARS = (bool, int, float, str, type(None))


class ConfigError(ValueError):
  """A configuration or a change of it is wrong; the message is a sentence."""


class PartName(str):
  """The class of a part of a configuration; printed without quotes."""

  def __repr__(self) -> str:
    return str(self)


@dataclasses.dataclass(frozen=True)
class Setting:
  """One place in a configuration.

  Attributes:
    value: a plain value, or the `PartName` of the config that is there.
    hint: type that a value here must have.
    owner: the `fdl.Config` or dict that holds it.
    key: its field or key in `owner`.
  """

  value: Any
  hint: Any
  owner: Any
  key: str


def list_settings(buildable: fdl.Buildable) -> dict[str, Setting]:
  """Returns `{path: setting}`, parts before what they hold.

  Fields that were not set have their default, or are left out if that is no
  plain value, such as an initialiser. The `parent` of a linen module
  is left out, and so is its `name` unless the config sets it.

  Raises:
    ConfigError: something in the tree is neither a config of a dataclass, nor
      a dict with string keys, a list, a tuple, a string, a number or None; or
      a field has no value.
  """
  settings: dict[str, Setting] = {}
  _check_part(buildable, "the configuration")
  for name, value, hint in _iterate_fields(buildable, ""):
    settings.update(_walk(value, name, hint, buildable, name))
  return settings


def check_types(settings: Mapping[str, Setting]) -> None:
  """Checks every setting against its type hint.

  Raises:
    ConfigError: naming path, expected type and value.
  """
  for path, setting in settings.items():
    if isinstance(setting.value, PartName):
      part = _get_child(setting.owner, setting.key)
      found, wanted = part.__fn_or_cls__, get_options(setting.hint)
      classes = tuple(o for o in wanted if isinstance(o, type) and o is not Any)
      if len(classes) == len(wanted) and not issubclass(found, classes):
        raise ConfigError(
          f"{path} must be {show_type(setting.hint)}, got {found.__name__}"
        )
    elif not conforms(setting.value, setting.hint):
      raise ConfigError(describe_type_error(path, setting.hint, setting.value))


def describe_type_error(path: str, hint: Any, value: Any) -> str:
  """Returns the sentence that says why `value` cannot stand at `path`."""
  kind = type(value).__name__
  return f"{path} must be {show_type(hint)}, got {value!r} ({kind})"


def conforms(value: Any, hint: Any) -> bool:
  """Says whether a value has a type; unlike in Python, a bool is no int."""
  try:
    typeguard.check_type(
      _mark_bools(value),
      _mark_bool_hints(hint),
      collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS,
    )
  except typeguard.TypeCheckError:
    return False
  return True


def show_type(hint: Any) -> str:
  """Returns a type hint as one would write it, without module names."""
  return re.sub(r"(\w+\.)+(?=\w)", "", inspect.formatannotation(hint))


def is_linen(cls: type) -> bool:
  """Says whether a class is a linen module, without importing flax."""
  return any(
    base.__name__ == "Module" and base.__module__ == "flax.linen.module"
    for base in cls.__mro__
  )


def _walk(
  value: Any, path: str, hint: Any, owner: Any, key: Any
) -> Iterator[tuple[str, Setting]]:
  """Yields what is at `path` and below."""
  if isinstance(value, fdl.Buildable):
    _check_part(value, path)
    name = PartName(value.__fn_or_cls__.__name__)
    yield path, Setting(name, hint, owner, key)
    for field, child, child_hint in _iterate_fields(value, path):
      yield from _walk(child, f"{path}.{field}", child_hint, value, field)
  elif type(value) is dict and value:
    child_hint = _get_item_hint(hint, collections.abc.Mapping)
    for field, child in value.items():
      if not isinstance(field, str):
        raise ConfigError(f"{path} has a key that is no string: {field!r}")
      yield from _walk(child, f"{path}.{field}", child_hint, value, field)
  elif type(value) in (list, tuple) and not _is_plain(value):
    child_hint = _get_item_hint(hint, collections.abc.Sequence)
    for index, child in enumerate(value):
      yield from _walk(child, f"{path}.{index}", child_hint, value, index)
  elif _is_plain(value):
    yield path, Setting(value, hint, owner, key)
  else:
    raise ConfigError(
      f"{path} is a {type(value).__name__}; a configuration holds dataclasses, "
      "dicts, lists, tuples, strings, numbers and None"
    )


def _iterate_fields(
  config: fdl.Buildable, path: str
) -> Iterator[tuple[str, Any, Any]]:
  """Yields name, value or default, and type hint of a config's fields."""
  cls = config.__fn_or_cls__
  arguments = config.__arguments__
  fields = {
    field.name: field for field in dataclasses.fields(cls) if field.init
  }
  hidden = ("parent", "name") if is_linen(cls) else ()
  prefix = f"{path}." if path else ""
  for name in arguments:
    if name not in fields or (name == "parent" and hidden):
      raise ConfigError(
        f"{prefix}{name} is set, but {cls.__name__} has no such setting"
      )
  for name, field in fields.items():
    if name in arguments:
      value = arguments[name]
    elif name in hidden:
      continue
    elif field.default is not dataclasses.MISSING:
      value = field.default
    elif field.default_factory is not dataclasses.MISSING:
      value = field.default_factory()
    else:
      raise ConfigError(f"{prefix}{name} has no value; {cls.__name__} needs it")
    if name in arguments or _is_plain(value):
      yield name, value, _get_field_hint(cls, field)


def _check_part(config: Any, path: str) -> None:
  if type(config) is not fdl.Config or any(config.__argument_tags__.values()):
    raise ConfigError(f"{path} is not a plain fdl.Config of a dataclass")
  cls = config.__fn_or_cls__
  if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
    name = getattr(cls, "__name__", repr(cls))
    raise ConfigError(f"{path} is made by {name}, which is not a dataclass")


def _get_child(owner: Any, key: Any) -> Any:
  return getattr(owner, key) if isinstance(owner, fdl.Config) else owner[key]


def _is_plain(value: Any) -> bool:
  """Says whether a value is a scalar or holds nothing but scalars."""
  if type(value) is dict:
    return all(type(key) is str for key in value) and all(
      _is_plain(item) for item in value.values()
    )
  if type(value) in (list, tuple):
    return all(_is_plain(item) for item in value)
  return type(value) in _SCALARS


def _get_field_hint(cls: type, field: dataclasses.Field[Any]) -> Any:
  """Returns a field's type hint; hints written as strings are looked up."""
  if not isinstance(field.type, str):
    return field.type
  for base in cls.__mro__:
    if field.name in inspect.get_annotations(base):
      names = {**vars(sys.modules[base.__module__])}
      holder = types.SimpleNamespace(__annotations__={"hint": field.type})
      try:
        return typing.get_type_hints(holder, names)["hint"]
      except NameError:
        break  # known to type checkers only
  return Any


def _get_item_hint(hint: Any, kind: type) -> Any:
  """Returns the type of the items of a mapping or sequence type."""
  for option in get_options(hint):
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if isinstance(origin, type) and issubclass(origin, kind) and arguments:
      last = arguments[-1]
      return arguments[0] if last is Ellipsis else last
  return Any


def get_options(hint: Any) -> tuple[Any, ...]:
  """Returns the members of a union, or the hint alone."""
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    return typing.get_args(hint)
  return (hint,)


class _Bool:
  """Stands for bool in a type check, because bool is a subclass of int."""


def _mark_bools(value: Any) -> Any:
  if isinstance(value, bool):
    return _Bool()
  if type(value) is dict:
    return {key: _mark_bools(item) for key, item in value.items()}
  if type(value) in (list, tuple):
    return type(value)(_mark_bools(item) for item in value)
  return value


def _mark_bool_hints(hint: Any) -> Any:
  if hint is bool:
    return _Bool
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return functools.reduce(operator.or_, map(_mark_bool_hints, arguments))
  if isinstance(origin, type) and issubclass(
    origin, (collections.abc.Mapping, collections.abc.Sequence)
  ):
    return origin[tuple(map(_mark_bool_hints, arguments))]
  return hint
