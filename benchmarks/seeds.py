"""Several seeds at once or in a row: which is faster, by family of encoder.

  python -m benchmarks.seeds --json seeds.json

The rule of `mmjax.comparison.program.should_map` rests on this table. For each
family one update of all seeds is timed, mapped by `jax.vmap` and one after the
other through one program, in turn, and the medians are compared.
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import runner
from mmjax.array_types import Tokens
from mmjax.comparison.program import compile_program, should_map
from mmjax.encoders.image import GridEncoder, PatchEncoder
from mmjax.encoders.text import RecurrentEncoder, TransformerEncoder
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.fusion.concat import Concat
from mmjax.heads.classifier import Classifier
from mmjax.losses.cross_entropy import CrossEntropy
from mmjax.metrics.classification import ClassificationMetrics
from mmjax.models.multimodal import MultimodalModel
from mmjax.training.optimizer import AdamW

WIDTH, BATCH = 64, 128
COLUMNS = (
  "encoder",
  "mapped, ms",
  "in a row, ms",
  "mapped / in a row",
  "rule",
)


class VectorEncoder(nn.Module):
  """Two dense layers on a vector: what remains when nothing is structured."""

  width: int

  @nn.compact
  def __call__(self, values, mask, *, train):
    """Maps [R, F] to tokens [R, 1, width]."""
    hidden = nn.relu(nn.Dense(self.width)(values))
    hidden = nn.Dense(self.width)(hidden)
    return Tokens(hidden[:, None], mask[:, None])


FAMILIES = {
  "perceptron": (VectorEncoder(WIDTH), "vector"),
  "text Transformer": (
    TransformerEncoder(
      vocabulary_size=50,
      width=WIDTH,
      num_layers=1,
      num_heads=4,
      mlp_dim=2 * WIDTH,
      max_length=12,
    ),
    "words",
  ),
  "image Transformer": (
    PatchEncoder(
      width=WIDTH, patch_size=8, num_layers=1, num_heads=4, mlp_dim=2 * WIDTH
    ),
    "image",
  ),
  "LSTM": (
    RecurrentEncoder(
      vocabulary_size=50, embedding_dim=32, width=WIDTH, cell="lstm"
    ),
    "words",
  ),
  "convolutions": (GridEncoder(width=WIDTH, features=(16, 32)), "image"),
}


@dataclasses.dataclass(frozen=True)
class Rows:
  """Random rows of one kind of content."""

  kind: str

  def arrays(self, split: str) -> dict[str, np.ndarray]:
    """Returns twice as many rows as a batch has."""
    rng = np.random.default_rng(0)
    number = 2 * BATCH
    values = {
      "vector": rng.normal(size=(number, 200)).astype(np.float32),
      "words": rng.integers(1, 50, (number, 12)).astype(np.int32),
      "image": rng.integers(0, 256, (number, 32, 32, 3)).astype(np.uint8),
    }[self.kind]
    mask_shape = (number, 12) if self.kind == "words" else (number,)
    return {
      "one": values,
      "one_mask": np.ones(mask_shape, bool),
      "label": rng.integers(0, 5, number).astype(np.int32),
      "example_mask": np.ones(number, bool),
    }


def make_experiment(encoder: nn.Module, kind: str) -> Experiment:
  """Makes an experiment around one encoder."""
  return Experiment(
    name="seeds",
    model=MultimodalModel({"one": encoder}, Concat(WIDTH), Classifier(5)),
    data=Rows(kind),
    loss=CrossEntropy(),
    optimizer=AdamW(),
    training=Training(num_steps=1000, batch_size=BATCH),
    evaluation=Evaluation(metrics=ClassificationMetrics(num_classes=5)),
  )


def measure(experiment: Experiment, num_seeds: int, repeats: int) -> dict:
  """Returns milliseconds of an update of all seeds, both ways."""
  data = jax.device_put(experiment.data.arrays("train"))
  index = jnp.arange(BATCH)
  keys = [jax.random.key(seed) for seed in range(num_seeds)]

  def stack(parts: list) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)

  mapped = compile_program(experiment, mapped=True)
  all_data, all_index = stack([data] * num_seeds), stack([index] * num_seeds)
  state = mapped.create(stack(keys), all_data)
  row = compile_program(experiment, mapped=False)
  states = [row.create(key, data) for key in keys]

  def run_mapped() -> None:
    nonlocal state
    state = jax.block_until_ready(mapped.step(state, all_data, all_index))

  def run_row() -> None:
    for place, one in enumerate(states):
      states[place] = row.step(one, data, index)
    jax.block_until_ready(states)

  times = {"mapped": [], "row": []}
  for repeat in range(repeats + 1):
    for name, run in (("mapped", run_mapped), ("row", run_row)):
      seconds = _time(run)
      if repeat:  # the first one compiles
        times[name].append(1000 * seconds)
  return {
    **{name: statistics.median(values) for name, values in times.items()},
    "rule": should_map(experiment, experiment.data.arrays("train")),
  }


def main() -> None:
  """Measures all families and prints the table."""
  parser = runner.make_parser("seeds", __doc__, repeats=15, what="updates")
  parser.add_argument("--seeds", type=int, default=8)
  args = parser.parse_args()
  if min(args.seeds, args.repeats) < 1:
    parser.error("at least 1 seed and 1 repeat are needed")
  busy, results, rows = [], {}, []
  for name, (encoder, kind) in FAMILIES.items():
    print(f"measuring {name}", file=sys.stderr)
    busy.append(runner.measure_busy())
    found = measure(make_experiment(encoder, kind), args.seeds, args.repeats)
    results[name] = found
    times = [found["mapped"], found["row"]]
    ratio = runner.show_ratio(times[:1], times[1:])
    rule = "mapped" if found["rule"] else "in a row"
    rows.append([name, *(f"{ms:.1f}" for ms in times), ratio, rule])
  device = jax.devices()[0].device_kind
  machine = f"{runner.describe_machine()}, {device}, jax {jax.__version__}"
  lines = [*runner.warn_if_busy(busy), f"{args.seeds} seeds, {machine}:", ""]
  print("\n".join(lines + runner.list_rows(COLUMNS, rows)))
  runner.write_json(args.json, results)


def _time(run: Callable[[], None]) -> float:
  begin = time.perf_counter()
  run()
  return time.perf_counter() - begin


if __name__ == "__main__":
  main()
