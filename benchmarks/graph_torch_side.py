"""Measures graph layers in torch_geometric; started by graph.py."""

from collections.abc import Callable

import numpy as np
import torch
import torch_geometric.nn as geometric

from benchmarks import side
from benchmarks.fusion_side import Pass
from benchmarks.graph_side import (
  NUM_HEADS,
  Size,
  make_inputs,
  make_parameters,
  measure,
)


def main() -> None:
  """Measures what the request says."""
  request = side.read_request()
  torch.set_num_threads(side.num_cores())
  side.answer(
    {
      "results": measure(prepare, request),
      "device": "cpu",
      "versions": side.versions("torch", "torch_geometric"),
    }
  )


def make_layer(layer: str, width: int) -> torch.nn.Module:
  """Makes the layer with the parameters of mmjax."""
  arrays = make_parameters(layer, width)
  if layer == "gcn":
    module = geometric.GCNConv(width, width)
    named = {"lin.weight": arrays["node/kernel"].T, "bias": arrays["bias"]}
  else:
    head = width // NUM_HEADS
    module = geometric.GATv2Conv(width, head, heads=NUM_HEADS)
    named = {
      "lin_l.weight": arrays["sender/kernel"].T,
      "lin_l.bias": np.zeros(width, np.float32),  # mmjax has none
      "lin_r.weight": arrays["receiver/kernel"].T,
      "lin_r.bias": arrays["receiver/bias"],
      "att": arrays["score"][None],
      "bias": arrays["bias"],
    }
  module.load_state_dict(
    {name: torch.tensor(np.array(array)) for name, array in named.items()}
  )
  return module


def prepare(layer: str, size: Size) -> tuple[Pass, Callable[[], float]]:
  """Makes a layer ready; the graphs are joined to one, as is usual there."""
  model = make_layer(layer, size.width)
  nodes, *ends = make_inputs(size)
  shift = size.nodes * np.arange(size.graphs)[:, None]
  ends = torch.tensor(np.stack([(end + shift).ravel() for end in ends])).long()
  nodes = torch.tensor(nodes.reshape(-1, size.width), requires_grad=True)
  leaves = [*model.parameters(), nodes]

  def run() -> None:
    for leaf in leaves:
      leaf.grad = None
    model(nodes, ends).square().sum().backward()

  def norm() -> float:
    run()
    return float(nodes.grad.norm())

  count = sum(parameter.numel() for parameter in model.parameters())
  num_bytes = sum(tensor.nbytes for tensor in [*leaves, ends])
  return Pass(run, count, num_bytes), norm


if __name__ == "__main__":
  main()
