"""Fusions once more, in plain PyTorch, as one would write them from a paper.

Parameters have the names of mmjax's and load by name. A twin is made from the
width of its tokens, in and out, and maps values [B, N, D] and masks [B, N] of
each modality to [B, N', D]. Adding one is a class and a line in `TWINS`.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from benchmarks import fusion_token_twins as tokens
from benchmarks import fusion_vector_twins as vectors

TWINS: dict[str, Callable[[int], nn.Module]] = {
  "concat": tokens.Concat,
  "elementwise": vectors.Elementwise,
  "weighted": vectors.Weighted,
  "gated": vectors.Gated,
  "gmu": vectors.Gmu,
  "film": vectors.FiLM,
  "convolutional": tokens.Convolutional,
  "tensor": vectors.TensorFusion,
  "multiplicative": vectors.Multiplicative,
  "low_rank": vectors.LowRank,
  "mlb": vectors.Mlb,
  "mfb": vectors.Mfb,
  "mutan": vectors.Mutan,
  "block": vectors.Block,
  "co_attention": tokens.CoAttention,
  "cross_attention": tokens.CrossAttention,
  "transformer": tokens.Transformer,
  "mult": tokens.MulT,
  "bottleneck": tokens.Bottleneck,
  "perceiver": tokens.Perceiver,
}


def count_parameters(model: nn.Module) -> int:
  """Counts what mmjax has too: not the biases of keys, kept at zero."""
  unused = getattr(model, "num_unused", 0)
  return sum(p.numel() for p in model.parameters()) - unused


def load_parameters(
  model: nn.Module, parameters: Mapping[str, np.ndarray]
) -> None:
  """Gives a twin the parameters of mmjax, named as `out/kernel`.

  Raises:
    RuntimeError: names or shapes that do not match one to one.
  """
  state = {}
  for path, value in parameters.items():
    *parents, leaf = path.split("/")
    tensor = torch.from_numpy(np.array(value))
    if leaf == "kernel":
      tensor = tensor.permute(*reversed(range(tensor.ndim)))
    leaf = {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)
    state[".".join([*parents, leaf])] = tensor
  if hasattr(model, "rename"):
    state = model.rename(state)
  model.load_state_dict(state)
