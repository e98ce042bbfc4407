import signal
import subprocess
import sys
import time

import pytest

from mmjax.training.interruption import EXIT_INTERRUPTED, StopSignals

WAITING = """
import sys, time
from mmjax.training.interruption import EXIT_INTERRUPTED, StopSignals
with StopSignals() as stop:
  print("ready", flush=True)
  while not stop.requested():
    time.sleep(0.01)
  print("flag", flush=True)
  if sys.argv[1] == "slow":
    time.sleep(60)
sys.exit(EXIT_INTERRUPTED)
"""
# The main thread locks a mutex twice: it stays in C for ever, as if it were
# compiling, and no Python handler ever runs.
BUSY = """
import ctypes, threading, time
from mmjax.training.interruption import StopSignals

def tell():
  while not stop.requested():
    time.sleep(0.01)
  print("flag", flush=True)

with StopSignals() as stop:
  threading.Thread(target=tell, daemon=True).start()
  library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
  library.pthread_mutex_lock(mutex)
  print("ready", flush=True)
  library.pthread_mutex_lock(mutex)
"""


def start(code, *arguments):
  process = subprocess.Popen(
    [sys.executable, "-c", code, *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "ready\n"
  return process


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_sets_the_flag(signum):
  process = start(WAITING, "fast")
  process.send_signal(signum)
  stdout, stderr = process.communicate(timeout=120)
  assert process.returncode == EXIT_INTERRUPTED == 75
  assert stdout == "flag\n"
  assert signum.name in stderr


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_exits_at_once(second):
  process = start(WAITING, "slow")
  process.send_signal(signal.SIGTERM)
  assert process.stdout.readline() == "flag\n"
  begin = time.monotonic()
  process.send_signal(second)
  process.communicate(timeout=120)
  assert process.returncode == 128 + second
  assert time.monotonic() - begin < 15.0


def test_second_signal_exits_while_the_main_thread_is_in_c():
  process = start(BUSY)
  process.send_signal(signal.SIGTERM)
  assert process.stdout.readline() == "flag\n"
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=120)
  assert process.returncode == 128 + signal.SIGTERM


def test_former_handlers_come_back():
  former = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
  for _ in range(2):  # and it can be entered again
    with StopSignals() as stop:
      assert not stop.requested()
      assert signal.getsignal(signal.SIGTERM) != former[0]
    now = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    assert now == former
  assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_in_this_process():
  with StopSignals() as stop:
    signal.raise_signal(signal.SIGTERM)
    assert stop.requested()
