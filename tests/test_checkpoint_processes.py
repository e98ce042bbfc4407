"""Checkpoints between processes: kills, concurrent readers, other devices."""

import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from checkpoint_trees import assert_same, make_params, make_state, save

from mmjax.checkpoint import Checkpoints

# Step k holds the number k everywhere, so that a mixture would be seen.
WRITER = """
import sys
import numpy as np
from mmjax.checkpoint import Checkpoints

first, last = int(sys.argv[2]), int(sys.argv[3])
checkpoints = Checkpoints(sys.argv[1])
print("ready", flush=True)
for step in range(first, last):
  tree = {f"leaf_{i}": np.full((31, 17), step, np.int32) for i in range(20)}
  checkpoints.save(
    step, params=tree, state={"step": tree}, config=str(step),
    assets={"step": step}, metrics={"accuracy": 1 / (1 + step % 7)},
  )
checkpoints.close()
"""

TARGET = {f"leaf_{i}": np.zeros((31, 17), np.int32) for i in range(20)}


def start_writer(directory, first, last):
  process = subprocess.Popen(
    [sys.executable, "-c", WRITER, directory, str(first), str(last)],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "ready\n"
  return process


def restore_consistent(checkpoints, which="latest"):
  """Restores and checks that all parts are of one step."""
  restored = checkpoints.restore(
    which, params_target=TARGET, state_target={"step": TARGET}
  )
  step = restored.step
  for tree in (restored.params, restored.state["step"]):
    assert all((leaf == step).all() for leaf in jax.tree.leaves(tree))
  assert restored.config == str(step)
  assert restored.assets == {"step": step}
  return step


def test_a_kill_at_any_moment_leaves_a_restorable_directory(tmp_path):
  generator = random.Random(0)
  latest = 0
  for _ in range(3):
    process = start_writer(tmp_path, latest + 1, 1_000_000)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:  # until it has saved something new
      if Checkpoints(tmp_path).steps()[-1:] > [latest]:
        break
      time.sleep(0.01)
    time.sleep(generator.uniform(0, 0.2))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    messages = []
    with Checkpoints(tmp_path, message_fn=messages.append) as checkpoints:
      before, latest = latest, restore_consistent(checkpoints)
      assert latest > before
      assert latest == checkpoints.steps()[-1]
      restore_consistent(checkpoints, "best")
    assert messages == []


# A read that fails since a step has just gone, and is done again, may leave
# others under way, which Orbax's event loop then does not wait for.
@pytest.mark.filterwarnings(
  "ignore:(?s)Exception ignored.*Event loop is closed"
  ":pytest.PytestUnraisableExceptionWarning"
)
def test_a_reader_beside_a_writer_that_removes_steps(tmp_path):
  process = start_writer(tmp_path, 1, 40)
  messages, seen, reads = [], 0, 0
  with Checkpoints(tmp_path, message_fn=messages.append) as checkpoints:
    while process.poll() is None:
      if not checkpoints.steps():
        continue
      step = restore_consistent(checkpoints)
      assert step >= seen
      seen, reads = step, reads + 1
      restore_consistent(checkpoints, "best")
      checkpoints.load_assets("best")
    assert restore_consistent(checkpoints) == 39
    assert restore_consistent(checkpoints, "best") == 35
    assert checkpoints.steps() == [35, 38, 39]
  process.stdout.close()
  assert process.returncode == 0
  assert messages == []
  assert reads > 5


@pytest.mark.parametrize("writer_devices", [1, 2])
def test_another_number_of_devices(tmp_path, writer_devices):
  """A replicated state saved on n devices is restored on 3 - n, bit by bit."""
  tests = pathlib.Path(__file__).parent
  code = f"""
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
sys.path.insert(0, {str(tests)!r})
import numpy as np
from checkpoint_trees import *
from checkpoint_trees import make_params, make_state, assert_same, save
from mmjax.checkpoint import Checkpoints
assert jax.device_count() == 2
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
def replicate(tree):
  return jax.tree.map(
    lambda x: jax.device_put(x, everywhere) if isinstance(x, jax.Array) else x,
    tree)
params, state = make_params(5), make_state(make_params(5), 5)
with Checkpoints(sys.argv[1]) as checkpoints:
  if {writer_devices} == 2:
    checkpoints.save(5, params=replicate(params), state=replicate(state),
                     config="", assets={{}})
  else:
    for place in (replicate, lambda tree: tree):
      restored = checkpoints.restore(
        params_target=place(params), state_target=place(state))
      assert_same(restored.params, params)
      assert_same(restored.state, state)
      kernel = restored.params["encoders_image"]["kernel"]
      assert len(kernel.devices()) == (2 if place is replicate else 1)
"""
  run = [sys.executable, "-c", code, str(tmp_path)]
  with Checkpoints(tmp_path) as checkpoints:
    if writer_devices == 1:
      save(checkpoints, 5)
      checkpoints.wait()
    subprocess.run(run, check=True)
    params = make_params(5)
    restored = checkpoints.restore(
      params_target=params, state_target=make_state(params)
    )
  assert_same(restored.params, params)
  assert_same(restored.state, make_state(params, 5))
