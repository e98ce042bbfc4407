"""The folders of a checkpoint directory: which there are, read and stay.

Only names and renames, no content. Whatever is done to a step is one rename,
so another process sees the whole step or none of it; what a kill leaves behind
has a name that is not a step's and is swept up by the next writer.
"""

import math
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypeVar

from mmjax.digests import DamageError

Which = Literal["latest", "best"] | int
_T = TypeVar("_T")

# The end is how Orbax names a folder that it has not finished.
_LEFTOVER = re.compile(r"(saving|removed)-\d+(\.orbax-checkpoint-tmp.*)?")


class CheckpointError(ValueError):
  """A checkpoint cannot be saved or restored; the message is one sentence."""


class VanishedError(Exception):
  """The step was removed by its trainer while it was being read."""


class StepFolders:
  """A directory with one folder a step, named by the step's number.

  Attributes:
    directory: need not exist.
  """

  def __init__(self, directory: str | os.PathLike[str]):
    self.directory = pathlib.Path(directory).absolute()

  def steps(self) -> list[int]:
    """Returns the steps in increasing order, whether intact or not."""
    try:
      names = os.listdir(self.directory)
    except (FileNotFoundError, NotADirectoryError):
      return []
    return sorted(int(n) for n in names if n.isdecimal() and n == str(int(n)))

  def path(self, step: int) -> pathlib.Path:
    """Returns the folder of a step."""
    return self.directory / str(step)

  def staging(self, step: int) -> pathlib.Path:
    """Returns the folder to write a step in."""
    return self.directory / f"saving-{step}"

  def commit(self, step: int) -> None:
    """Puts what was staged in the step's place.

    A step that is there is renamed aside first; should this process die
    between the two renames, `sweep` puts it back.
    """
    replaced = self.directory / f"replaced-{step}"
    shutil.rmtree(replaced, ignore_errors=True)
    if self.path(step).exists():
      self.path(step).rename(replaced)
    self.staging(step).rename(self.path(step))
    shutil.rmtree(replaced, ignore_errors=True)

  def remove(self, step: int) -> None:
    """Removes a step: renamed first, so that no reader sees half of it."""
    removed = self.directory / f"removed-{step}"
    shutil.rmtree(removed, ignore_errors=True)
    self.path(step).rename(removed)
    shutil.rmtree(removed)

  def clear_way(self, step: int, damaged: Collection[int]) -> set[int]:
    """Renames damaged steps from `step` on to `damaged-STEP`, out of the way.

    Returns:
      The steps that were renamed.

    Raises:
      CheckpointError: a newer step is there that is not damaged.
    """
    renamed = set()
    for other in self.steps():
      if other >= step and other in damaged:
        aside = self.directory / f"damaged-{other}"
        shutil.rmtree(aside, ignore_errors=True)
        self.path(other).rename(aside)
        renamed.add(other)
      elif other > step:
        raise CheckpointError(
          f"step {step} cannot be saved beside the newer step {other} in "
          f"{self.directory}; go on from 'latest', or use another directory"
        )
    return renamed

  def sweep(self) -> None:
    """Undoes or removes what a killed writer left unfinished."""
    for entry in self.directory.glob("replaced-*"):
      path = self.path(int(entry.name.removeprefix("replaced-")))
      if path.exists():
        shutil.rmtree(entry)
      else:
        entry.rename(path)
    for entry in self.directory.iterdir():
      if _LEFTOVER.fullmatch(entry.name):
        shutil.rmtree(entry)


def get_score(metrics: Mapping[str, Any] | None, name: str) -> float | None:
  """Returns a score, None where there is none that could be compared."""
  score = None if metrics is None else metrics.get(name)
  if isinstance(score, bool) or not isinstance(score, (int, float)):
    return None
  return float(score) if math.isfinite(score) else None


def find_best(scores: Mapping[int, float | None], mode: str) -> int | None:
  """Returns the step with the best score, the later one of equals.

  Args:
    scores: `{step: score}`, None for steps without a score.
    mode: "max" or "min".

  Returns:
    The step, None if no step has a score.
  """
  sign = 1 if mode == "max" else -1
  scored = [(sign * s, step) for step, s in scores.items() if s is not None]
  return max(scored)[1] if scored else None


def find_outdated(
  steps: Sequence[int], *, keep_latest: int, keep: Sequence[int | None]
) -> list[int]:
  """Returns the steps that are neither among the latest nor in `keep`."""
  kept = {*sorted(steps)[-keep_latest:], *keep}
  return [step for step in steps if step not in kept]


def read_step(
  folders: StepFolders,
  which: Which,
  read_fn: Callable[[int], _T],
  best_step_fn: Callable[[], int | None],
) -> tuple[int, _T, dict[int, DamageError]]:
  """Reads the step that is meant; for "latest", the newest intact one.

  Args:
    folders: where the steps are; a trainer may add and remove some meanwhile.
    which: "latest", "best" or a number.
    read_fn: reads a step, raises `DamageError` or `VanishedError`.
    best_step_fn: returns the best step, None if there is none.

  Returns:
    The step, what was read, and the newer steps that are damaged.

  Raises:
    CheckpointError: there is no such step, or it is damaged, or all are.
  """
  damaged: dict[int, DamageError] = {}
  while True:
    step = _choose_step(folders, which, damaged, best_step_fn)
    try:
      return step, read_fn(step), damaged
    except VanishedError:
      continue  # it is not listed any more
    except DamageError as damage:
      damaged[step] = damage
      if which != "latest":
        others = [other for other in folders.steps() if other != step]
        advice = f"choose 'latest' or one of the steps {others}"
        if not others:
          advice = "there is no other"
        raise CheckpointError(
          f"step {step} in {folders.directory} is damaged ({damage}); {advice}"
        ) from damage


def _choose_step(
  folders: StepFolders,
  which: Which,
  damaged: Mapping[int, DamageError],
  best_step_fn: Callable[[], int | None],
) -> int:
  steps, directory = folders.steps(), folders.directory
  if not steps:
    raise CheckpointError(
      f"there are no checkpoints in {directory}; train first, or give another "
      "work directory"
    )
  if which == "latest":
    rest = [step for step in steps if step not in damaged]
    if rest:
      return rest[-1]
    raise CheckpointError(
      f"no checkpoint in {directory} is intact ("
      + "; ".join(f"step {step}: {damaged[step]}" for step in steps)
      + "); bring back a copy, or train again in another work directory"
    )
  if which == "best":
    best = best_step_fn()
    if best is not None:
      return best
    raise CheckpointError(
      f"no checkpoint in {directory} has a finite score, so none is the best; "
      f"choose 'latest' or one of the steps {steps}"
    )
  if isinstance(which, bool) or not isinstance(which, int):
    raise CheckpointError(
      f"a step is 'latest', 'best' or a number, got {which!r}"
    )
  if which not in steps:
    raise CheckpointError(
      f"there is no step {which} in {directory}; choose 'latest', 'best' or "
      f"one of the steps {steps}"
    )
  return which
