"""The compiled functions of one method, shared by all of its seeds.

A method on a setting is trained several times, with seeds that decide the
parameters, the order of the batches and, for generated data, the data. All of
these runs have the same shapes, so they share one program: compiled once, and
either mapped over the seeds by `jax.vmap` or called for one after the other.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.analysis import flops
from mmjax.array_types import Array, Batch
from mmjax.experiment import Experiment
from mmjax.training.state import TrainState, create_state
from mmjax.training.step import make_train_step

# Primitives that are slower mapped over seeds than called in a row, on a CPU,
# as `benchmarks/seeds.py` measures; so are attention's products, with heads.
_SLOW_WHEN_MAPPED = ("conv_general_dilated", "scan", "while")


@dataclasses.dataclass(frozen=True)
class Program:
  """The functions of a method, for one seed or for several at once.

  With several seeds every argument and result has a leading axis of seeds.

  Attributes:
    create: (typed key, data) -> state.
    step: (state, data, index int [B]) -> state after one update on these rows.
    score: (params, data) -> bool [n], which rows are answered rightly.
  """

  create: Callable[[Array, Batch], TrainState]
  step: Callable[[TrainState, Batch, Array], TrainState]
  score: Callable[[Any, Batch], Array]


@functools.lru_cache(maxsize=8)
def _compile(parts: tuple[Any, ...], mapped: bool) -> Program:
  """Compiles the functions of (model, loss, optimizer, number of steps)."""
  model, loss, optimizer, num_steps = parts
  tx = optimizer(num_steps)
  train_step = make_train_step(model.apply, loss, tx)

  def create(rng: Array, data: Batch) -> TrainState:
    one = jax.tree.map(lambda leaf: leaf[:1], data)
    return create_state(lambda key: model.init(key, one, train=False), tx, rng)

  def step(state: TrainState, data: Batch, index: Array) -> TrainState:
    batch = jax.tree.map(lambda leaf: leaf[index], data)
    return train_step(state, batch)[0]

  def score(params: Any, data: Batch) -> Array:
    outputs = model.apply({"params": params}, data, train=False)
    return outputs["logits"].argmax(axis=-1) == data["label"]

  lift = jax.vmap if mapped else (lambda function: function)
  return Program(
    create=jax.jit(lift(create)),
    step=jax.jit(lift(step), donate_argnums=0),
    score=jax.jit(lift(score)),
  )


def compile_program(experiment: Experiment, *, mapped: bool) -> Program:
  """Returns the program of an experiment; equal experiments share one.

  Args:
    experiment: its model, loss, optimizer and number of steps decide.
    mapped: whether the functions take several seeds at once.
  """
  parts = (
    experiment.model,
    experiment.loss,
    experiment.optimizer,
    experiment.training.num_steps,
  )
  return _compile(parts, mapped)


def should_map(experiment: Experiment, data: Batch) -> bool:
  """Says whether the seeds of an experiment train faster mapped than in a row.

  On a CPU they do unless the model has convolutions, loops or attention; on a
  GPU or TPU, where nobody has measured it, always. The rule is what
  `benchmarks/seeds.py` measured, and not a timing of the moment: the same
  command gives the same program every time.

  Args:
    experiment: the experiment.
    data: rows of its data.
  """
  if jax.default_backend() != "cpu":
    return True
  one = jax.tree.map(lambda leaf: leaf[:1], data)
  jaxpr = jax.make_jaxpr(
    lambda rng: experiment.model.init_with_output(rng, one, train=False)[0]
  )(jax.random.key(0))
  return not any(map(_is_slow_when_mapped, _equations(jaxpr.jaxpr)))


def count_parameters(experiment: Experiment, data: Batch) -> int:
  """Returns the number of parameters, running statistics among them.

  Nothing is computed.
  """
  return sum(leaf.size for leaf in jax.tree.leaves(_shapes(experiment, data)))


def count_flops(experiment: Experiment, data: Batch) -> int:
  """Returns floating-point operations of the forward pass of one example.

  See `mmjax.analysis.flops`; nothing is computed.

  Args:
    experiment: the experiment.
    data: rows of its data.
  """

  def run(params: Any, batch: Batch) -> Array:
    variables = {"params": params}
    return experiment.model.apply(variables, batch, train=False)["logits"]

  one = {name: value[:1] for name, value in data.items()}
  return flops.count_flops(run, _shapes(experiment, data), one)


def without_modality(data: Batch, modality: str) -> Batch:
  """Returns the same rows with one modality missing."""
  name = f"{modality}_mask"
  return {**data, name: jnp.zeros_like(data[name])}


def _shapes(experiment: Experiment, data: Batch) -> Mapping[str, Any]:
  one = {name: value[:1] for name, value in data.items()}
  return jax.eval_shape(
    lambda rng: experiment.model.init(rng, one, train=False)["params"],
    jax.random.key(0),
  )


def _is_slow_when_mapped(equation: Any) -> bool:
  name = equation.primitive.name
  if name != "dot_general":
    return name in _SLOW_WHEN_MAPPED
  _, (batch_axes, _) = equation.params["dimension_numbers"]
  return len(batch_axes) > 1  # examples and heads


def _equations(program: Any) -> Iterator[Any]:
  """Yields all equations, those of inner programs included."""
  for equation in program.eqns:
    yield equation
    for inner in flops.inner_programs(equation):
      yield from _equations(inner)
