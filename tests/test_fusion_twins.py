"""The PyTorch twins of the benchmark of fusions are the same functions."""

import dataclasses
import os
import pkgutil
import platform
import subprocess
import sys

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases_catalogue import CASES
from fusion_contract import make_variables

import mmjax.fusion

torch = pytest.importorskip("torch")

from benchmarks import (  # noqa: E402
  fusion,
  fusion_mmjax_side,
  fusion_torch_side,
  fusion_twins,
  runner,
)
from benchmarks.fusion_side import Size, make_inputs, measure  # noqa: E402

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
  assert fusion_twins.count_parameters(twin) == count


def test_every_fusion_is_measured():
  measured = {
    type(make_fn(8)) for make_fn in fusion_mmjax_side.FUSIONS.values()
  }
  assert measured == {type(case.make(2)) for case in CASES.values()}
  files = {
    module.name for module in pkgutil.iter_modules(mmjax.fusion.__path__)
  }
  assert {kind.__module__.rpartition(".")[2] for kind in measured} == files
  assert set(fusion_twins.TWINS) <= set(fusion_mmjax_side.FUSIONS)


@pytest.mark.parametrize("side", [fusion_mmjax_side, fusion_torch_side])
def test_a_measurement_is_a_row_of_positive_numbers(side):
  size = Size(batch=5, width=8)
  request = {"sizes": [dataclasses.asdict(size)], "steps": 2, "side": "a"}
  (row,) = measure(side.prepare, ["concat"], request)
  assert row["parameters"] == 2 * 9 * 8
  assert row["ms"] > 0
  if side is fusion_mmjax_side:
    # At least the projections, forward once and backward twice.
    assert row["mflop"] > 2 * 6 * 5 * 16 * 8 * 8 / 1e6
  (row,) = measure(side.prepare, ["concat"], {**request, "side": "a_memory"})
  inputs = 2 * 5 * 16 * (8 * 4 + 1)  # bytes of values and masks
  assert "ms" not in row
  if row["mib"] is not None:
    assert row["mib"] >= (inputs + 4 * 2 * 9 * 8) / 2**20


def test_the_gauge_sees_the_peak_and_forgets_it():
  script = """
import numpy as np
from benchmarks.side import measure_memory
def take(mib):
  parts = [np.ones(2**17) for _ in range(mib)]
  del parts
print(*(measure_memory(lambda: take(mib)) for mib in (40, 10)))
"""
  done = subprocess.run(
    [sys.executable, "-c", script],
    check=True,
    capture_output=True,
    text=True,
    cwd=runner.ROOT,
    env={**os.environ, **runner.GAUGED},
  )
  if platform.libc_ver()[0] != "glibc":  # there is no gauge, and it says so
    assert done.stdout.split() == ["None", "None"]
    return
  np.testing.assert_allclose(
    np.array(done.stdout.split(), float), [40, 10], atol=1
  )


def test_tables_have_medians_and_their_ratios():
  size = {"batch": 3, "width": 5}

  def repeat(first, second, peer):
    numbers = {"parameters": 1234, **size}

    def side(**kinds):
      rows = [
        {**numbers, "fusion": name, **values} for name, values in kinds.items()
      ]
      return {"results": rows, "busy_before": 0.0}

    return {
      "fusion_mmjax": side(
        a={"ms": first, "mflop": 5.0}, b={"ms": second, "mflop": 5.0}
      ),
      "fusion_torch": side(b={"ms": peer}),
      "fusion_mmjax_memory": side(a={"mib": 0.5}, b={"mib": 0.75}),
      "fusion_torch_memory": side(b={"mib": 1.5}),
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
    "| a | 1,234 | 5.00 | 1.00 | 2.000 (1.000 to 3.000) | 1.00 |  |  "
    "| 0.5 | 1.00 |  |  |"
  )
  assert b.endswith(
    "| 7.000 (6.000 to 9.000) | 3.50 | 12.0 (8.0 to 14.0) | 0.58 "
    "| 0.8 | 1.50 | 1.5 | 0.50 |"
  )
  for each in report["results"]:
    each["fusion_mmjax_memory"]["results"][1]["mib"] = None  # not on Linux
  assert fusion.make_tables(report).endswith("| 0.58 |  |  | 1.5 |  |")
  report["results"][0]["fusion_torch"]["results"][0]["parameters"] = 7
  with pytest.raises(runner.SideError, match="twin of b has 7 parameters"):
    fusion.make_tables(report)


@pytest.mark.parametrize("text", ["32", "0x64", "ax3", "1x2x3"])
def test_wrong_sizes_are_refused(text):
  with pytest.raises(fusion.argparse.ArgumentTypeError, match="as 32x64"):
    fusion.parse_size(text)
