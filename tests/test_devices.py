"""One run on 1, 2 and 4 devices: the same losses and the same scores.

Dropout is off, for its mask depends on the device. Each device count is a
process with that many faked CPU devices, which runs the training script.
"""

import fiddle as fdl
import numpy as np
import pytest
import tiny_runs

from mmjax.config import flatten

NAME = "easy_vqa_co_attention"
DEVICES = (1, 2, 4)
NUM_STEPS = 6
QUESTIONS = 12  # an image has 9.6 on average, so most leave padding
BATCH_SIZE = 4 * QUESTIONS
EVAL_BATCH_SIZE = 320

# Sums in another order move a loss between 2 and 4 nats by a spacing of
# float32 there, 2.4e-7 (measured: by one). Adam may turn rounding of a gradient
# near zero into a step of its own size, but in a direction in which the loss
# hardly changes. A mean of the devices' means moves the losses by up to 0.03.
LOSS_TOLERANCE = 2e-6


def make_changes():
  """The tiny experiment without dropout, with uneven batches."""
  changes = {
    "data.questions_per_image": QUESTIONS,
    "evaluation.batch_size": EVAL_BATCH_SIZE,
    "training.batch_size": BATCH_SIZE,
    "training.num_steps": NUM_STEPS,
  }
  settings = flatten(tiny_runs.tiny_config(NAME, changes))
  rates = [path for path in settings if path.endswith("dropout_rate")]
  assert rates
  return {**changes, **dict.fromkeys(rates, 0.0)}


@pytest.fixture(scope="module")
def histories(easy_vqa, cache, compiled, tmp_path_factory):
  folder = tmp_path_factory.mktemp("devices")
  flags = {
    count: tiny_runs.train_flags(NAME, folder / str(count), make_changes())
    for count in DEVICES
  }
  processes = [
    tiny_runs.start_python(
      *("-m", "experiments.train", *flags[count]),
      JAX_NUM_CPU_DEVICES=str(count),
      **tiny_runs.fast_environment(compiled),
    )
    for count in DEVICES
  ]
  for process in processes:
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
  return {
    count: tiny_runs.read_history(folder / str(count)) for count in DEVICES
  }


def list_values(history, kind, name):
  return np.array([e[name] for e in history if e["kind"] == kind])


def test_the_batches_are_uneven(easy_vqa, easy_vqa_assets):
  """What the comparison needs to mean something."""
  data = fdl.build(tiny_runs.tiny_config(NAME, make_changes()).data)
  for count in DEVICES[1:]:
    batches = data.train_batches(
      easy_vqa_assets, batch_size=BATCH_SIZE, seed=0, num_shards=count
    )
    masks = [batches.batch(step)["example_mask"] for step in range(NUM_STEPS)]
    assert sum(mask.sum() for mask in masks) < NUM_STEPS * BATCH_SIZE
    # Devices have different numbers of examples in at least half the steps.
    uneven = [len({*mask.sum(axis=1).tolist()}) > 1 for mask in masks]
    assert sum(uneven) >= NUM_STEPS / 2
    batches = data.eval_batches(
      easy_vqa_assets,
      "validation",
      batch_size=EVAL_BATCH_SIZE,
      num_shards=count,
    )
    last = batches.batch(batches.num_batches - 1)["example_mask"]
    assert 0 < last.sum() < EVAL_BATCH_SIZE
    assert last[-1].sum() < last[0].sum()
  assert last[-1].sum() == 0  # the last of four devices has padding only


@pytest.mark.parametrize("count", DEVICES[1:])
def test_losses_are_those_of_one_device(histories, count):
  losses, expected = (
    list_values(histories[n], "train", "loss") for n in (count, 1)
  )
  assert len(expected) == NUM_STEPS
  assert len(set(expected)) == NUM_STEPS
  np.testing.assert_allclose(losses, expected, rtol=0, atol=LOSS_TOLERANCE)
  examples, expected = (
    list_values(histories[n], "train", "num_examples") for n in (count, 1)
  )
  np.testing.assert_array_equal(examples, expected)
  assert expected.min() < BATCH_SIZE


@pytest.mark.parametrize("count", DEVICES[1:])
def test_scores_are_those_of_one_device(histories, count):
  """All examples count once; one near a tie may fall to the other side."""
  scores, expected = (
    [event for event in histories[n] if event["kind"] == "eval"]
    for n in (count, 1)
  )
  assert [event["step"] for event in expected] == [2, 4, 6]
  for event, other in zip(scores, expected, strict=True):
    assert event["accuracy"] == pytest.approx(other["accuracy"], abs=5e-4)
    assert event["ece"] == pytest.approx(other["ece"], abs=5e-4)
    assert event["accuracy_by_type"] == pytest.approx(
      other["accuracy_by_type"], abs=2e-3
    )
