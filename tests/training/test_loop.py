import time
import types

import jax
import numpy as np
import pytest
from loop_recorder import Recorder
from training_toys import Toy, loss_fn, make_batch, make_init_fn

from mmjax.training.loop import NonFiniteError, run_loop
from mmjax.training.optimizer import AdamW
from mmjax.training.state import create_state
from mmjax.training.step import make_train_step

SCORES = {"accuracy": 0.5}
WHOLE_RUN = [
  ("batches_from", 0),
  *[("batch", 0), ("step", 0)],
  *[("batch", 1), ("step", 1), ("train", 2)],
  *[("batch", 2), ("step", 2), ("evaluate", 3), ("eval", 3)],
  *[("batch", 3), ("step", 3), ("train", 4)],
  *[("evaluate", 4), ("eval", 4), ("save", 4, SCORES)],
  *[("batch", 4), ("step", 4), ("train", 5)],
  *[("evaluate", 5), ("eval", 5), ("save", 5, SCORES)],
  ("close",),
]


def test_order_is_exact():
  recorder = Recorder()
  state, stopped = recorder.run()
  assert (int(state.step), stopped) == (5, False)
  assert recorder.calls == WHOLE_RUN


@pytest.mark.parametrize("start", [2, 4])
def test_resumed_run_makes_the_remaining_steps(start):
  recorder = Recorder()
  recorder.run(start=start)
  begin = WHOLE_RUN.index(("batch", start))
  assert recorder.calls == [("batches_from", start), *WHOLE_RUN[begin:]]


def test_complete_run_does_nothing():
  recorder = Recorder()
  state, stopped = recorder.run(start=5)
  assert (state.step, stopped, recorder.calls) == (5, False, [])


@pytest.mark.parametrize(
  ("step", "last_calls"),
  [
    (1, [("save", 1, None)]),
    # Due for evaluation: a resumed run would not come back to it.
    (3, [("evaluate", 3), ("eval", 3), ("save", 3, SCORES)]),
  ],
)
def test_stop_saves_the_current_step(step, last_calls):
  recorder = Recorder(stop_after=[("step", step - 1)])
  state, stopped = recorder.run()
  assert (int(state.step), stopped) == (step, True)
  end = WHOLE_RUN.index(("step", step - 1)) + 1
  assert recorder.calls == [
    *WHOLE_RUN[:end],
    ("train", step),
    *last_calls,
    ("close",),
  ]


@pytest.mark.parametrize("step", [3, 4])
def test_stop_during_evaluation_saves_its_scores_once(step):
  recorder = Recorder(stop_after=[("eval", step)])
  state, stopped = recorder.run()
  assert (int(state.step), stopped) == (step, True)
  assert recorder.calls[-2:] == [("save", step, SCORES), ("close",)]
  assert [c[1] for c in recorder.calls if c[0] == "save"] == [step]


def test_stop_at_the_last_step_completes_the_run():
  recorder = Recorder(stop_after=[("step", 4), ("eval", 5)])
  _, stopped = recorder.run()
  assert not stopped
  assert recorder.calls == WHOLE_RUN


@pytest.mark.parametrize("bad_step", [0, 2, 3, 4])
def test_non_finite_step_stops_before_anything_follows(bad_step):
  recorder = Recorder(bad_step=bad_step)
  with pytest.raises(NonFiniteError) as caught:
    recorder.run()
  assert caught.value.step == bad_step
  assert caught.value.record_ids[0] == f"image {bad_step}/0"
  text = str(caught.value)
  assert f"at step {bad_step} " in text
  assert f"image {bad_step}/7 and 3 more" in text
  # The first event, evaluation or save after it was not made.
  found = {0: 2, 2: 3, 3: 4, 4: 5}[bad_step]
  end = WHOLE_RUN.index(("step", found - 1)) + 1
  assert recorder.calls == [*WHOLE_RUN[:end], ("close",)]


def test_events_average_over_examples_and_add_up_seconds():
  recorder = Recorder()
  recorder.run(start_seconds=100.0)
  train = [e for e in recorder.events if e["kind"] == "train"]
  # Batches 0 and 1 with 1 and 2 examples and the losses 0 and 1, and so on.
  expected = [2 / 3, (3 * 2 + 4 * 3) / 7, 4]
  np.testing.assert_allclose([e["loss"] for e in train], expected)
  assert [e["num_examples"] for e in train] == [3, 7, 5]
  rates = [e["learning_rate"] for e in train]
  np.testing.assert_allclose(rates, [1 / 2, 1 / 4, 1 / 5])
  seconds = [e["seconds"] for e in recorder.events]
  assert 100.0 <= seconds[0] <= seconds[-1] < 160.0
  assert seconds == sorted(seconds)
  now = time.time()
  assert all(now - 10 < e["time"] <= now + 1e-3 for e in recorder.events)


