"""Measures graph layers in mmjax, sparse or dense; started by graph.py."""

from collections.abc import Callable
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp

from benchmarks import side
from benchmarks.fusion_side import Pass
from benchmarks.graph_side import (
  NUM_HEADS,
  Size,
  make_inputs,
  make_parameters,
  measure,
)
from mmjax.array_types import Array, Tokens
from mmjax.nn.dense_graph import to_dense
from mmjax.nn.edges import EdgeList
from mmjax.nn.graph import make_graph
from mmjax.nn.graph_attention import DynamicGraphAttention
from mmjax.nn.graph_convolution import GraphConvolution


def main() -> None:
  """Measures what the request says."""
  request = side.read_request()
  # No compiling is timed: later repeats take what the first one compiled.
  jax.config.update("jax_compilation_cache_dir", request["folder"])
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  dense = "dense" in request["side"]
  side.answer(
    {
      "results": measure(lambda *what: prepare(*what, dense=dense), request),
      "device": jax.devices()[0].device_kind,
      "versions": side.versions("jax", "jaxlib", "flax"),
    }
  )


def prepare(
  layer: str, size: Size, *, dense: bool
) -> tuple[Pass, Callable[[], float]]:
  """Makes a layer ready: its compiled pass, and the norm of a gradient."""
  modules = {
    "gcn": GraphConvolution(size.width),
    "gatv2": DynamicGraphAttention(size.width, num_heads=NUM_HEADS),
  }
  module = modules[layer]
  params = flax.traverse_util.unflatten_dict(
    make_parameters(layer, size.width), sep="/"
  )
  nodes, senders, receivers = map(jnp.asarray, make_inputs(size))
  edges = EdgeList(senders, receivers, jnp.ones(senders.shape, bool))
  there = jnp.ones(nodes.shape[:2], bool)
  graph = make_graph(Tokens(nodes, there), edges)
  graph = jax.block_until_ready(to_dense(graph) if dense else graph)
  params = jax.device_put(params)

  def loss(params: Any, nodes: Array, graph: Any) -> Array:
    graph = graph.replace(nodes=nodes)
    return jnp.square(
      module.apply({"params": params}, graph, train=False)
    ).sum()

  step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
  compiled = step.lower(params, nodes, graph).compile()

  def run() -> None:
    jax.block_until_ready(compiled(params, nodes, graph))

  def norm() -> float:
    return float(jnp.linalg.norm(compiled(params, nodes, graph)[1][1]))

  leaves = jax.tree.leaves((params, graph))
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  return Pass(run, count, sum(leaf.nbytes for leaf in leaves)), norm


if __name__ == "__main__":
  main()
