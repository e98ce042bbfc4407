"""One update of the PyTorch twin: loss, gradient, clipping, AdamW.

Differs from mmjax: there is no check for numbers that are not finite, and
clipping divides by the norm plus 1e-6.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.torch_twin import Twin


def to_tensors(batch: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
  """Wraps a batch of numpy arrays; nothing is copied but integers widened."""
  tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
  for name in ("text", "image_index", "label"):
    tensors[name] = tensors[name].long()
  return tensors


def learning_rate(
  step: int,
  num_steps: int,
  *,
  peak: float,
  warmup_fraction: float,
  end_factor: float,
) -> float:
  """Linear warm-up, then half a cosine, as mmjax's `AdamW.schedule`."""
  warmup = min(round(warmup_fraction * num_steps), num_steps - 1)
  update = step + 1
  if update <= warmup:
    return peak * update / warmup
  progress = min((update - warmup) / (num_steps - warmup), 1.0)
  cosine = (1 + math.cos(math.pi * progress)) / 2
  return peak * (end_factor + (1 - end_factor) * cosine)


class TrainStep:
  """Updates the twin, batch by batch.

  Attributes:
    model: the twin, updated in place.
    optimizer: fused AdamW; it decays kernels only.
    step: updates made.
  """

  def __init__(
    self, model: Twin, settings: Mapping[str, float], num_steps: int
  ):
    """Takes the fields of mmjax's `AdamW` as `settings`."""
    self.model, self.num_steps, self.step = model, num_steps, 0
    settings = dict(settings)
    self._clip_norm = settings.pop("clip_norm")
    decay = settings.pop("weight_decay")
    betas = settings.pop("b1"), settings.pop("b2")
    settings["peak"] = settings.pop("learning_rate")
    self._schedule = settings
    trained = [
      (name, p) for name, p in model.named_parameters() if p.requires_grad
    ]
    self._parameters = [p for _, p in trained]
    kernels = [p for name, p in trained if _is_kernel(name, p)]
    others = [p for name, p in trained if not _is_kernel(name, p)]
    self.optimizer = torch.optim.AdamW(
      [
        {"params": kernels, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
      ],
      betas=betas,
      fused=True,
    )

  def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Updates the model and returns the metrics that mmjax's step has."""
    tensors = to_tensors(batch)
    mask = tensors["example_mask"].float()
    count = mask.sum().clamp(min=1)
    rate = learning_rate(self.step, self.num_steps, **self._schedule)
    for group in self.optimizer.param_groups:
      group["lr"] = rate
    self.optimizer.zero_grad()
    logits = self.model(tensors)
    losses = functional.cross_entropy(
      logits, tensors["label"], reduction="none"
    )
    loss = (losses * mask).sum() / count
    loss.backward()
    norm = nn.utils.clip_grad_norm_(
      self._parameters, self._clip_norm or math.inf
    )
    self.optimizer.step()
    self.step += 1
    right = (logits.detach().argmax(1) == tensors["label"]) * mask
    return {
      "loss": loss.detach(),
      "accuracy": right.sum() / count,
      "grad_norm": norm.detach(),
      "num_examples": mask.sum(),
    }


def _is_kernel(name: str, parameter: Tensor) -> bool:
  return parameter.ndim >= 2 and ".embed." not in name
