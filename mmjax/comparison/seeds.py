"""Trains one method on one setting with several seeds.

The split that is called validation picks the best step of each seed; the test
split is scored once, with that step's parameters, whole and with each
modality missing.
"""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mmjax
from mmjax.array_types import Batch
from mmjax.comparison.program import (
  Program,
  compile_program,
  should_map,
  without_modality,
)
from mmjax.experiment import Experiment

# Rows that are scored at once; larger splits are worked off in pieces.
_ROWS_AT_ONCE = 2048


@dataclasses.dataclass(frozen=True)
class SeedResult:
  """What one seed of a method reached.

  Attributes:
    seed: the seed.
    accuracy: share of the test split that is answered rightly.
    accuracy_without: the same with a modality missing, by its name.
    validation_accuracy: that of the step which was chosen.
    best_step: the step which was chosen.
    seconds: training, compilation and evaluation included; seeds that were
      trained at once share their time equally.
    right: for each row of the test split "1" or "0", answered rightly or not.
    mapped: whether the seeds of one call were trained at once.
    origin: versions and device that made it.
  """

  seed: int
  accuracy: float
  accuracy_without: Mapping[str, float]
  validation_accuracy: float
  best_step: int
  seconds: float
  right: str
  mapped: bool
  origin: str


def train_seeds(
  experiments: Mapping[int, Experiment],
  *,
  mapped: bool | None = None,
) -> Iterator[SeedResult]:
  """Trains the same experiment with several seeds by one program.

  Args:
    experiments: for each seed the experiment; they differ in nothing but
      seeds. `data.arrays(split)` of each gives a whole split at once.
    mapped: whether to train all at once; None chooses, see `should_map`.

  Yields:
    One result a seed, in order, as soon as it is there.

  Raises:
    ValueError: a batch larger than the training split, or data whose rows are
      shared by examples.
    FloatingPointError: a loss or gradient that is not finite.
  """
  first = next(iter(experiments.values()))
  data = first.data.arrays("train")
  if mapped is None:
    mapped = should_map(first, data)
  mapped = mapped and len(experiments) > 1
  shared = [m for m in first.model.encoders if f"{m}_index" in data]
  if shared:
    raise ValueError(
      f"examples share rows of {', '.join(sorted(shared))}; a comparison draws "
      "its batches row by row, so give each example its own row in "
      "data.arrays(split)"
    )
  program = compile_program(first, mapped=mapped)
  seeds = list(experiments)
  groups = [seeds] if mapped else [[seed] for seed in seeds]
  for group in groups:
    chosen = {seed: experiments[seed] for seed in group}
    yield from _train_group(program, chosen, mapped)


def _train_group(
  program: Program,
  experiments: Mapping[int, Experiment],
  mapped: bool,
) -> list[SeedResult]:
  """Trains the seeds that one call of the program trains."""
  begin = time.perf_counter()
  first = next(iter(experiments.values()))
  training, seeds = first.training, list(experiments)

  def load(split: str) -> Batch:
    parts = [each.data.arrays(split) for each in experiments.values()]
    return jax.device_put(_join(parts, mapped))

  train, validation = load("train"), load("validation")
  num_rows = train["label"].shape[-1]
  if training.batch_size > num_rows:
    raise ValueError(
      f"training.batch_size is {training.batch_size}, but there are only "
      f"{num_rows} training rows; set it to at most that"
    )
  keys = _join(
    [jax.random.key(each.seed) for each in experiments.values()], mapped
  )
  state = program.create(keys, train)
  orders = [
    _Order(each.seed, num_rows, training.batch_size)
    for each in experiments.values()
  ]
  best = jax.tree.map(jnp.copy, state.params)
  best_accuracy = np.full(len(seeds), -1.0)
  best_step = np.zeros(len(seeds), int)
  for step in range(training.num_steps):
    index = _join([order.batch(step) for order in orders], mapped)
    state = program.step(state, train, index)
    done = step + 1
    if done % training.eval_every == 0 or done == training.num_steps:
      _check_finite(state, seeds)
      right = _score(program, state.params, validation, mapped)
      accuracy = right.mean(axis=-1)
      better = accuracy > best_accuracy
      best = _choose(better, state.params, best, mapped)
      best_accuracy = np.where(better, accuracy, best_accuracy)
      best_step = np.where(better, done, best_step)
  test = load("test")
  modalities = sorted(first.model.encoders)
  right = _score(program, best, test, mapped)
  without = {
    m: _score(program, best, without_modality(test, m), mapped).mean(axis=-1)
    for m in (modalities if len(modalities) > 1 else ())
  }
  seconds = (time.perf_counter() - begin) / len(seeds)
  return [
    SeedResult(
      seed=seed,
      accuracy=float(right[place].mean()),
      accuracy_without={m: float(without[m][place]) for m in without},
      validation_accuracy=float(best_accuracy[place]),
      best_step=int(best_step[place]),
      seconds=seconds,
      right="".join("01"[answer] for answer in right[place].astype(int)),
      mapped=mapped,
      origin=_describe_origin(),
    )
    for place, seed in enumerate(seeds)
  ]


