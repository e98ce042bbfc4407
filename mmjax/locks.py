"""Locks between processes that a killed process cannot leave behind.

A `FileLock` is an advisory `flock` on a file. The kernel releases it when the
process that holds it ends, however it ends, so there is no stale lock to
recover from; the file itself stays and is used again. While the lock is held
the file tells people who holds it, as JSON: pid, host, since, purpose.
"""

import fcntl
import json
import os
import pathlib
import socket
import sys
import time
from types import TracebackType
from typing import IO, Self


class LockedError(RuntimeError):
  """Another process holds the lock; the message is one sentence."""


class FileLock:
  """A lock on `path` for the length of a `with` block.

  The lock belongs to the open file: a second `FileLock` on the same path is
  refused (or waits) in the same process too.

  Attributes:
    path: the lock file; its folder is created when it is missing.
    wait: True waits for the holder, and says so on standard error; False
      raises `LockedError` at once.
    purpose: what the holder does, a phrase that completes "process 12 is ...",
      for instance `"training in runs/vqa"`. Shown to whoever is kept out.
  """

  def __init__(
    self, path: str | os.PathLike[str], *, wait: bool, purpose: str
  ) -> None:
    self.path = pathlib.Path(path)
    self.wait = wait
    self.purpose = purpose
    self._file: IO[str] | None = None

  def __enter__(self) -> Self:
    """Takes the lock.

    Raises:
      LockedError: another holder has it and `wait` is False.
      RuntimeError: this object holds the lock already.
    """
    if self._file is not None:
      raise RuntimeError(f"the lock {self.path} is already held by this object")
    self.path.parent.mkdir(parents=True, exist_ok=True)
    # Append mode creates the file but keeps what its holder wrote into it.
    file = open(self.path, "a+", encoding="utf-8")
    try:
      self._lock(file)
      file.truncate(0)
      file.write(json.dumps(self._description()) + "\n")
      file.flush()
    except BaseException:
      file.close()
      raise
    self._file = file
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    """Releases the lock; the emptied file stays for the next holder."""
    file, self._file = self._file, None
    if file is not None:
      file.truncate(0)
      file.close()

  def _lock(self, file: IO[str]) -> None:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return
    except BlockingIOError:
      holder = read_holder(self.path)
      if not self.wait:
        raise LockedError(
          f"{holder} and holds the lock {self.path}; wait until it has ended, "
          "or stop it, and run this command again"
        ) from None
    print(f"{holder}; waiting for it to end ...", file=sys.stderr, flush=True)
    fcntl.flock(file, fcntl.LOCK_EX)

  def _description(self) -> dict[str, object]:
    return {
      "pid": os.getpid(),
      "host": socket.gethostname(),
      "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
      "purpose": self.purpose,
    }


def read_holder(path: str | os.PathLike[str]) -> str:
  """Returns who holds the lock at `path`, as the start of a sentence.

  A holder writes its description just after it took the lock: a reader that
  comes in between is told of "another process".
  """
  try:
    holder = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    return (
      f"process {holder['pid']} on {holder['host']} is {holder['purpose']} "
      f"since {holder['since']}"
    )
  except (OSError, ValueError, KeyError, TypeError):
    return "another process is at work"
