import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_toys import (
  Toy,
  assert_trees_close,
  assert_trees_equal,
  correct,
  loss_fn,
  make_batch,
  make_init_fn,
  numpy_tree,
)

from mmjax.training import step as step_lib
from mmjax.training.optimizer import AdamW, Sgd
from mmjax.training.parallel import split_batch
from mmjax.training.state import create_state
from mmjax.training.step import make_eval_step, make_train_step, step_rng

# Parameters are of order 1 and one SGD step at rate 1 moves them by about 0.1;
# float32 sums in another order differ by some 1e-7.
TOLERANCE = 1e-6
SGD = Sgd(learning_rate=1.0)
PLAIN = Toy()
NUM_STEPS = 150


@functools.cache
def fresh_state(model, optimizer):
  init_fn = make_init_fn(model, make_batch())
  return create_state(init_fn, optimizer(NUM_STEPS), jax.random.key(5))


def make(optimizer=SGD, model=PLAIN, **kwargs):
  state, tx = fresh_state(model, optimizer), optimizer(NUM_STEPS)
  step = make_train_step(
    model.apply, loss_fn, tx, metric_fns={"accuracy": correct}, **kwargs
  )
  return state, step


def distance(a, b):
  a, b = jax.tree.leaves(numpy_tree(a)), jax.tree.leaves(numpy_tree(b))
  return sum(np.sum((x - y) ** 2) for x, y in zip(a, b, strict=True)) ** 0.5


def over_virtual_devices(step, num_devices):
  """The exact double of pmap on one device."""
  mapped = jax.vmap(
    functools.partial(step, axis_name="batch"),
    axis_name="batch",
    in_axes=(None, 0),
    out_axes=None,
    axis_size=num_devices,
  )
  return jax.jit(
    lambda state, batch: mapped(state, split_batch(batch, num_devices))
  )


@jax.jit
def reference_gradient(params, kept):
  def mean_loss(params):
    outputs = PLAIN.apply({"params": params}, kept, train=False)
    return jnp.mean(loss_fn(outputs, kept)), outputs

  return jax.value_and_grad(mean_loss, has_aux=True)(params)


def masked_reference(params, batch):
  """Loss, accuracy and gradient of the examples that are not padding."""
  keep = np.flatnonzero(batch["example_mask"])
  names = ("image_index", "text", "text_mask", "label")
  kept = batch | {name: batch[name][keep] for name in names}
  (loss, outputs), grads = reference_gradient(params, kept)
  accuracy = np.mean(np.argmax(outputs["logits"], -1) == kept["label"])
  return loss, accuracy, grads, len(keep)


def test_one_step_equals_the_formula():
  state, step = make(learning_rate_fn=SGD.schedule(9))
  batch = make_batch()
  loss, accuracy, grads, num = masked_reference(state.params, batch)
  new, metrics = jax.jit(step)(state, batch)
  expected = jax.tree.map(lambda p, g: p - g, state.params, grads)
  assert_trees_close(new.params, expected, TOLERANCE)
  np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
  np.testing.assert_allclose(metrics["accuracy"], accuracy, rtol=1e-6)
  squares = sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads))
  np.testing.assert_allclose(metrics["grad_norm"], squares**0.5, rtol=1e-5)
  assert float(metrics["num_examples"]) == num == 9
  assert float(metrics["learning_rate"]) == 1.0
  assert (int(new.step), int(new.bad_step)) == (1, -1)
  assert_trees_equal(new.rng, state.rng)


@pytest.mark.parametrize(
  ("num_devices", "accumulation_steps"), [(1, 1), (2, 1), (4, 1), (4, 2)]
)
def test_virtual_devices_equal_one(num_devices, accumulation_steps):
  batch = make_batch(num_images=8)
  state, step = make()
  expected, expected_metrics = jax.jit(step)(state, batch)
  _, step = make(accumulation_steps=accumulation_steps)
  actual, metrics = over_virtual_devices(step, num_devices)(state, batch)
  moved = distance(expected.params, state.params)
  assert moved > 1e5 * TOLERANCE  # the tolerance is tight
  assert_trees_close(actual, expected, TOLERANCE)
  assert_trees_close(metrics, expected_metrics, TOLERANCE)


