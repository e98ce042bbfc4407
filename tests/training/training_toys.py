"""A small model of two modalities and batches for it, with odd sizes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

NUM_CLASSES = 5


class Toy(nn.Module):
  """Embeds words and shared images, adds them, and classifies."""

  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, batch, *, train):
    image = nn.Dense(7, name="image")(batch["image"])
    image = jnp.take(image, batch["image_index"], axis=0)
    words = nn.Embed(11, 7, name="words")(batch["text"])
    mask = batch["text_mask"][..., None]
    text = jnp.sum(jnp.where(mask, words, 0.0), axis=1)
    hidden = nn.LayerNorm(name="norm")(nn.tanh(image) * text + text)
    hidden = nn.Dropout(self.dropout_rate, deterministic=not train)(hidden)
    return {"logits": nn.Dense(NUM_CLASSES, name="answer")(hidden)}


def loss_fn(outputs, batch):
  return optax.softmax_cross_entropy_with_integer_labels(
    outputs["logits"], batch["label"]
  )


def correct(outputs, batch):
  return jnp.argmax(outputs["logits"], axis=-1) == batch["label"]


def make_batch(seed=0, num_images=4, questions=3):
  """Image-major, [I] images with `questions` each, most of them padding."""
  rng = np.random.default_rng(seed)
  num = num_images * questions
  # Uneven on purpose: the last image keeps one question, the others more.
  mask = np.ones(num, bool)
  mask[-questions + 1 :] = False
  mask[1] = False
  return {
    "image": rng.normal(size=(num_images, 3)).astype(np.float32),
    "image_mask": np.ones(num_images, bool),
    "image_index": np.repeat(np.arange(num_images, dtype=np.int32), questions),
    "text": rng.integers(1, 11, (num, 5)).astype(np.int32),
    "text_mask": rng.random((num, 5)) < 0.7,
    "label": rng.integers(0, NUM_CLASSES, num).astype(np.int32),
    "example_mask": mask,
  }


def make_init_fn(model, batch):
  return lambda rng: model.init(rng, batch, train=False)


def numpy_tree(tree):
  """Copies a pytree to numpy, typed keys as their data."""

  def convert(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    return np.array(leaf)

  return jax.tree.map(convert, tree)


def assert_trees_equal(actual, expected):
  """Compares bit by bit."""
  actual, expected = numpy_tree(actual), numpy_tree(expected)
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
  for a, b in pairs:
    assert a.dtype == b.dtype
    assert a.tobytes() == b.tobytes()


def assert_trees_close(actual, expected, tolerance):
  """Compares within an absolute tolerance."""
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance),
    numpy_tree(actual),
    numpy_tree(expected),
  )
