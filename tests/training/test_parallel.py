import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_toys import make_batch

from mmjax.training.parallel import (
  choose_num_devices,
  compile_step,
  replicate,
  split_batch,
)


def test_split_batch_localises_indices():
  batch = make_batch(num_images=4, questions=3)
  for convert in (lambda x: x, jnp.asarray):
    pieces = split_batch({k: convert(v) for k, v in batch.items()}, 2)
    assert pieces["image"].shape == (2, 2, 3)
    assert pieces["text"].shape == (2, 6, 5)
    expected = [[0, 0, 0, 1, 1, 1]] * 2
    np.testing.assert_array_equal(pieces["image_index"], expected)
    assert pieces["image_index"].dtype == np.int32
    # The same example sees the same row as before.
    for s in range(2):
      np.testing.assert_array_equal(
        pieces["image"][s][pieces["image_index"][s]],
        batch["image"][batch["image_index"]].reshape(2, 6, 3)[s],
      )


def test_split_batch_of_rows_elsewhere():
  batch = make_batch(num_images=4, questions=3)
  padding = batch["image_index"].copy()
  padding[-1] = 0  # padding may point anywhere
  assert not batch["example_mask"][-1]
  pieces = split_batch(batch | {"image_index": padding}, 2)
  assert pieces["image_index"][1, -1] == 0
  wrong = batch["image_index"].copy()
  wrong[6] = 0  # an example of the second slice, a row of the first
  with pytest.raises(ValueError, match=r"image_index of example 0 of slice 1"):
    split_batch(batch | {"image_index": wrong}, 2)
  pieces = split_batch(
    {k: jnp.asarray(v) for k, v in (batch | {"image_index": wrong}).items()}, 2
  )
  row = jnp.take(pieces["image"][1], pieces["image_index"][1, 0], axis=0)
  assert np.isnan(row).all()  # loud, not another image


def test_split_batch_needs_divisible_rows():
  with pytest.raises(ValueError, match=r"'image'.* has 4 rows.*batch_size"):
    split_batch(make_batch(num_images=4), 3)


def test_choose_num_devices():
  available = jax.local_device_count()
  assert choose_num_devices() == choose_num_devices(available) == available
  for requested in (0, available + 1):
    with pytest.raises(ValueError, match=f"num_devices is {requested}, but"):
      choose_num_devices(requested)


def test_donation_deletes_only_when_asked():
  def step(state, batch, *, axis_name=None):
    del axis_name
    return state + batch["x"]

  state, batch = jnp.ones(3), {"x": np.ones(3, np.float32)}
  compile_step(step)(state, batch)
  assert not state.is_deleted()
  compile_step(step, donate=True)(state, batch)
  assert state.is_deleted()


def test_replicate_on_one_device_changes_nothing():
  np.testing.assert_array_equal(replicate(jnp.arange(3), 1), [0, 1, 2])


def test_two_real_devices_equal_one():
  """In a process of its own: the device count is fixed at the first op."""
  here = pathlib.Path(__file__).parent
  result = subprocess.run(
    [sys.executable, "-W", "error", str(here / "two_devices.py")],
    capture_output=True,
    text=True,
    timeout=300,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout.split() == ["two", "devices", "equal", "one"]