def test_forgotten_psum_is_caught(monkeypatch):
  state, step = make()
  batch = make_batch()
  monkeypatch.setattr(step_lib.lax, "psum", lambda tree, axis_name: tree)
  with pytest.raises(ValueError, match="out_axes"):
    over_virtual_devices(step, 2)(state, batch)


def test_mean_of_means_is_far_outside_the_tolerance(monkeypatch):
  """With pmean for psum, the mistake that equal masks would hide."""
  state, step = make()
  batch = make_batch()
  expected, _ = jax.jit(step)(state, batch)

  def mean_of_means(trees, axis_name):
    sums, grads = trees
    count = sums["num_examples"]
    local = jax.tree.map(lambda x: x / count, (sums, grads))
    return jax.lax.pmean(local, axis_name)

  monkeypatch.setattr(step_lib.lax, "psum", mean_of_means)
  wrong, _ = over_virtual_devices(step, 4)(state, batch)
  assert distance(wrong.params, expected.params) > 1e4 * TOLERANCE


@pytest.mark.parametrize("num_slices", [2, 4])
def test_accumulation_equals_the_full_batch(num_slices):
  batch = make_batch()
  masks = batch["example_mask"].reshape(num_slices, -1).sum(1)
  assert len(set(masks)) > 1  # uneven
  state, step = make()
  expected, expected_metrics = jax.jit(step)(state, batch)
  _, step = make(accumulation_steps=num_slices)
  actual, metrics = jax.jit(step)(state, batch)
  assert_trees_close(actual, expected, TOLERANCE)
  assert_trees_close(metrics, expected_metrics, TOLERANCE)


def test_accumulation_draws_other_dropout_for_each_slice():
  """Two equal halves must not get the same key."""

  def apply_fn(variables, batch, *, train, rngs, mutable):
    draws = jax.random.uniform(rngs["dropout"], batch["example_mask"].shape)
    return draws + 0 * variables["params"]["w"], {}

  state = create_state(
    lambda rng: {"params": {"w": jnp.ones(())}}, Sgd()(3), jax.random.key(0)
  )
  step = make_train_step(
    apply_fn, lambda outputs, batch: outputs, Sgd()(3), accumulation_steps=2
  )
  _, metrics = jax.jit(step)(state, {"example_mask": np.ones(6, bool)})
  key = step_rng(state.rng, state.step)
  halves = [jax.random.uniform(jax.random.fold_in(key, i), 3) for i in (0, 1)]
  assert abs(halves[0] - halves[1]).min() > 1e-3
  mean = np.mean(np.concatenate(halves))
  np.testing.assert_allclose(metrics["loss"], mean, rtol=1e-6)


def test_traced_once():
  traces = []

  def counted(outputs, batch):
    traces.append(1)
    return loss_fn(outputs, batch)

  tx = AdamW()(NUM_STEPS)
  state = jax.tree.map(jnp.copy, fresh_state(PLAIN, AdamW()))
  step = jax.jit(make_train_step(PLAIN.apply, counted, tx), donate_argnums=0)
  for seed in range(5):
    state, _ = step(state, make_batch(seed))
  assert len(traces) == 1
  assert int(state.step) == 5


def test_overfits_one_batch():
  batch = make_batch()
  state, step = make(AdamW(learning_rate=0.05))
  step = jax.jit(step)
  for _ in range(NUM_STEPS):
    state, metrics = step(state, batch)
  assert float(metrics["loss"]) < 0.02
  assert float(metrics["accuracy"]) == 1.0


def test_dropout_is_a_function_of_rng_and_step():
  state, step = make(AdamW(), Toy(dropout_rate=0.5))
  step = jax.jit(step)
  states, losses = [state], []
  for seed in range(4):
    state, metrics = step(state, make_batch(seed))
    states.append(numpy_tree(state.params))
    losses.append(float(metrics["loss"]))
  # Starting over at step 2 from what was kept there gives the same bits.
  again, _ = make(AdamW(), Toy(dropout_rate=0.5))
  for seed in range(2):
    again, _ = step(again, make_batch(seed))
  for seed in (2, 3):
    again, metrics = step(again, make_batch(seed))
    assert float(metrics["loss"]) == losses[seed]
  assert_trees_equal(again.params, states[4])
  # Another step draws another mask, on the same parameters and batch.
  fresh, _ = make(AdamW(), Toy(dropout_rate=0.5))
  later = fresh.replace(step=fresh.step + 1)
  _, metrics = step(later, make_batch(0))
  assert float(metrics["loss"]) != losses[0]


