"""Checkpoints: one folder a step, verified on the way back. Orbax writes them.

    checkpoints/
      200/          config  params  state  assets  metrics  digests  files.json
      400/          ...

Saving is atomic, in a thread: a step is written beside its place and renamed
into it, so a process killed at any moment leaves whole steps only. Kept are the
latest steps and the best one. `digests` hashes every leaf of every other item,
`files.json` the files with arrays, which spares Orbax reading damaged ones.
Restoring compares both and never casts; "latest" goes back to the newest intact
step, with a message. Arrays are stored as numpy arrays, whatever the devices.

One process may write to a directory (the trainer holds a lock on it), any
number may read meanwhile. Retention is ours: Orbax's manager believes metrics
unverified and removes a step file by file under the eyes of a reader.
"""

import dataclasses
import functools
import logging
import os
import pathlib
import sys
import types
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any, Literal, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmjax import digests
from mmjax.step_content import StepContent, explain_failure, write_file_digests
from mmjax.step_folders import (
  CheckpointError,
  StepFolders,
  Which,
  find_best,
  find_outdated,
  read_step,
)

__all__ = ["CheckpointError", "Checkpoints", "Restored", "Which"]

_T = TypeVar("_T")
_VALUES = ("config", "assets", "metrics")


@dataclasses.dataclass(frozen=True)
class Restored:
  """One step, verified.

  Attributes:
    step: number of updates made.
    params: pytree like `params_target`.
    state: pytree like `state_target`, None if no target was given.
    config: the experiment's configuration, see `mmjax/config.py`.
    assets: vocabulary, label names and whatever else prediction needs.
    metrics: the scores saved with the step, None if it has none.
  """

  step: int
  params: Any
  state: Any
  config: str
  assets: dict[str, Any]
  metrics: dict[str, Any] | None


