"""Measures the fusions in PyTorch; started by fusion.py."""

import torch

from benchmarks import side
from benchmarks.fusion_side import Pass, Size, make_inputs, measure
from benchmarks.fusion_twins import TWINS, count_parameters


def main() -> None:
  """Measures what the request says, where there is a twin."""
  request = side.read_request()
  torch.set_num_threads(side.num_cores())
  names = [n for n in TWINS if n in (request["fusions"] or TWINS)]
  side.answer(
    {
      "results": measure(prepare, names, request),
      "device": "cpu",
      "versions": side.versions("torch"),
    }
  )


def prepare(name: str, size: Size) -> Pass:
  """Makes a fusion ready; gradients are dropped at the end of a pass."""
  model = TWINS[name](size.width)
  values, masks = (
    {m: torch.from_numpy(array) for m, array in arrays.items()}
    for arrays in make_inputs(size)
  )
  for tensor in values.values():
    tensor.requires_grad_()
  leaves = [*model.parameters(), *values.values()]

  def run() -> None:
    model(values, masks).square().sum().backward()
    for leaf in leaves:
      leaf.grad = None

  return Pass(
    run,
    count_parameters(model),
    sum(tensor.nbytes for tensor in [*leaves, *masks.values()]),
  )


if __name__ == "__main__":
  main()
