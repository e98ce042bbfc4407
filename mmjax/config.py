"""The configuration of an experiment: change it, show it, compare and keep it.

An experiment is a function decorated with Fiddle's `auto_config` that returns
an `Experiment`. What this module handles is its `as_buildable()`: the same
call tree, not yet called. Paths and types are those of `mmjax/config_tree.py`,
the text is that of `mmjax/config_serialization.py`.

  config = build_config(easy_vqa_graph, ["width=32", "training.num_steps=500"])
  experiment = fdl.build(config)
"""

import ast
import copy
import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import fiddle as fdl

from mmjax.config_serialization import dump, load
from mmjax.config_tree import (
  ConfigError,
  PartName,
  Setting,
  check_types,
  conforms,
  describe_type_error,
  get_options,
  list_settings,
  show_type,
)

__all__ = [
  "ConfigError",
  "apply_overrides",
  "build_config",
  "difference",
  "dump",
  "flatten",
  "load",
  "unknown_name",
]

_WORDS = {"true": True, "false": False, "none": None, "null": None}


def build_config(
  config_fn: Callable[..., Any], overrides: Sequence[str] = ()
) -> fdl.Buildable:
  """Makes the configuration that an experiment's function describes.

  Args:
    config_fn: a function decorated with `auto_config`.
    overrides: `path=value` strings. Where the path is a parameter of
      `config_fn`, the function is called with the value, so everything that
      it derives from the parameter follows. Others change the resulting tree.

  Returns:
    The configuration, all of whose values have the types of their fields.

  Raises:
    ConfigError: see `apply_overrides`.
  """
  parameters = _list_parameters(config_fn)
  arguments, others = {}, []
  for override in overrides:
    path, text = _split(override)
    if path in parameters:
      arguments[path] = _parse(path, text, parameters[path].hint)
    else:
      others.append((path, text))
  buildable = config_fn.as_buildable(**arguments)
  check_types(list_settings(buildable))
  return _apply(buildable, others, parameters)


def apply_overrides(
  buildable: fdl.Buildable, overrides: Sequence[str]
) -> fdl.Buildable:
  """Returns a copy of a configuration with some settings changed.

  A part that the configuration uses in two places is changed in both.

  Args:
    buildable: the configuration.
    overrides: strings `path=value`, applied in order. The value is a Python
      literal, or text without quotes; whichever has the setting's type.

  Raises:
    ConfigError: there is no such setting (the message names the nearest one
      and its type), or the value has another type than its field.
  """
  buildable = copy.deepcopy(buildable)
  return _apply(buildable, [_split(text) for text in overrides], {})


def flatten(buildable: fdl.Buildable) -> dict[str, Any]:
  """Returns `{path: value}` of all settings, defaults included.

  The path of a part, such as `model.fusion`, has the name of its class.
  """
  settings = list_settings(buildable)
  return {path: setting.value for path, setting in settings.items()}


def difference(
  saved: fdl.Buildable, new: fdl.Buildable, *, ignore: Iterable[str] = ()
) -> list[str]:
  """Returns one phrase for each setting in which two configurations differ.

  Args:
    saved: the one that a run was started with.
    new: the one it is compared with.
    ignore: paths that may differ, each with all below it.
  """
  ignored = tuple(ignore)
  before, after = flatten(saved), flatten(new)
  phrases = []
  for path in dict.fromkeys([*before, *after]):
    if any(path == other or path.startswith(f"{other}.") for other in ignored):
      continue
    if path not in after:
      phrases.append(f"{path} was {before[path]!r}, now there is none")
    elif path not in before:
      phrases.append(f"{path} was not there, now {after[path]!r}")
    elif not _is_same(before[path], after[path]):
      phrases.append(f"{path} was {before[path]!r}, now {after[path]!r}")
  return phrases


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
  """Returns the error that says which known name is the nearest."""
  names = list(known)
  return ConfigError(
    f"there is no {kind} {name!r}; did you mean {_find_nearest(name, names)!r}"
    f" (one of {', '.join(names)})?"
  )


def _apply(
  buildable: fdl.Buildable,
  overrides: Iterable[tuple[str, str]],
  parameters: dict[str, Setting],
) -> fdl.Buildable:
  """Changes settings in place."""
  for path, text in overrides:
    settings = list_settings(buildable)
    if path not in settings:
      known = {**parameters, **settings}
      raise ConfigError(
        f"there is no setting {path!r}; {_suggest(path, known)}"
      )
    setting = settings[path]
    if isinstance(setting.value, PartName):
      below = [name for name in settings if name.startswith(f"{path}.")]
      raise ConfigError(
        f"{path} is a {setting.value} and not a single value; set what is in "
        f"it, such as {below[0] if below else 'its parts'!r}, or choose "
        "another experiment"
      )
    value = _parse(path, text, setting.hint)
    if isinstance(setting.owner, fdl.Config):
      setattr(setting.owner, setting.key, value)
    elif isinstance(setting.owner, dict | list):
      setting.owner[setting.key] = value
    else:
      raise ConfigError(f"{path} is inside a tuple and cannot be set alone")
  return buildable


def _list_parameters(config_fn: Callable[..., Any]) -> dict[str, Setting]:
  """Returns the parameters of a function; their type may be the default's."""
  parameters = {}
  for name, parameter in inspect.signature(config_fn).parameters.items():
    hint, default = parameter.annotation, parameter.default
    if hint is parameter.empty or isinstance(hint, str):
      known = default is not parameter.empty and default is not None
      hint = type(default) if known else Any
    parameters[name] = Setting(default, hint, config_fn, name)
  return parameters


def _split(override: str) -> tuple[str, str]:
  path, equals, text = override.partition("=")
  if not equals or not path.strip():
    raise ConfigError(
      f"a change is written path=value, such as training.num_steps=500, got "
      f"{override!r}"
    )
  return path.strip(), text.strip()


def _parse(path: str, text: str, hint: Any) -> Any:
  """Returns the reading of a text that has the type of the hint."""
  readings: list[Any] = []
  try:
    literal = ast.literal_eval(text)
    readings.append(literal)
    if isinstance(literal, list):
      readings.append(tuple(literal))
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    pass
  if text.lower() in _WORDS:
    readings.append(_WORDS[text.lower()])
  readings.append(text)
  for value in readings:
    if conforms(value, hint):
      # An int where only floats are expected becomes one.
      options = get_options(hint)
      to_float = type(value) is int and float in options and int not in options
      return float(value) if to_float else value
  raise ConfigError(describe_type_error(path, hint, readings[0]))


def _suggest(path: str, known: dict[str, Setting]) -> str:
  """Returns a question that names the nearest setting, its type and value."""
  values = [
    name for name, s in known.items() if not isinstance(s.value, PartName)
  ]
  nearest = _find_nearest(path, values)
  setting = known[nearest]
  return (
    f"did you mean {nearest!r} ({show_type(setting.hint)}, now "
    f"{setting.value!r})?"
  )


def _find_nearest(name: str, names: list[str]) -> str:
  return difflib.get_close_matches(name, names, n=1, cutoff=0)[0]


def _is_same(a: Any, b: Any) -> bool:
  """Compares two values; True is not 1, a list is not a tuple."""
  return repr(a) == repr(b) or (a == b and {type(a), type(b)} == {int, float})
