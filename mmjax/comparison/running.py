"""Trains the cells of a comparison that are not done yet."""

import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence

import fiddle as fdl

from mmjax import config as config_lib
from mmjax.comparison.cells import (
  SEED_PATHS,
  CellFolder,
  CellResult,
  Comparison,
)
from mmjax.comparison.program import count_flops, count_parameters
from mmjax.comparison.seeds import train_seeds
from mmjax.training.progress import Progress


def run_comparison(
  comparison: Comparison,
  workdir: str | os.PathLike[str],
  progress: Progress,
  *,
  methods: Sequence[str],
  settings: Sequence[str],
  num_seeds: int,
  overrides: Sequence[str] = (),
  mapped: bool | None = None,
) -> Iterator[CellResult]:
  """Trains what is not done yet, and keeps it.

  All cells of the work directory are looked at before any is trained. A cell
  that cannot be trained does not stop the others.

  Args:
    comparison: what is compared.
    workdir: where the cells are kept.
    progress: shows cells and time left.
    methods: names of methods.
    settings: names of settings.
    num_seeds: seeds 0, 1, ... of each cell.
    overrides: `path=value` changes of every configuration.
    mapped: see `train_seeds`.

  Yields:
    Each cell as it is done, those that were done before included; all settings
    of a method in a row, since they share one compiled program.

  Raises:
    ConfigError: no such path, a seed set by hand, or a cell that was done with
      other settings.
    FloatingPointError: after all others, the cells that became not finite.
  """
  _check_overrides(comparison, overrides)
  _check_workdir(comparison, workdir, methods, settings, overrides)
  folders = [
    CellFolder(workdir, setting, method)
    for method in methods
    for setting in settings
  ]
  missing = [sorted({*range(num_seeds)} - {*f.done()}) for f in folders]
  clock = _Clock(len(folders), sum(map(len, missing)))
  failures = []
  for folder, seeds in zip(folders, missing, strict=True):
    if seeds:
      name = f"{folder.method} on {folder.setting}"
      configs = {
        seed: comparison.configure(
          folder.setting, folder.method, seed, overrides
        )
        for seed in seeds
      }
      try:
        with progress.phase(f"{clock.describe_next()}  {name}"):
          plain = comparison.configure(folder.setting, folder.method, 0)
          _run_cell(folder, plain, configs, mapped)
      except FloatingPointError as error:
        failures.append(f"{name}, {error}")
        progress.message(f"failed: {failures[-1]}")
    clock.advance(len(seeds))
    cell = folder.read()
    if cell is not None:
      if seeds:
        progress.message(f"{clock.describe_done()}  {_describe(cell)}")
      yield cell
  if failures:
    raise FloatingPointError("; ".join(failures))


def _check_overrides(comparison: Comparison, overrides: Sequence[str]) -> None:
  """Refuses changes of what seeds and settings are there to decide."""
  for override in overrides:
    path = override.partition("=")[0].strip()
    if path in SEED_PATHS:
      raise config_lib.ConfigError(
        f"{override} would make every seed the same run; choose how many there "
        "are with --seeds"
      )
    method = comparison.baseline
    values = {
      repr(config_lib.flatten(comparison.configure(s, method, 0)).get(path))
      for s in comparison.settings
    }
    if path.startswith("data.") and len(values) > 1:
      raise config_lib.ConfigError(
        f"{override} would file data under the name of others; choose among "
        f"{', '.join(comparison.settings)} with --settings"
      )


def _check_workdir(
  comparison: Comparison,
  workdir: str | os.PathLike[str],
  methods: Sequence[str],
  settings: Sequence[str],
  overrides: Sequence[str],
) -> None:
  """Refuses cells of other settings, and changes that a method does not have.

  Cells that are not asked for are held against those changes that they have.
  """
  for path in pathlib.Path(workdir, "cells").glob("*/*"):
    setting, method = path.parts[-2:]
    if setting not in comparison.settings or method not in comparison.methods:
      raise config_lib.ConfigError(
        f"{path} is no cell of the comparison {comparison.name!r}; choose "
        "another --workdir"
      )
  for method in comparison.methods:
    for setting in comparison.settings:
      folder = CellFolder(workdir, setting, method)
      if method in methods and setting in settings:
        try:
          config = comparison.configure(setting, method, 0, overrides)
        except config_lib.ConfigError as error:
          raise config_lib.ConfigError(f"method {method!r}: {error}") from error
      elif folder.done():
        plain = comparison.configure(setting, method, 0)
        paths = config_lib.flatten(plain)
        config = config_lib.apply_overrides(
          plain, [o for o in overrides if o.partition("=")[0].strip() in paths]
        )
      else:
        continue
      folder.check(config)


def _run_cell(
  folder: CellFolder,
  plain: fdl.Buildable,
  configs: Mapping[int, fdl.Buildable],
  mapped: bool | None,
) -> None:
  """Trains seeds of a cell and writes what each reached."""
  experiments = {seed: fdl.build(config) for seed, config in configs.items()}
  first = next(iter(experiments.values()))
  config = next(iter(configs.values()))
  first.data.prepare()
  data = first.data.arrays("train")
  facts = {
    "parameters": count_parameters(first, data),
    "flops": count_flops(first, data),
    "changes": config_lib.difference(plain, config, ignore=SEED_PATHS),
  }
  folder.start(config, facts)
  for result in train_seeds(experiments, mapped=mapped):
    folder.write(result)


class _Clock:
  """Counts cells and estimates the time that is left, from seeds trained."""

  def __init__(self, num_cells: int, num_seeds: int):
    self._num_cells, self._num_seeds = num_cells, num_seeds
    self._cells = self._seeds = 0
    self._begin = time.monotonic()

  def advance(self, num_seeds: int) -> None:
    """Notes that a cell is done, for which so many seeds were trained."""
    self._cells += 1
    self._seeds += num_seeds

  def describe_next(self) -> str:
    """Returns `cell 3/40`."""
    return f"cell {self._cells + 1}/{self._num_cells}"

  def describe_done(self) -> str:
    """Returns `2/40 done, 2:10 left`."""
    text = f"{self._cells}/{self._num_cells} done"
    if self._cells == self._num_cells or not self._seeds:
      return text
    seconds = (time.monotonic() - self._begin) / self._seeds
    left = round(seconds * (self._num_seeds - self._seeds))
    return f"{text}, {left // 60}:{left % 60:02d} left"


def _describe(cell: CellResult) -> str:
  scores = [100 * result.accuracy for result in cell.seeds]
  seconds = sum(result.seconds for result in cell.seeds)
  return (
    f"{cell.method} on {cell.setting}: {sum(scores) / len(scores):.1f} % over "
    f"{len(scores)} seeds in {seconds:.1f} s"
  )
