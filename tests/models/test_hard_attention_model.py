import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from module_checks import random_variables

from mmjax.array_types import Tokens
from mmjax.heads.classifier import Classifier
from mmjax.losses.cross_entropy import CrossEntropy
from mmjax.losses.reinforce import Reinforce
from mmjax.metrics.classification import correct
from mmjax.models.hard_attention import HardAttentionModel
from mmjax.report.attention import collect_attention
from mmjax.training.state import create_state
from mmjax.training.step import make_train_step

SIZES = {"image": 5, "text": 7, "audio": 3}
WIDTHS = {"image": 5, "text": 7, "audio": 11}


class Given(nn.Module):
  """An encoder of what are tokens already."""

  def __call__(self, values, mask, *, train):
    del train
    return Tokens(values, mask)


def _make(number, **changes):
  return HardAttentionModel(
    {m: Given() for m in list(SIZES)[:number]},
    "image",
    Classifier(3, hidden=11),
    width=6,
    hidden=7,
    **changes,
  )


def _make_batch(number):
  rng = np.random.default_rng(0)
  batch = {"label": jnp.array([0, 1, 2, 0]), "example_mask": jnp.ones(4, bool)}
  for m in list(SIZES)[:number]:
    values = rng.normal(size=(4, SIZES[m], WIDTHS[m]))
    batch[m] = jnp.asarray(values, jnp.float32)
    lengths = rng.integers(2, SIZES[m] + 1, 4)
    batch[f"{m}_mask"] = jnp.asarray(np.arange(SIZES[m]) < lengths[:, None])
  return batch


def _setup(number):
  model, batch = _make(number), _make_batch(number)
  return model, random_variables(model.init, batch, train=False), batch


def test_picks_are_sampled_among_what_is_there(fast_compilation):
  """Whatever an encoder leaves where its tokens are masked."""
  model, variables, batch = _setup(3)
  apply = jax.jit(
    lambda b: model.apply(
      variables, b, train=True, rngs={"dropout": jax.random.key(2)}
    )
  )
  outputs = apply(batch)
  shapes = {name: value.shape for name, value in outputs.items()}
  assert shapes == {"logits": (4, 3), "log_prob": (4,), "baseline": (4,)}
  assert (outputs["log_prob"] < 0).all()
  dirty = {
    m: jnp.where(batch[f"{m}_mask"][..., None], batch[m], jnp.nan)
    for m in SIZES
  }
  chex.assert_trees_all_equal(apply({**batch, **dirty}), outputs)
  gone = apply({**batch, "image_mask": jnp.zeros_like(batch["image_mask"])})
  assert not gone["log_prob"].any()
  assert not gone["baseline"].any()


def test_the_report_finds_the_pick(fast_compilation):
  model, variables, batch = _setup(2)
  _, state = jax.jit(
    lambda v: model.apply(v, batch, train=False, mutable=["intermediates"])
  )(variables)
  found = collect_attention(state["intermediates"], ["image", "text"])
  assert set(found) == {"pool_image"}
  np.testing.assert_array_equal(
    np.sort(found["pool_image"])[:, -2:], [[0, 1]] * 4
  )


def test_unknown_targets_are_named():
  batch = _make_batch(2)
  with pytest.raises(ValueError, match=r"'video', but.*of image, text; set"):
    _make(2).clone(target="video").init(jax.random.key(0), batch, train=False)
  with pytest.raises(ValueError, match="at least one encoder, got none"):
    _make(2).clone(encoders={}).init(jax.random.key(0), batch, train=False)


def _make_search(rng):
  """Three coloured cells with a digit each; the question is a colour.

  One cell alone tells the digit that is asked for: a look at a random one is
  right in five of nine examples.
  """
  digits = jax.random.randint(rng, (64, 3), 0, 3)
  asked = jax.random.randint(jax.random.fold_in(rng, 1), (64,), 0, 3)
  shift = jax.random.randint(jax.random.fold_in(rng, 2), (64, 1), 0, 3)
  order = (jnp.arange(3) + shift) % 3
  cells = [jax.nn.one_hot(order, 3), jax.nn.one_hot(digits, 3)]
  place = (order == asked[:, None]).argmax(axis=1)
  return {
    "image": jnp.concatenate(cells, axis=-1),
    "image_mask": jnp.ones((64, 3), bool),
    "text": jax.nn.one_hot(asked, 3)[:, None],
    "text_mask": jnp.ones((64, 1), bool),
    "label": jnp.take_along_axis(digits, place[:, None], axis=1)[:, 0],
    "example_mask": jnp.ones(64, bool),
  }


@pytest.mark.parametrize("estimator", ["reinforce", "gumbel", "top_k"])
def test_it_learns_where_to_look(fast_compilation, estimator):
  """With the training step of every experiment, its one stream of noise."""
  model = HardAttentionModel(
    {"image": Given(), "text": Given()},
    "image",
    Classifier(3, hidden=16),
    width=16,
    hidden=32,
    estimator=estimator,
  )
  loss = CrossEntropy()
  if estimator == "reinforce":
    loss = Reinforce(loss)
  tx = optax.adam(3e-3)
  batch = _make_search(jax.random.key(0))
  step = make_train_step(model.apply, loss, tx)

  @jax.jit
  def train(rng):
    state = create_state(
      lambda rng: model.init(rng, batch, train=False), tx, rng
    )

    def update(state, number):
      new = _make_search(jax.random.fold_in(rng, number))
      return step(state, new)[0], None

    return jax.lax.scan(update, state, jnp.arange(300))[0]

  state = train(jax.random.key(1))
  outputs = model.apply({"params": state.params}, batch, train=False)
  assert correct(outputs, batch).mean() > 0.95
