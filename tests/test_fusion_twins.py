"""The PyTorch twins of the benchmark of fusions are the same functions."""

import pathlib
import sys

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fusion_contract import make_variables

torch = pytest.importorskip("torch")

# The benchmarks are not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from benchmarks import fusion, fusion_mmjax_side, fusion_twins  # noqa: E402
from benchmarks.fusion_inputs import Size, make_inputs  # noqa: E402

SIZE = Size(batch=5, width=24)  # BLOCK has eight chunks, of three numbers

pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.mark.parametrize("name", fusion_twins.TWINS)
def test_outputs_and_gradients_agree(name):
  values, masks = make_inputs(SIZE)
  masks["text"][1] = False
  masks["image"][2] = masks["text"][2] = False
  module = fusion_mmjax_side.FUSIONS[name](SIZE.width)
  as_tokens = fusion_mmjax_side.as_tokens
  params = make_variables(module, as_tokens(values, masks))["params"]

  def total(params, values):
    out = module.apply(
      {"params": params}, as_tokens(values, masks), train=False
    )
    kept = jnp.where(out.mask[..., None], out.values, 0)
    return (kept**2).sum(), (kept, out.mask)

  (_, (out, there)), grads = jax.jit(
    jax.value_and_grad(total, argnums=(0, 1), has_aux=True)
  )(params, values)
  twin = fusion_twins.TWINS[name](SIZE.width)
  flat = flax.traverse_util.flatten_dict(params, sep="/")
  fusion_twins.load_parameters(twin, flat)
  inputs = {m: torch.tensor(v, requires_grad=True) for m, v in values.items()}
  expected = twin(inputs, {m: torch.tensor(v) for m, v in masks.items()})
  expected = expected.masked_fill(~torch.tensor(np.array(there))[..., None], 0)
  expected.square().sum().backward()

  np.testing.assert_allclose(out, expected.detach().numpy(), atol=1e-4)
  assert np.abs(out).max() > 0.1
  for m, tensor in inputs.items():
    np.testing.assert_allclose(grads[1][m], tensor.grad.numpy(), atol=1e-4)
  count = sum(leaf.size for leaf in flat.values())
  assert sum(p.numel() for p in twin.parameters()) == count


def test_a_measurement_is_a_row_of_positive_numbers():
  row = fusion_mmjax_side.measure(fusion_mmjax_side.FUSIONS["mcb"], SIZE, 2)
  assert row["parameters"] == (16 * 24 + 1) * 24
  assert row["ms"] > 0
  # At least the projection, forward once and backward twice.
  assert row["mflop"] > 6 * 5 * 16 * 24 * 24 / 1e6
  tokens = 2 * 5 * 16 * 24 * 4  # bytes, and those of their gradients
  assert row["mib"] > 2 * tokens / 2**20


def test_tables_have_medians_and_their_ratios():
  size = {"batch": 3, "width": 5}

  def repeat(first, second, peer):
    rows = [("a", first), ("b", second)]
    numbers = {"parameters": 1234, "mflop": 5.0, "mib": 0.25, **size}
    ours = [{"fusion": name, **numbers, "ms": ms} for name, ms in rows]
    theirs = [{"fusion": "b", "parameters": 1234, **size, "ms": peer}]
    return {
      "fusion_mmjax": {"results": ours, "busy_before": 0.0},
      "fusion_torch": {"results": theirs, "busy_before": 0.0},
    }

  report = {
    "results": [repeat(2, 6, 12), repeat(1, 9, 8), repeat(3, 7, 14)],
    "sizes": [size],
    "steps": 1,
    "repeats": 3,
    "date": "today",
    "machine": "here",
    "device": "cpu",
    "versions": {"jax": "1"},
  }
  *_, a, b = fusion.make_tables(report).splitlines()
  assert a == (
    "| a | 1,234 | 5.00 | 0.25 | 2.000 (1.000 to 3.000) | 1.00 |  |  |"
  )
  assert b.endswith(
    "| 7.000 (6.000 to 9.000) | 3.50 | 12.0 (8.0 to 14.0) | 0.58 |"
  )
  report["results"][0]["fusion_torch"]["results"][0]["parameters"] = 7
  with pytest.raises(fusion.SideError, match="twin of b has 7 parameters"):
    fusion.make_tables(report)


@pytest.mark.parametrize("text", ["32", "0x64", "ax3", "1x2x3"])
def test_wrong_sizes_are_refused(text):
  with pytest.raises(fusion.argparse.ArgumentTypeError, match="as 32x64"):
    fusion.parse_size(text)