class _Order:
  """The rows of each batch: every epoch all of them, in another order."""

  def __init__(self, seed: int, num_rows: int, batch_size: int):
    self._seed, self._num_rows, self._size = seed, num_rows, batch_size
    self._per_epoch = num_rows // batch_size
    self._epoch, self._rows = -1, np.zeros(0, np.int32)

  def batch(self, step: int) -> np.ndarray:
    """Returns int32 [B], a function of seed and step."""
    epoch, place = divmod(step, self._per_epoch)
    if epoch != self._epoch:
      rng = np.random.default_rng([self._seed, epoch])
      self._rows = rng.permutation(self._num_rows).astype(np.int32)
      self._epoch = epoch
    return self._rows[place * self._size : (place + 1) * self._size]


def _join(parts: Sequence[Any], mapped: bool) -> Any:
  """Puts an axis of seeds in front, or takes the only one."""
  if not mapped:
    return parts[0]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


def _score(
  program: Program, params: Any, data: Batch, mapped: bool
) -> np.ndarray:
  """Says which rows are answered rightly, bool [seeds, n]."""
  axis = 1 if mapped else 0
  num_rows = data["label"].shape[axis]
  pieces = []
  for start in range(0, num_rows, _ROWS_AT_ONCE):
    rows = slice(start, start + _ROWS_AT_ONCE)
    where = (slice(None), rows) if mapped else (rows,)
    piece = {name: value[where] for name, value in data.items()}
    pieces.append(np.asarray(program.score(params, piece)))
  return np.atleast_2d(np.concatenate(pieces, axis=-1))


def _describe_origin() -> str:
  device = jax.devices()[0].device_kind
  return f"mmjax {mmjax.__version__}, jax {jax.__version__}, {device}"


def _choose(better: np.ndarray, new: Any, old: Any, mapped: bool) -> Any:
  """Takes the new parameters of the seeds that got better."""
  if not mapped:
    # Copied, because the next step writes over the state that it is given.
    return jax.tree.map(jnp.copy, new) if better[0] else old

  def choose(a: jax.Array, b: jax.Array) -> jax.Array:
    where = jnp.asarray(better).reshape(-1, *[1] * (a.ndim - 1))
    return jnp.where(where, a, b)

  return jax.tree.map(choose, new, old)


def _check_finite(state: Any, seeds: Sequence[int]) -> None:
  """Stops at the first seed whose loss or gradient was not finite."""
  bad = np.atleast_1d(np.asarray(state.bad_step))
  for seed, step in zip(seeds, bad.tolist(), strict=True):
    if step >= 0:
      raise FloatingPointError(
        f"seed {seed}: the loss or gradient of step {step} is not finite; "
        "lower optimizer.learning_rate"
      )
