"""Stopping on a signal: the first asks, the second exits at once."""

import contextlib
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Self

# sysexits.h EX_TEMPFAIL: "try again later". The state is saved, and the same
# command run again goes on.
EXIT_INTERRUPTED = 75

_SHOW_CURSOR = "\x1b[?25h"


class StopSignals:
  """Context manager in which SIGTERM and SIGINT ask the run to stop.

  The first signal only sets a flag, which the loop looks at after each step.
  The second ends the process at once with 128 + its number, saving nothing
  and running no cleanup: checkpoints stay intact because they are renamed
  into place only when complete.

  Python runs signal handlers between byte codes of the main thread, which may
  be busy compiling for many seconds. So the signals are counted by a thread,
  which the C-level handler wakes through a socket.

  Example:
    with StopSignals() as stop:
      state, stopped = run_loop(..., should_stop=stop.requested)
    if stopped:
      sys.exit(EXIT_INTERRUPTED)

  Only the main thread may enter it (`signal.signal` raises ValueError in
  others). On leaving, the former handlers are back.
  """

  def __init__(
    self, signals: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT)
  ):
    self._signals = signals
    self._requested = threading.Event()

  def requested(self) -> bool:
    """Says whether a signal has come."""
    return self._requested.is_set()

  def __enter__(self) -> Self:
    """Takes over the signals."""
    self._read, self._write = socket.socketpair()
    self._write.setblocking(False)
    self._thread = threading.Thread(target=self._count, daemon=True)
    self._thread.start()
    self._former_fd = signal.set_wakeup_fd(
      self._write.fileno(), warn_on_full_buffer=False
    )
    self._former = {s: signal.signal(s, self._handle) for s in self._signals}
    return self

  def __exit__(self, *exc_info: object) -> None:
    """Gives the signals back."""
    for signum, handler in self._former.items():
      signal.signal(signum, handler)
    signal.set_wakeup_fd(self._former_fd)
    self._write.close()  # ends the thread
    self._thread.join()
    self._read.close()

  def _handle(self, signum: int, frame: FrameType | None) -> None:
    del signum, frame
    self._requested.set()

  def _count(self) -> None:
    """Counts signals in a thread; each arrives as a byte, its number."""
    asked = False  # not `_requested`, which the handler may set before
    while received := self._read.recv(64):
      for signum in received:
        if signum not in self._signals:
          continue
        name = signal.Signals(signum).name
        if asked:
          _tell(f"\n{name} again: exiting at once, nothing more is saved\n")
          if sys.stderr.isatty():
            _tell(_SHOW_CURSOR)
          os._exit(128 + signum)
        asked = True
        self._requested.set()
        _tell(
          f"\n{name}: saving after the current step; once more exits at once\n"
        )


def _tell(text: str) -> None:
  """Writes to stderr past its buffer, which another thread may hold."""
  with contextlib.suppress(OSError):
    os.write(2, text.encode())
