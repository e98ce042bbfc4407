"""Measures the PyTorch twin's train step and loop; started by train_step.py.

Batches come from the same pipeline. The loop is the plain one that a user of
PyTorch writes: next batch, step, and the metrics fetched when it logs.
"""

import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks import side
from benchmarks.torch_step import TrainStep
from benchmarks.torch_twin import Settings, Twin, load_parameters
from mmjax.data.easy_vqa import EasyVqa


def main() -> None:
  """Measures what the request says."""
  # The pipeline's libraries import JAX where they find it; a user of PyTorch
  # has none, and its memory would count here.
  sys.modules["jax"] = None
  request = side.read_request()
  folder, steps = pathlib.Path(request["folder"]), request["steps"]
  settings = json.loads((folder / "settings.json").read_text("utf-8"))
  torch.set_num_threads(side.num_cores())
  data, training = EasyVqa(**settings["data"]), settings["training"]
  batches = data.train_batches(
    data.load_assets(), batch_size=training["batch_size"], seed=settings["seed"]
  )
  held = [batches.batch(i) for i in range(side.NUM_HELD)]

  begin = time.perf_counter()
  model = Twin(Settings(**settings["model"]))
  load_parameters(model, np.load(folder / "parameters.npz"))
  step = TrainStep(model, settings["optimizer"], training["num_steps"])
  first_loss = float(step(held[0])["loss"])
  ready = time.perf_counter() - begin

  bare = side.time_bare(step, held, steps)
  last_loss = float(step(held[0])["loss"])
  log_every = training["log_every"]
  loop = run_loop(step, side.cycle(held), steps, log_every)
  real = run_loop(step, batches.iterate(step.step), steps, log_every)
  side.answer(
    {
      "examples_per_second": side.mean_examples(held) / bare,
      "step_ms": 1e3 * bare,
      "loop_examples_per_second": real["examples_per_second"],
      "data_wait_percent": 100 * real["data_wait_share"],
      "overhead_ms": 1e3 * (loop["seconds"] - bare),
      "ready_seconds": ready,
      "peak_memory_mib": side.peak_memory(),
      "first_loss": first_loss,
      "last_loss": last_loss,
      "num_parameters": sum(
        p.numel() for p in model.parameters() if p.requires_grad
      ),
      "device": "cpu",
      "versions": side.versions("torch"),
    }
  )


def run_loop(
  step: TrainStep, batches: Iterator[Any], steps: int, log_every: int
) -> dict[str, float]:
  """Makes updates and measures them, the first one left out of the rates."""
  kept: list[Any] = []
  examples = waited = 0.0
  origin = begin = time.perf_counter()
  for i in range(steps):
    before = time.perf_counter()
    batch = next(batches)
    waited += time.perf_counter() - before
    kept.append(step(batch))
    if i == 0:
      begin, waited, examples = time.perf_counter(), 0.0, 0.0
    else:
      examples += float(kept[-1]["num_examples"])
    if len(kept) == log_every or i == steps - 1:
      _ = {key: np.mean([float(m[key]) for m in kept]) for key in kept[0]}
      kept = []
  end = time.perf_counter()
  batches.close()
  return {
    "seconds": (end - origin) / steps,
    "examples_per_second": examples / (end - begin),
    "data_wait_share": waited / (end - begin),
  }


if __name__ == "__main__":
  main()
