"""Measures mmjax's train step and loop; started by train_step.py.

It leaves `settings.json` and `parameters.npz` for the other side, so that both
begin with the same model and read the same batches.
"""

import dataclasses
import json
import pathlib
import time
from typing import Any

import fiddle as fdl
import jax
import numpy as np

from benchmarks import side
from experiments.configs import EXPERIMENTS
from mmjax.config import build_config
from mmjax.experiment import Experiment, make_init_fn
from mmjax.fusion.co_attention import CoAttention
from mmjax.metrics.classification import correct
from mmjax.training.loop import run_loop
from mmjax.training.parallel import compile_step, replicate
from mmjax.training.state import TrainState, create_state
from mmjax.training.step import make_train_step

NUM_EMPTY_STEPS = 500
# What else may be set, by part, is like this in the PyTorch twin.
ONLY = {
  "image": {
    "stem_size": 1,
    "downsampling": "max",
    "norm": "instance",
    "positions": "waves",
    "dtype": "float32",
  },
  "text": {
    "cell": "lstm",
    "bidirectional": True,
    "num_layers": 1,
    "dropout_rate": 0.0,
    "dtype": "float32",
  },
  "fusion": {"self_attention": False, "dropout_rate": 0.0, "dtype": "float32"},
  "head": {"norm": True, "dropout_rate": 0.0, "dtype": "float32"},
  "training": {"accumulation_steps": 1},
  "loss": {"label_smoothing": 0.0},
}


def main() -> None:
  """Measures what the request says."""
  request = side.read_request()
  config = build_config(EXPERIMENTS[request["experiment"]])
  experiment: Experiment = fdl.build(config)
  folder, steps = pathlib.Path(request["folder"]), request["steps"]
  batches = open_batches(experiment)
  held = [batches.batch(i) for i in range(side.NUM_HELD)]
  runner = Runner(experiment)
  write_twin(folder, experiment, runner.state)
  results = runner.measure(held, batches, steps)
  side.answer(
    {
      **results,
      "num_parameters": sum(x.size for x in jax.tree.leaves(runner.params)),
      "device": jax.devices()[0].device_kind,
      "versions": side.versions("jax", "jaxlib", "flax", "optax"),
    }
  )


def open_batches(experiment: Experiment) -> Any:
  """The real training batches of an experiment, for one device."""
  experiment.data.prepare()
  assets = experiment.data.load_assets()
  return experiment.data.train_batches(
    assets, batch_size=experiment.training.batch_size, seed=experiment.seed
  )


class Runner:
  """The compiled step of an experiment, on one device, and its state."""

  def __init__(self, experiment: Experiment):
    """Initialises the state, as the trainer does."""
    self.log_every = experiment.training.log_every
    num_steps = experiment.training.num_steps
    tx = experiment.optimizer(num_steps)
    self.begin = time.perf_counter()
    state = create_state(
      make_init_fn(experiment), tx, jax.random.key(experiment.seed)
    )
    self.state = jax.block_until_ready(replicate(state, 1))
    self.train_step = compile_step(
      make_train_step(
        experiment.model.apply,
        experiment.loss,
        tx,
        metric_fns={"accuracy": correct},
        learning_rate_fn=experiment.optimizer.schedule(num_steps),
      ),
      donate=True,
    )

  @property
  def params(self) -> Any:
    """The current parameters."""
    return self.state.params

  def step(self, batch: Any) -> Any:
    """Makes one update and waits for it."""
    self.state, metrics = self.train_step(self.state, batch)
    return jax.block_until_ready(metrics)

  def loop(self, batches_from: Any, steps: int, train_step: Any = None) -> Any:
    """Makes updates by the loop of training; returns seconds and last event."""
    events: list[Any] = []
    first = int(self.state.step)
    begin = time.perf_counter()
    self.state, _ = run_loop(
      self.state,
      train_step=train_step or self.train_step,
      batches_from=batches_from,
      num_steps=first + steps,
      log_every=self.log_every,
      eval_every=steps,
      checkpoint_every=steps,
      evaluate_fn=lambda state: {},
      save_fn=lambda state, scores: None,
      writer=_Keep(events),
      should_stop=lambda: False,
      record_ids=lambda step: [],
    )
    jax.block_until_ready(self.state)
    seconds = (time.perf_counter() - begin) / steps
    return seconds, [e for e in events if e["kind"] == "train"]

  def measure(self, held: list[Any], batches: Any, steps: int) -> Any:
    """Measures everything, in the order of the other side."""
    before_step = time.perf_counter()
    metrics = self.step(held[0])
    first_loss = float(metrics["loss"])
    first_step = time.perf_counter() - before_step
    ready = time.perf_counter() - self.begin
    bare = side.time_bare(self.step, held, steps)
    last_loss = float(self.step(held[0])["loss"])
    loop, _ = self.loop(lambda step: side.cycle(held), steps)
    _, events = self.loop(batches.iterate, steps)

    def empty_step(state: TrainState, batch: Any) -> Any:
      del batch
      return state, metrics

    empty, _ = self.loop(
      lambda step: side.cycle(held), NUM_EMPTY_STEPS, empty_step
    )
    examples = side.mean_examples(held)
    return {
      "examples_per_second": examples / bare,
      "step_ms": 1e3 * bare,
      "loop_examples_per_second": _average(events, "examples_per_second"),
      "data_wait_percent": 100 * _average(events, "data_wait_share"),
      "overhead_ms": 1e3 * (loop - bare),
      "empty_loop_ms": 1e3 * empty,
      "ready_seconds": ready,
      "compile_seconds": first_step - bare,
      "peak_memory_mib": side.peak_memory(),
      "first_loss": first_loss,
      "last_loss": last_loss,
    }


