import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from mmjax.locks import FileLock, LockedError

HOLD = """
import sys, time
from mmjax.locks import FileLock
with FileLock(sys.argv[1], wait=False, purpose="holding"):
  print("held", flush=True)
  time.sleep(float(sys.argv[2]))
"""


def hold(path, seconds):
  process = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(path), str(seconds)],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "held\n"
  return process


def test_file_tells_who_holds_it_and_is_empty_after(tmp_path):
  path = tmp_path / "sub" / "lock"
  with FileLock(path, wait=False, purpose="testing"):
    holder = json.loads(path.read_text())
    assert holder["pid"] == os.getpid()
    assert holder["purpose"] == "testing"
    assert set(holder) == {"pid", "host", "since", "purpose"}
  assert path.read_text() == ""


def test_second_holder_in_the_same_process_is_refused(tmp_path):
  lock = FileLock(tmp_path / "lock", wait=False, purpose="testing")
  with lock:
    with pytest.raises(LockedError, match=f"process {os.getpid()} .*testing"):
      FileLock(lock.path, wait=False, purpose="other").__enter__()
    # The refused one must not have erased the holder's description.
    assert json.loads(lock.path.read_text())["purpose"] == "testing"
    with pytest.raises(RuntimeError, match="already held"):
      lock.__enter__()
  with FileLock(lock.path, wait=False, purpose="other"):
    pass


def test_an_error_inside_releases(tmp_path):
  path = tmp_path / "lock"
  with pytest.raises(KeyError), FileLock(path, wait=False, purpose="failing"):
    raise KeyError
  with FileLock(path, wait=False, purpose="next"):
    pass


def test_refusal_is_quick_and_a_killed_holder_leaves_no_lock(tmp_path):
  path = tmp_path / "lock"
  process = hold(path, 60)
  start = time.monotonic()
  with pytest.raises(LockedError) as refused:
    FileLock(path, wait=False, purpose="testing").__enter__()
  assert time.monotonic() - start < 30  # it is held for 60
  message = str(refused.value)
  assert f"process {process.pid} " in message
  assert str(path) in message
  assert "\n" not in message
  process.send_signal(signal.SIGKILL)
  process.wait()
  process.stdout.close()
  assert "holding" in pathlib.Path(path).read_text()  # stale content
  with FileLock(path, wait=False, purpose="testing"):
    assert json.loads(path.read_text())["pid"] == os.getpid()


def test_waiting_says_whom_for(tmp_path, capfd):
  path = tmp_path / "lock"
  process = hold(path, 0.5)
  start = time.monotonic()
  with FileLock(path, wait=True, purpose="testing"):
    waited = time.monotonic() - start
  process.wait()
  process.stdout.close()
  assert 0.1 < waited < 10
  assert f"process {process.pid} " in capfd.readouterr().err


def test_waits_even_for_a_holder_that_has_not_written_yet(tmp_path):
  path = tmp_path / "lock"
  path.write_text('{"pid": 1')
  with FileLock(path, wait=False, purpose="testing"):
    path.write_text("")
    with pytest.raises(LockedError, match="another process"):
      FileLock(path, wait=False, purpose="other").__enter__()
