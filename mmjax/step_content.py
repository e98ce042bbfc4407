"""What is inside the folder of one step, verified as it is read.

Reading a damaged file can fail in any way at all. Here there are three ends:
the content is exactly what was saved; `DamageError` says which part is not; or
`VanishedError` says that the step is no longer there.
"""

import contextlib
import json
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from mmjax import digests
from mmjax.digests import DamageError
from mmjax.step_folders import (
  CheckpointError,
  StepFolders,
  VanishedError,
  get_score,
)

_FILES = "files.json"


class StepContent:
  """Reads the items of a step: `ITEM/ITEM.json`, or arrays in `ITEM/`.

  Attributes:
    folders: of the steps.
    load_arrays_fn: `(folder of the item, target) -> pytree` of numpy arrays,
      all or some of those stored; may raise anything.
  """

  def __init__(
    self,
    folders: StepFolders,
    load_arrays_fn: Callable[[pathlib.Path, Any], Any],
  ):
    self.folders = folders
    self.load_arrays_fn = load_arrays_fn

  def load_manifest(self, step: int) -> dict[str, Any]:
    """Loads the digests of all items."""
    return digests.open_seal(step, self._load_json(step, "digests"))

  def load_value(
    self, step: int, item: str, manifest: Mapping[str, Any] | None = None
  ) -> Any:
    """Loads a JSON item; reads the manifest if it is not given."""
    if manifest is None:
      manifest = self.load_manifest(step)
    value = self._load_json(step, item)
    if digests.hash_json(value) != manifest[item]:
      raise DamageError(f"{item} is not what was saved")
    return value["value"]

  def load_tree(
    self, step: int, item: str, target: Any, manifest: Mapping[str, Any]
  ) -> Any:
    """Loads a pytree.

    Raises:
      CheckpointError: what was saved is intact but does not fit the target.
    """
    entries, targets = manifest[item], digests.name_leaves(target)
    mismatch = digests.find_mismatch(entries, targets)
    if mismatch is not None:
      raise CheckpointError(
        f"step {step} in {self.folders.directory} does not fit: {item} "
        f"{mismatch}; restore with the model and optimizer of the run that "
        "saved it"
      )
    try:
      arrays = self._load_arrays(step, item, targets, entries)
      return digests.assemble(entries, target, arrays)
    except DamageError as damage:
      raise DamageError(f"{item} {damage}") from damage
    except ValueError as error:
      raise CheckpointError(f"{item} {error}") from error

  def load_scores(
    self, metric: str
  ) -> tuple[dict[int, float | None], dict[int, DamageError]]:
    """Returns the score of each step, and the steps whose is damaged."""
    scores, damaged = {}, {}
    for step in self.folders.steps():
      try:
        scores[step] = get_score(self.load_value(step, "metrics"), metric)
      except VanishedError:
        continue
      except DamageError as damage:
        damaged[step] = damage
    return scores, damaged

  def has(
    self, step: int, items: Mapping[str, Any], ignored: Collection[str]
  ) -> bool:
    """Says whether a step was saved with these digests, but for `ignored`."""
    try:
      saved = self.load_manifest(step)
    except (DamageError, VanishedError):
      return False
    return all(saved[item] == items[item] for item in set(items) - {*ignored})

  def _load_json(self, step: int, item: str) -> Any:
    folder = self.folders.path(step)
    try:
      return json.loads((folder / item / f"{item}.json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:
      raise _explain(folder, error, item) from error

  def _load_arrays(
    self,
    step: int,
    item: str,
    targets: Mapping[str, Any],
    entries: digests.Entries,
  ) -> dict[str, Any]:
    arrays = {
      name: digests.host_target(entries[name], leaf)
      for name, leaf in targets.items()
    }
    stored = {name: array for name, array in arrays.items() if array.size}
    parts = [stored] if stored else []
    if not self._has_intact_files(step, item):
      # Slower, but it finds the leaf: storage fails in disorderly ways when
      # one of many leaves is damaged.
      parts = [{name: array} for name, array in stored.items()]
    loaded = {name: array.copy() for name, array in arrays.items()}
    folder = self.folders.path(step)
    for part in parts:
      try:
        tree = self.load_arrays_fn(folder / item, digests.nest(part))
      except Exception as error:
        leaf = f"leaf {min(part)!r}" if len(part) == 1 else "as a whole"
        raise _explain(folder, error, leaf) from error
      loaded |= digests.name_leaves(tree)
    return loaded

  def _has_intact_files(self, step: int, item: str) -> bool:
    folder = self.folders.path(step)
    try:
      saved = json.loads((folder / _FILES).read_bytes())
      return saved[item] == _hash_files(folder / item)
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
      return False


def write_file_digests(folder: pathlib.Path) -> None:
  """Writes the hashes of the files with arrays into a step's folder."""
  files = {item: _hash_files(folder / item) for item in ("params", "state")}
  (folder / _FILES).write_text(json.dumps(files))


def _hash_files(folder: pathlib.Path) -> dict[str, str]:
  """Returns `{relative path: hash}` of all files in a folder."""
  return {
    path.relative_to(folder).as_posix(): digests.hash_file(path)
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


@contextlib.contextmanager
def explain_failure(step: int, directory: pathlib.Path) -> Iterator[None]:
  """Turns whatever a failing disk raises into a `CheckpointError`."""
  try:
    yield
  except CheckpointError:
    raise
  except Exception as error:
    raise CheckpointError(
      f"step {step} could not be saved in {directory} ({_shorten(error)}); "
      "check the disk and run again, the earlier steps are untouched"
    ) from error


def _shorten(error: Exception) -> str:
  """Returns the kind of an error and the start of its message."""
  first, *_ = str(error).splitlines() or [""]
  return f"{type(error).__name__}: {first[:100]}"


def _explain(folder: pathlib.Path, error: Exception, part: str) -> Exception:
  """Returns the error to raise when a part of a step cannot be read."""
  if not folder.exists():
    return VanishedError(str(folder))
  return DamageError(f"{part} cannot be read: {_shorten(error)}")
