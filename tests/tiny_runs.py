"""Tiny runs of the experiments, through the command lines people use."""

import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import fiddle as fdl
import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from experiments import cli
from experiments.configs import EXPERIMENTS
from mmjax.checkpoint import Checkpoints
from mmjax.config import build_config, flatten
from mmjax.experiment import make_init_fn
from mmjax.training.state import abstract_state
from mmjax.workdir import CHECKPOINTS_DIR, LOCK_FILE, METRICS_FILE

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What an experiment has of these is shrunk; the rest stays as it is.
TINY = {
  "data.image_size": 8,
  "data.questions_per_image": 4,
  "evaluation.batch_size": 499,
  "model.encoders.image.features": (3, 5),
  "model.encoders.image.stem.features": (3, 5),
  "model.encoders.text.embedding_dim": 5,
  "model.fusion.num_heads": 2,
  "model.fusion.num_rounds": 1,
  "model.matcher.num_heads": 2,
  "model.matcher.num_rounds": 1,
  "model.reasoning.num_steps": 2,
  "training.batch_size": 16,
  "training.checkpoint_every": 2,
  "training.log_every": 1,
  "training.num_steps": 4,
}


def shrink(name, changes=()):
  """Returns the overrides that make an experiment tiny, then `changes`."""
  changes = dict(changes)
  # What is shown decides which settings there are.
  shown = [f"shown={changes['shown']}"] if "shown" in changes else []
  present = flatten(build_config(EXPERIMENTS[name], shown))
  tiny = {path: value for path, value in TINY.items() if path in present}
  values = {"width": 8, **tiny, **changes}
  return [f"{path}={value}" for path, value in values.items()]


def tiny_config(name, changes=()):
  return build_config(EXPERIMENTS[name], shrink(name, changes))


def train_flags(name, workdir, changes=()):
  """Returns the arguments of `experiments.train` for a tiny run."""
  flags = [name, "--workdir", str(workdir), "--no-report"]
  for override in shrink(name, changes):
    flags += ["--set", override]
  return flags


def run_main(main, *arguments):
  """Runs a script in this process; returns the exit code."""
  before, sys.argv = sys.argv, ["script", *map(str, arguments)]
  try:
    cli.run_main(main)
  except SystemExit as end:
    return end.code
  finally:
    sys.argv = before
  raise AssertionError("the script did not end by sys.exit")


def start_python(*arguments, **environment):
  """Starts a process with the repository as its working directory."""
  return subprocess.Popen(
    [sys.executable, *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


_SETTINGS = {
  "jax_persistent_cache_min_compile_time_secs": 0.0,
  "jax_persistent_cache_min_entry_size_bytes": -1,
  "jax_disable_most_optimizations": True,
}


@contextlib.contextmanager
def fast_compilation(folder):
  """Compiles each program once for all tests, and without much optimising."""
  settings = {"jax_compilation_cache_dir": str(folder), **_SETTINGS}
  before = {name: jax.config.values[name] for name in settings}

  def use(values):
    for name, value in values.items():
      jax.config.update(name, value)
    compilation_cache.reset_cache()

  use(settings)
  try:
    yield
  finally:
    use(before)


def fast_environment(folder):
  """Returns the same settings for another process, which uses the CPU."""
  return {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(folder),
    **{name.upper(): str(value) for name, value in _SETTINGS.items()},
  }


def restore(workdir, config, which="latest"):
  """Restores the parameters and the whole state of a run."""
  experiment = fdl.build(config)
  target = abstract_state(
    make_init_fn(experiment),
    experiment.optimizer(experiment.training.num_steps),
    jax.random.key(0),
  )
  rest = {
    "step": target.step,
    "opt_state": target.opt_state,
    "rng": target.rng,
    "bad_step": target.bad_step,
  }
  with Checkpoints(pathlib.Path(workdir) / CHECKPOINTS_DIR) as checkpoints:
    return checkpoints.restore(
      which, params_target=target.params, state_target=rest
    )


def to_bits(restored):
  """Returns every leaf's path, dtype, shape and bytes."""
  tree = (restored.params, restored.state)
  bits = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    name = jax.tree_util.keystr(path)
    bits[name] = (str(array.dtype), array.shape, array.tobytes())
  return bits


def read_history(workdir):
  """Returns the events of a run without what the clock says."""
  events = []
  text = (pathlib.Path(workdir) / METRICS_FILE).read_text()
  for event in map(json.loads, text.splitlines()):
    for name in ("time", "seconds", "examples_per_second", "data_wait_share"):
      event.pop(name, None)
    events.append(event)
  return events


def hash_files(folder):
  """Returns the hash of every file below a folder but the lock."""
  folder = pathlib.Path(folder)
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.name != LOCK_FILE
  }