def test_metrics_are_fetched_at_log_steps_only():
  recorder = Recorder()
  recorder.run(num_steps=20, log_every=10)
  assert set(recorder.fetched) == {("step", 9), ("step", 19)}


def test_data_wait_share_is_the_time_in_next(monkeypatch):
  """By a clock of its own, which other work on the machine does not move."""
  recorder, waits, begins, now = Recorder(), [], [], [5.0]
  monkeypatch.setattr(time, "perf_counter", lambda: now[0])
  monkeypatch.setattr(
    time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds)
  )
  step = recorder.train_step

  def slow_batches(start):
    for batch in recorder.batches_from(start):
      begin = time.perf_counter()
      time.sleep(0.03)
      waits.append(time.perf_counter() - begin)
      yield batch

  def slow_step(state, batch):
    begins.append(time.perf_counter())
    time.sleep(0.01)
    return step(state, batch)

  far = {"eval_every": 100, "checkpoint_every": 100}
  recorder.train_step = slow_step
  recorder.run(num_steps=11, log_every=10, batches_from=slow_batches, **far)
  event = recorder.events[0]
  # 2 + ... + 10 examples: the first step compiles and is left out.
  elapsed = 54 / event["examples_per_second"]
  own = begins[9] - begins[0]  # nine steps, measured outside
  np.testing.assert_allclose(elapsed, own, atol=1e-3)
  assert 0.5 < event["data_wait_share"] < 1
  share = sum(waits[1:10]) / own
  np.testing.assert_allclose(event["data_wait_share"], share, atol=1e-3)


def test_evaluation_and_save_do_not_count_as_training_time():
  recorder = Recorder(wait=0.01)
  save = recorder.save
  recorder.save = lambda state, scores: (time.sleep(0.5), save(state, scores))
  recorder.run(num_steps=5, log_every=5, checkpoint_every=2, eval_every=9)
  event = next(e for e in recorder.events if e["kind"] == "train")
  assert 14 / event["examples_per_second"] < 0.5
  assert event["seconds"] > 1.0


def test_first_step_alone_has_no_rate():
  recorder = Recorder()
  recorder.run(num_steps=1)
  assert recorder.events[0]["examples_per_second"] is None
  assert recorder.events[0]["data_wait_share"] is None


def test_steps_in_flight_are_bounded(monkeypatch):
  """A slow device: a result is ready only when somebody waits for it."""
  unfinished, most = [], []

  class Pending(float):
    def block_until_ready(self):
      if self in unfinished:
        del unfinished[: unfinished.index(self) + 1]
      return self

  def step(state, batch):
    result = Pending(batch["number"])
    unfinished.append(result)
    most.append(len(unfinished))
    return state.replace(step=state.step + 1), {
      "loss": result,
      "num_examples": result,
    }

  monkeypatch.setattr(
    jax,
    "block_until_ready",
    lambda tree: jax.tree.map(lambda x: x.block_until_ready(), tree),
  )
  recorder = Recorder()
  recorder.train_step = step
  far = {"log_every": 100, "eval_every": 100, "checkpoint_every": 100}
  recorder.run(num_steps=20, max_in_flight=2, **far)
  assert max(most) == 3  # two that may be unfinished, and the new one


def test_mistakes_are_explained():
  with pytest.raises(ValueError, match=r"training\.log_every is 0"):
    Recorder().run(log_every=0)
  recorder = Recorder()
  recorder.batches_from = lambda start: iter([{"number": 0}, {"number": 1}])
  with pytest.raises(ValueError, match="ended before step 3"):
    recorder.run()


def run_toy(state, step, batches, num_steps, record_ids, saved):
  return run_loop(
    state,
    train_step=step,
    batches_from=lambda start: iter(batches[start:]),
    num_steps=num_steps,
    log_every=2,
    eval_every=4,
    checkpoint_every=4,
    evaluate_fn=lambda state: {"accuracy": 0.0},
    save_fn=lambda state, scores: saved.append(int(state.step)),
    writer=types.SimpleNamespace(write=lambda event: None),
    should_stop=lambda: False,
    record_ids=record_ids,
  )


def test_real_step_with_a_poisoned_batch():
  batches = [make_batch(seed) for seed in range(12)]
  batches[6]["image"][2, 1] = np.inf
  tx = AdamW()(12)
  state = create_state(make_init_fn(Toy(), batches[0]), tx, jax.random.key(0))
  step = jax.jit(make_train_step(Toy().apply, loss_fn, tx), donate_argnums=0)
  saved = []
  with pytest.raises(NonFiniteError, match=r"at step 6 .*train/6"):
    run_toy(state, step, batches, 12, lambda s: [f"train/{s}"], saved)
  assert saved == [4]