class Checkpoints:
  """The checkpoints of one run; a context manager that closes itself.

  Attributes:
    directory: holds one folder a step; made by the first save.
    keep_latest: number of newest steps that are kept.
    best_metric: the score that picks the best step, which is kept too. A step
      saved without it, or with a NaN or infinity, is never the best.
    best_mode: "max" or "min".
    message_fn: told, in a sentence, when damaged steps are passed over; by
      default it is printed on standard error.
  """

  def __init__(
    self,
    directory: str | os.PathLike[str],
    *,
    keep_latest: int = 2,
    best_metric: str = "accuracy",
    best_mode: Literal["max", "min"] = "max",
    message_fn: Callable[[str], None] | None = None,
  ):
    if keep_latest < 1:
      raise ValueError(f"keep_latest must be at least 1, got {keep_latest}")
    if best_mode not in ("max", "min"):
      raise ValueError(f"best_mode must be 'max' or 'min', got {best_mode!r}")
    self._folders = StepFolders(directory)
    self._content = StepContent(self._folders, _load_arrays)
    self.directory = self._folders.directory
    self.keep_latest = keep_latest
    self.best_metric = best_metric
    self.best_mode = best_mode
    self.message_fn = message_fn or functools.partial(print, file=sys.stderr)
    self._thread = futures.ThreadPoolExecutor(1, "checkpoint")
    self._saving: tuple[int, futures.Future[None]] | None = None
    self._damaged: set[int] = set()
    self._told: set[str] = set()
    logging.getLogger("absl").addFilter(_is_not_from_orbax)

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: types.TracebackType | None,
  ) -> None:
    try:
      self.close()
    except CheckpointError as failure:
      if error is None:
        raise
      self.message_fn(str(failure))  # the first error is the one to raise

  def steps(self) -> list[int]:
    """Returns the saved steps in increasing order, whether intact or not."""
    return self._folders.steps()

  def best_step(self) -> int | None:
    """Returns the step with the best score, the later one of equals.

    Returns:
      The step, or None when no step has a finite `best_metric`.

    Raises:
      CheckpointError: the scores of a step are damaged, so nobody can tell.
    """
    scores, damaged = self._content.load_scores(self.best_metric)
    for step, damage in damaged.items():
      raise CheckpointError(
        f"cannot tell which step in {self.directory} is the best: step {step} "
        f"is damaged ({damage}); choose one of the steps {[*scores]}"
      )
    return find_best(scores, self.best_mode)

  def save(
    self,
    step: int,
    *,
    params: Any,
    state: Any,
    config: str,
    assets: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
  ) -> bool:
    """Starts to save a step; waits for the save before it, if any.

    The trees are copied and hashed before this returns, so they may be
    donated at once. `wait`, or the next `save`, tells if writing failed.

    Args:
      step: number of updates made.
      params: pytree of parameters.
      state: pytree of all else that training needs, such as the optimizer's
        state, the step and a typed key.
      config: the experiment's configuration, as text.
      assets: JSON-able, what prediction needs besides the parameters.
      metrics: JSON-able scores, None if the step was not evaluated.

    Returns:
      True if the step is being saved, False if it is there already with the
      same content (a save without metrics leaves those there). A step that is
      there with other content stays until the new one is written.

    Raises:
      CheckpointError: the save before this one failed, or there are steps
        newer than this one. Damaged ones that `restore` passed over do not
        count: they are renamed to `damaged-STEP`.
      ValueError: a leaf or a value is of a type that cannot be saved.
    """
    self.wait()
    args, manifest = _pack(
      step,
      trees={"params": params, "state": state},
      values={"config": config, "assets": assets, "metrics": metrics},
    )
    with explain_failure(step, self.directory):
      self._damaged -= self._folders.clear_way(step, self._damaged)
      ignored = () if metrics is not None else ("metrics",)
      if self._content.has(step, manifest, ignored):
        return False
    self._saving = (step, self._thread.submit(self._write, step, args))
    return True

  def wait(self) -> None:
    """Waits until the last save is on disk and outdated steps are removed.

    Raises:
      CheckpointError: the save failed, for instance because the disk is full.
    """
    if self._saving is not None:
      (step, future), self._saving = self._saving, None
      with explain_failure(step, self.directory):
        future.result()

  def close(self) -> None:
    """Waits for the last save and ends the thread; may be repeated.

    Raises:
      CheckpointError: the last save failed.
    """
    try:
      self.wait()
    finally:
      self._thread.shutdown()

  def restore(
    self,
    which: Which = "latest",
    *,
    params_target: Any,
    state_target: Any = None,
  ) -> Restored:
    """Restores a step, verified leaf by leaf.

    Args:
      which: "latest" goes back to the newest intact step and tells which it
        passed over; "best" and a number mean that step and no other.
      params_target: pytree of arrays or `jax.ShapeDtypeStruct`s.
      state_target: the same for the state; with None the state is neither
        read nor verified.

    Raises:
      CheckpointError: there is no such step; the step, or with "latest" every
        step, is damaged; or a leaf's name, shape or dtype differs from that
        of its target.
    """
    targets = {"params": params_target}
    if state_target is not None:
      targets["state"] = state_target

    def read(step: int) -> Restored:
      manifest = self._content.load_manifest(step)
      trees = {
        item: self._content.load_tree(step, item, target, manifest)
        for item, target in targets.items()
      }
      values = {
        item: self._content.load_value(step, item, manifest) for item in _VALUES
      }
      return Restored(step=step, **{"state": None, **trees, **values})

    return self._read(which, read)

  def load_config(self, which: Which = "latest") -> str:
    """Loads the configuration alone; chooses and raises as `restore` does."""
    return self._read(
      which, lambda step: self._content.load_value(step, "config")
    )

  def load_assets(self, which: Which = "latest") -> dict[str, Any]:
    """Loads the assets alone; chooses and raises as `restore` does."""
    return self._read(
      which, lambda step: self._content.load_value(step, "assets")
    )

  def _read(self, which: Which, read_fn: Callable[[int], _T]) -> _T:
    """Reads the step that is meant and tells which ones were passed over."""
    step, result, damaged = read_step(
      self._folders, which, read_fn, self.best_step
    )
    self._damaged.update(damaged)
    for newer, damage in damaged.items():
      message = (
        f"step {newer} in {self.directory} is damaged ({damage}); using step "
        f"{step}, the newest that is intact"
      )
      if message not in self._told:
        self._told.add(message)
        self.message_fn(message)
    return result

  def _write(self, step: int, args: ocp.args.Composite) -> None:
    """Writes a step, then removes outdated ones; runs in the thread."""
    folders = self._folders
    folders.directory.mkdir(parents=True, exist_ok=True)
    folders.sweep()
    with ocp.Checkpointer(_make_handler()) as writer:
      writer.save(folders.staging(step), args=args)
    write_file_digests(folders.staging(step))
    folders.commit(step)
    scores, _ = self._content.load_scores(self.best_metric)
    if step not in scores:
      raise OSError("it is not there after it was written")
    best = find_best(scores, self.best_mode)
    # Steps whose scores are damaged have none here, and stay.
    for old in find_outdated(
      [*scores], keep_latest=self.keep_latest, keep=[best]
    ):
      folders.remove(old)


def _pack(
  step: int, *, trees: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[ocp.args.Composite, dict[str, Any]]:
  """Returns what Orbax is to save, and the digests of it."""
  args, items = {}, {}
  for item, tree in trees.items():
    entries, arrays = digests.digest_leaves(digests.name_leaves(tree))
    items[item] = entries
    # Orbax refuses empty trees and arrays without elements.
    stored = {name: array for name, array in arrays.items() if array.size}
    if stored:
      args[item] = ocp.args.StandardSave(digests.nest(stored))
  for item, value in values.items():
    plain = {"value": digests.to_json(item, value)}
    items[item] = digests.hash_json(plain)
    args[item] = ocp.args.JsonSave(plain)
  args["digests"] = ocp.args.JsonSave(digests.seal(step, items))
  return ocp.args.Composite(**args), items


def _load_arrays(folder: pathlib.Path, target: Any) -> Any:
  """Loads some or all leaves of a pytree, as the arrays that are stored."""
  as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(np.ndarray), target)
  args = ocp.args.PyTreeRestore(
    target, restore_args=as_numpy, partial_restore=True
  )
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
    return reader.restore(folder, args=args)


def _make_handler() -> ocp.CompositeCheckpointHandler:
  """Returns Orbax's writer of a step; JSON items become `ITEM/ITEM.json`."""
  return ocp.CompositeCheckpointHandler(
    **{item: ocp.StandardCheckpointHandler() for item in ("params", "state")},
    **{
      item: ocp.JsonCheckpointHandler(filename=f"{item}.json")
      for item in (*_VALUES, "digests")
    },
  )


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
  """Drops Orbax's log: what matters in it is raised as `CheckpointError`."""
  return "orbax" not in record.pathname
