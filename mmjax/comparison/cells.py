"""The cells of a comparison, a method on a setting each, kept as they are done.

A cell is a folder: `config.json` is its configuration, `facts.json` what does
not depend on the seed, `seed-K.json` what seed K reached. A file is written
whole or not at all, so a run that was stopped goes on where it was.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import fiddle as fdl
from fiddle import daglish

from mmjax import config as config_lib
from mmjax.comparison.seeds import SeedResult

# Settings that the number of a seed decides.
SEED_PATHS = ("seed", "data.seed")


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Methods and settings to compare, and what is known of them.

  Attributes:
    name: its name on the command line.
    claim: one line on what it compares.
    methods: for each method a function (setting=..., seed=...) that gives the
      configuration of an `Experiment`.
    settings: the data that every method is tried on, by name.
    baseline: the method that all others are held against.
    single: methods that see one modality only; the best of the others is held
      against the best of these.
    fresh_test_rows: whether each seed has a test split of its own, as data have
      that it generates; else all share one.
    ceilings: the highest accuracy that any method can reach, by setting.
    published: accuracies that others report, by method and setting.
    source: where those are from.
  """

  name: str
  claim: str
  methods: Mapping[str, Callable[..., fdl.Buildable]]
  settings: tuple[str, ...]
  baseline: str
  single: tuple[str, ...] = ()
  fresh_test_rows: bool = False
  ceilings: Mapping[str, float] = dataclasses.field(default_factory=dict)
  published: Mapping[str, Mapping[str, float]] = dataclasses.field(
    default_factory=dict
  )
  source: str = ""

  def __post_init__(self) -> None:
    """Checks that the baseline and the single ones are methods.

    Raises:
      ValueError: they are not.
    """
    for method in (self.baseline, *self.single):
      if method not in self.methods:
        raise ValueError(
          f"comparison {self.name!r}: {method!r}, named as baseline or single, "
          f"is none of the methods {', '.join(self.methods)}"
        )

  def configure(
    self, setting: str, method: str, seed: int, overrides: Sequence[str] = ()
  ) -> fdl.Buildable:
    """Returns the configuration of one run.

    Args:
      setting: name of the data.
      method: name of the method.
      seed: number of the seed.
      overrides: `path=value` changes.

    Raises:
      ConfigError: no such path or a wrong value.
    """
    config = self.methods[method](setting=setting, seed=seed)
    return config_lib.apply_overrides(config, overrides)


@dataclasses.dataclass(frozen=True)
class CellResult:
  """What a method reached on a setting.

  Attributes:
    setting: the data.
    method: the method.
    parameters: number of parameters.
    flops: floating-point operations of the forward pass of one example.
    seeds: one result for each seed that is done, by its number.
    changes: what was set otherwise than the comparison does.
  """

  setting: str
  method: str
  parameters: int
  flops: int
  seeds: tuple[SeedResult, ...]
  changes: Sequence[str] = ()


class CellFolder:
  """The files of a cell.

  Attributes:
    setting: the data.
    method: the method.
  """

  def __init__(
    self, workdir: str | os.PathLike[str], setting: str, method: str
  ):
    self.setting, self.method = setting, method
    self._path = pathlib.Path(workdir) / "cells" / setting / method

  def check(self, config: fdl.Buildable) -> None:
    """Refuses a folder that holds another configuration.

    Raises:
      ConfigError: it does; the message names what differs.
    """
    if not self.done():
      return
    text = (self._path / "config.json").read_text(encoding="utf-8")
    saved = config_lib.load(text, trust=_packages_of(config))
    changes = config_lib.difference(saved, config, ignore=SEED_PATHS)
    if changes:
      raise config_lib.ConfigError(
        f"{self._path} was made with other settings ({'; '.join(changes)}); "
        "take the changes back, or choose another --workdir"
      )

  def start(self, config: fdl.Buildable, facts: Mapping[str, Any]) -> None:
    """Writes what does not depend on the seed."""
    self._path.mkdir(parents=True, exist_ok=True)
    _write(self._path / "facts.json", json.dumps(facts))
    _write(self._path / "config.json", config_lib.dump(config))

  def done(self) -> list[int]:
    """Returns the seeds that are done, in order."""
    paths = self._path.glob("seed-*.json")
    return sorted(int(path.stem.removeprefix("seed-")) for path in paths)

  def write(self, result: SeedResult) -> None:
    """Keeps what a seed reached."""
    text = json.dumps(dataclasses.asdict(result))
    _write(self._path / f"seed-{result.seed}.json", text)

  def read(self) -> CellResult | None:
    """Returns the cell with all seeds that are done; None without any.

    Raises:
      ConfigError: a file of another version of this program.
    """
    if not (seeds := self.done()):
      return None
    try:
      return CellResult(
        setting=self.setting,
        method=self.method,
        seeds=tuple(SeedResult(**self._load(f"seed-{k}.json")) for k in seeds),
        **self._load("facts.json"),
      )
    except TypeError as error:
      raise config_lib.ConfigError(
        f"{self._path} was written by another version of mmjax ({error}); "
        "choose another --workdir"
      ) from error

  def _load(self, name: str) -> dict[str, Any]:
    return json.loads((self._path / name).read_text(encoding="utf-8"))


def load_cells(
  comparison: Comparison, workdir: str | os.PathLike[str]
) -> list[CellResult]:
  """Reads all cells that have a seed done, method by method in a setting."""
  found = [
    CellFolder(workdir, setting, method).read()
    for setting in comparison.settings
    for method in comparison.methods
  ]
  return [cell for cell in found if cell is not None]


def _packages_of(config: fdl.Buildable) -> list[str]:
  """Lists the packages whose classes a configuration of ours names."""
  parts = [fdl.get_callable(part) for part in _buildables(config)]
  return sorted({part.__module__.partition(".")[0] for part in parts})


def _buildables(config: fdl.Buildable) -> Iterator[fdl.Buildable]:
  for value, _ in daglish.iterate(config):
    if isinstance(value, fdl.Buildable):
      yield value


def _write(path: pathlib.Path, text: str) -> None:
  """Writes a file whole or not at all."""
  new = path.with_name(path.name + ".new")
  new.write_text(text + "\n", encoding="utf-8")
  os.replace(new, path)