class _Keep:
  """A writer that keeps events in a list."""

  def __init__(self, events: list[Any]):
    self.write = events.append


def _average(events: list[Any], name: str) -> float:
  """The mean of a rate over events, each weighed by its examples."""
  events = [event for event in events if event[name] is not None]
  weights = [event["num_examples"] for event in events]
  return float(np.average([event[name] for event in events], weights=weights))


def write_twin(
  folder: pathlib.Path, experiment: Experiment, state: TrainState
) -> None:
  """Writes what the other side needs to be the same model."""
  np.savez(folder / "parameters.npz", **flatten_parameters(state.params))
  settings = {
    "model": read_settings(experiment),
    "data": dataclasses.asdict(experiment.data),
    "optimizer": dataclasses.asdict(experiment.optimizer),
    "training": dataclasses.asdict(experiment.training),
    "seed": experiment.seed,
  }
  (folder / "settings.json").write_text(json.dumps(settings), "utf-8")


def flatten_parameters(params: Any) -> dict[str, np.ndarray]:
  """Returns the parameters by path, as `head/logits/kernel`."""
  return {
    "/".join(key.key for key in path): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }


def read_settings(experiment: Experiment) -> dict[str, Any] | None:
  """Returns the sizes that a twin needs; None where there is no twin.

  Raises:
    ValueError: the experiment has been given something that the twin lacks.
  """
  model = experiment.model
  image, text = model.encoders["image"], model.encoders["text"]
  fusion, head = model.fusion, model.head
  if not isinstance(fusion, CoAttention):
    return None
  parts = {
    "image": image,
    "text": text,
    "fusion": fusion,
    "head": head,
    "training": experiment.training,
    "loss": experiment.loss,
  }
  wrong = {
    f"{part}.{name}": getattr(parts[part], name)
    for part, only in ONLY.items()
    for name, value in only.items()
    if getattr(parts[part], name) != value
  }
  if head.pooling not in ("mean", "attention"):
    wrong["head.pooling"] = head.pooling
  if wrong:
    raise ValueError(
      f"the PyTorch twin cannot follow {wrong} of {experiment.name}: "
      "teach it that in benchmarks/torch_twin.py"
    )
  return {
    "vocabulary_size": text.vocabulary_size,
    "embedding_dim": text.embedding_dim,
    "width": fusion.width,
    "features": image.features,
    "num_heads": fusion.num_heads,
    "num_rounds": fusion.num_rounds,
    "mlp_dim": fusion.mlp_dim,
    "hidden": head.hidden,
    "num_classes": head.num_classes,
    "pooling": head.pooling,
  }


if __name__ == "__main__":
  main()