def test_devices_draw_different_keys():
  rng, step = jax.random.key(1), jnp.int32(7)
  keys = jax.vmap(
    lambda _: jax.random.key_data(step_rng(rng, step, "batch")),
    axis_name="batch",
  )(jnp.arange(3))
  assert len({tuple(key) for key in np.array(keys).tolist()}) == 3
  one = jax.random.key_data(step_rng(rng, step))
  np.testing.assert_array_equal(keys[0], one)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_first_non_finite_loss_freezes_the_state(num_devices):
  state, step = make(AdamW())
  step = over_virtual_devices(step, num_devices)
  good, bad = make_batch(1), make_batch(2)
  bad["image"][1, 0] = np.nan
  for _ in range(3):
    state, _ = step(state, good)
  before = state
  state, metrics = step(state, bad)
  assert not np.isfinite(metrics["loss"])
  assert int(state.bad_step) == 3
  assert_trees_equal(state.replace(bad_step=before.bad_step), before)
  # Sticky: neither good nor bad batches change anything any more.
  for batch in (good, bad, good):
    after, _ = step(state, batch)
    assert_trees_equal(after, state)


def test_update_that_overflows_is_bad():
  """Loss and gradient are finite, but not the parameters after them."""
  before, step = make(Sgd(learning_rate=1e38))
  after, metrics = jax.jit(step)(before, make_batch())
  assert np.isfinite(metrics["loss"])
  assert np.isfinite(metrics["grad_norm"])
  assert int(after.bad_step) == 0
  assert_trees_equal(after.replace(bad_step=before.bad_step), before)


def test_padding_never_counts():
  state, step = make()
  step = jax.jit(step)
  batch = make_batch()
  changed = {name: value.copy() for name, value in batch.items()}
  padding = ~batch["example_mask"]
  changed["label"][padding] = 0
  changed["text"][padding] = 10
  for a, b in zip(step(state, batch), step(state, changed), strict=True):
    assert_trees_equal(a, b)
  empty = batch | {"example_mask": np.zeros(12, bool)}
  after, metrics = step(state, empty)
  assert float(metrics["loss"]) == float(metrics["num_examples"]) == 0.0
  assert_trees_equal(after.params, state.params)


def test_eval_step_counts_add_over_devices_and_batches():
  class Counts:
    def update(self, outputs, batch):
      hits = correct(outputs, batch) & batch["example_mask"]
      return {"hits": jnp.sum(hits), "all": jnp.sum(batch["example_mask"])}

  state, _ = make()
  batch = make_batch(num_images=8)
  step = make_eval_step(Toy().apply, Counts())
  whole = jax.jit(step)(state.params, batch)
  _, accuracy, _, num = masked_reference(state.params, batch)
  assert int(whole["all"]) == num
  assert int(whole["hits"]) == round(float(accuracy) * num)
  for num_devices in (2, 4):
    shared = over_virtual_devices(step, num_devices)(state.params, batch)
    assert_trees_equal(shared, whole)


def test_mistakes_are_explained():
  state, _ = make()
  batch = make_batch()
  with pytest.raises(ValueError, match=r"may not be named \['loss'"):
    make_train_step(
      Toy().apply, loss_fn, Sgd()(3), metric_fns={"loss": correct}
    )
  mean = make_train_step(
    Toy().apply, lambda o, b: jnp.mean(loss_fn(o, b)), Sgd()(3)
  )
  with pytest.raises(ValueError, match=r"'loss' must give .*\[12\].*\[\]"):
    jax.jit(mean)(state, batch)
  del batch["example_mask"]
  step = make_train_step(Toy().apply, loss_fn, Sgd()(3))
  with pytest.raises(ValueError, match="no 'example_mask'"):
    jax.jit(step)(state, batch)
  step = make_train_step(Toy().apply, loss_fn, Sgd()(3), accumulation_steps=5)
  with pytest.raises(ValueError, match=r"rows.*training.batch_size"):
    jax.jit(step)(state, make_batch())
