"""Times one form of 3-D convolution; started by convolution3d.py."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import side

# A step, and what gives the norm of its last gradients.
Measured = tuple[Callable[[Any], None], Callable[[], float]]


def main() -> None:
  """Measures what the request says."""
  request = side.read_request()
  form, steps = request["side"], request["steps"]
  times, norms = [], []
  for number, layer in enumerate(request["layers"]):
    arrays = make_arrays(number, layer)
    make_fn = make_torch_step if form == "torch" else make_mmjax_step
    step, norm_fn = make_fn(form, arrays)
    times.append(1e3 * side.time_bare(step, [None], steps))
    norms.append(norm_fn())
  libraries = ("torch",) if form == "torch" else ("jax", "jaxlib", "flax")
  side.answer(
    {
      "step_ms": times,
      "norms": norms,
      "peak_memory_mib": side.peak_memory(),
      "device": find_device(form),
      "versions": side.versions(*libraries),
    }
  )


def find_device(form: str) -> str:
  """Returns where a form is computed."""
  if form == "torch":
    return "cpu"
  import jax

  return jax.devices()[0].device_kind


def make_arrays(seed: int, layer: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Makes the clips, the parameters and the gradient of the output."""
  rng = np.random.default_rng(seed)
  clips, features = layer["clips"], layer["features"]
  shapes = {
    "clips": clips,
    "kernel": (3, 3, 3, clips[-1], features),
    "bias": (features,),
    "weights": (*clips[:-1], features),
  }
  return {
    name: rng.standard_normal(shape, np.float32)
    for name, shape in shapes.items()
  }


def make_mmjax_step(form: str, arrays: Mapping[str, np.ndarray]) -> Measured:
  """Makes the step of `Conv3d`; `form` is its implementation."""
  import jax

  from mmjax.nn.convolution3d import Conv3d

  module = Conv3d(arrays["bias"].size, implementation=form)

  @jax.jit
  def compute(params: Any, clips: Any, weights: Any) -> Any:
    out, pullback_fn = jax.vjp(module.apply, {"params": params}, clips)
    grads, clips_grad = pullback_fn(weights)
    return out, grads["params"], clips_grad

  arrays = jax.device_put(dict(arrays))
  params = {name: arrays[name] for name in ("kernel", "bias")}
  kept = {}

  def step(_: Any) -> None:
    kept["last"] = jax.block_until_ready(
      compute(params, arrays["clips"], arrays["weights"])
    )

  return step, lambda: float(np.linalg.norm(kept["last"][1]["kernel"]))


def make_torch_step(form: str, arrays: Mapping[str, np.ndarray]) -> Measured:
  """Makes the step of `torch.nn.Conv3d`, channels last, on all cores."""
  del form
  import torch

  torch.set_num_threads(side.num_cores())
  kernel = arrays["kernel"]
  module = torch.nn.Conv3d(kernel.shape[3], kernel.shape[4], 3, padding=1)
  module.weight.data = torch.tensor(kernel).permute(4, 3, 0, 1, 2)
  module.bias.data = torch.tensor(arrays["bias"])
  module = module.to(memory_format=torch.channels_last_3d)
  # A view of arrays [R, T, h, w, D] already is channels last.
  clips = torch.tensor(arrays["clips"]).permute(0, 4, 1, 2, 3).requires_grad_()
  weights = torch.tensor(arrays["weights"]).permute(0, 4, 1, 2, 3)

  def step(_: Any) -> None:
    module.zero_grad(set_to_none=True)
    clips.grad = None
    module(clips).backward(weights)

  return step, lambda: float(module.weight.grad.norm())


if __name__ == "__main__":
  main()
