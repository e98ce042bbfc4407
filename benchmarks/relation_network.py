"""Times the pairs of a Relation Network, all at once and in chunks.

  python -m benchmarks.relation_network

A forward and a backward pass, gradients by all parameters, objects and the
query. The rows take turns within one process, so that what else the machine
does hits all of them. Beside them stands PyTorch with the same layers on all
pairs at once, if it is installed, with as many threads as there are cores for
this process.
"""

import argparse
import functools
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Tokens
from mmjax.nn.relation_network import RelationNetwork


def main() -> None:
  """Parses the flags, measures, prints the table."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.relation_network",
    description=__doc__.split("\n", 1)[0],
  )
  add = functools.partial(parser.add_argument, type=int)
  add("--batch", default=160, help="examples (default: 160)")
  add("--objects", default=25, help="objects of an example (default: 25)")
  add("--width", default=64, help="width of both layers (default: 64)")
  add("--chunks", nargs="+", default=[1, 4, 16], help="sizes (default: 1 4 16)")
  add("--repeats", default=9, help="repeats of a pass (default: 9)")
  args = parser.parse_args()
  print(
    measure(args.batch, args.objects, args.width, args.chunks, args.repeats)
  )


def measure(
  batch: int, objects: int, width: int, chunks: Sequence[int], repeats: int
) -> str:
  """Returns a table in Markdown.

  Raises:
    AssertionError: the gradients of two rows differ.
  """
  rng = np.random.default_rng(0)
  inputs = [
    rng.normal(size=shape).astype(np.float32)
    for shape in [(batch, objects, 32), (batch, 32)]
  ]
  params = None
  passes, memory, norms = {}, {}, {}
  for size in (None, *chunks):
    name = "all at once" if size is None else f"chunks of {size}"
    module = RelationNetwork((width, width), (width,), chunk_size=size)
    if params is None:
      params = jax.jit(functools.partial(module.init, train=False))(
        jax.random.key(0), _tokens(inputs[0]), inputs[1]
      )
    passes[name], memory[name] = compile_pass(module, params, inputs)
  if importlib.util.find_spec("torch"):
    passes["PyTorch, all at once"] = torch_pass(params["params"], inputs)
  times = {name: [] for name in passes}
  for repeat in range(repeats + 1):
    for name, run in passes.items():
      begin = time.perf_counter()
      norms[name] = run()
      if repeat:  # The first pass warms up.
        times[name].append(time.perf_counter() - begin)
  for name, norm in norms.items():
    np.testing.assert_allclose(
      norm, norms["all at once"], rtol=1e-3, err_msg=name
    )
  return format_table(times, memory)


def _tokens(values: jax.Array) -> Tokens:
  return Tokens(values, jnp.ones(values.shape[:2], bool))


def compile_pass(
  module: RelationNetwork, params: dict, inputs: Sequence[np.ndarray]
) -> tuple[Callable[[], float], float]:
  """Makes what runs a pass and returns the gradients' norm, and its MiB."""

  def loss(params, values, query):
    out = module.apply(params, _tokens(values), query, train=False)
    return (out**2).mean()

  def run(*args):
    grads = jax.grad(loss, argnums=(0, 1, 2))(*args)
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(grads)) ** 0.5

  args = params, *map(jnp.asarray, inputs)
  compiled = jax.jit(run).lower(*args).compile()
  mib = compiled.memory_analysis().temp_size_in_bytes / 2**20
  return lambda: float(compiled(*args)), mib


def torch_pass(
  params: dict, inputs: Sequence[np.ndarray]
) -> Callable[[], float]:
  """Makes what runs the same pass in PyTorch."""
  import torch

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  leaves = {
    f"{layer}/{name}": torch.tensor(np.array(value), requires_grad=True)
    for layer, values in params.items()
    for name, value in values.items()
  }
  values, query = (torch.tensor(x, requires_grad=True) for x in inputs)

  def run() -> float:
    first = values @ leaves["first_object/kernel"]
    first = first + leaves["first_object/bias"]
    first = first + (query @ leaves["query/kernel"])[:, None]
    second = values @ leaves["second_object/kernel"]
    hidden = torch.relu(first[:, :, None] + second[:, None])
    hidden = hidden @ leaves["pair_1/kernel"] + leaves["pair_1/bias"]
    total = torch.relu(hidden).sum((1, 2))
    out = torch.relu(total @ leaves["sum_0/kernel"] + leaves["sum_0/bias"])
    grads = torch.autograd.grad(
      (out**2).mean(), [*leaves.values(), values, query]
    )
    return sum(float((grad**2).sum()) for grad in grads) ** 0.5

  return run


def format_table(
  times: dict[str, list[float]], memory: dict[str, float]
) -> str:
  """A row for each way: median and range, and ratios to all at once."""
  whole = times["all at once"]
  lines = [
    "| pairs | ms | share of the time of all at once | MiB besides inputs |",
    "|---|---|---|---|",
  ]
  for name, seconds in times.items():
    share = statistics.median(
      one / other for one, other in zip(seconds, whole, strict=True)
    )
    low, middle, high = (
      f"{1e3 * pick(seconds):.0f}" for pick in (min, statistics.median, max)
    )
    mib = f"{memory[name]:.1f}" if name in memory else ""
    lines.append(
      f"| {name} | {middle} ({low} to {high}) | {share:.2f} | {mib} |"
    )
  return "\n".join(lines)


if __name__ == "__main__":
  main()
