"""Run by test_parallel.py in a process of its own, with two CPU devices."""

import jax

jax.config.update("jax_num_cpu_devices", 2)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from training_toys import (  # noqa: E402
  Toy,
  assert_trees_close,
  correct,
  loss_fn,
  make_batch,
  make_init_fn,
)

from mmjax.training.optimizer import Sgd  # noqa: E402
from mmjax.training.parallel import (  # noqa: E402
  choose_num_devices,
  compile_step,
  replicate,
  split_batch,
)
from mmjax.training.state import create_state  # noqa: E402
from mmjax.training.step import make_eval_step, make_train_step  # noqa: E402

NUM_STEPS = 4
# One SGD step at rate 1 moves parameters by about 0.1; see test_train_step.py.
TOLERANCE = 2e-6


class Hits:
  def update(self, outputs, batch):
    hits = correct(outputs, batch) & batch["example_mask"]
    return {"hits": hits.sum(), "all": batch["example_mask"].sum()}


def train(num_devices, accumulation_steps):
  """Returns final state, losses, eval counts and the number of traces."""
  model, tx, traces = Toy(), Sgd(1.0)(NUM_STEPS), []

  def counted(outputs, batch):
    traces.append(1)
    return loss_fn(outputs, batch)

  init_fn = make_init_fn(model, make_batch())
  state = create_state(init_fn, tx, jax.random.key(5))
  state = replicate(state, num_devices)
  step = compile_step(
    make_train_step(
      model.apply, counted, tx, accumulation_steps=accumulation_steps
    ),
    num_devices,
    donate=True,
  )
  evaluate = compile_step(make_eval_step(model.apply, Hits()), num_devices)
  losses, compiles = [], []
  jax.monitoring.register_event_duration_secs_listener(
    lambda name, secs, **_: (
      compiles.append(name) if "backend_compile" in name else None
    )
  )
  for seed in range(NUM_STEPS):
    batch = make_batch(seed, num_images=8)
    if num_devices > 1:
      batch = split_batch(batch, num_devices)
    state, metrics = step(state, batch)
    losses.append(float(metrics["loss"]))
    if seed == 0:
      compiles.clear()
  # One compilation for the first call, though its state was fresh.
  assert compiles == [], compiles
  assert len(traces) == 1, traces
  counts = evaluate(state.params, batch)
  jax.monitoring.clear_event_listeners()
  return state, losses, counts, (step, batch)


def main():
  assert choose_num_devices() == 2
  state, losses, counts, _ = train(1, 1)
  for accumulation_steps in (1, 2):
    shared = train(2, accumulation_steps)
    assert_trees_close(shared[0], state, TOLERANCE)
    np.testing.assert_allclose(shared[1], losses, rtol=0, atol=TOLERANCE)
    assert_trees_close(shared[2], counts, 0)
    kernel = shared[0].params["answer"]["kernel"]
    assert kernel.shape == (7, 5)  # no device axis
    assert kernel.is_fully_replicated
    assert len(kernel.devices()) == 2
    copies = [np.asarray(s.data) for s in kernel.addressable_shards]
    np.testing.assert_array_equal(copies[0], copies[1])

  step, batch = shared[3]
  with pytest.raises(ValueError, match=r"batch\['text'\] has shape \[12, 5\]"):
    step(shared[0], batch | {"text": batch["text"][0]})
  print("two devices equal one")


main()
