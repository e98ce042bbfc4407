import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import random_variables

from mmjax.encoders.image import GridEncoder, PatchEncoder, image_to_float
from mmjax.nn.positions import sinusoidal_positions_2d

ENCODERS = {
  "grid": GridEncoder(7, features=(3, 5)),
  "located grid": GridEncoder(
    7,
    features=(3, 5),
    downsampling="stride",
    norm="none",
    positions="coordinates",
  ),
  "patch": PatchEncoder(6, 4, num_layers=1, num_heads=3, mlp_dim=5),
}
encoders = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)


def _images(*shape):
  return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def _init(encoder, images):
  mask = np.ones(len(images), bool)
  variables = random_variables(encoder.init, images, mask, train=False)
  return variables, mask


def _encode(encoder, images):
  """The values of tokens by fresh parameters, from one compiled program."""
  mask = np.ones(len(images), bool)
  rng = jax.random.key(0)
  tokens, _ = jax.jit(
    lambda rng: encoder.init_with_output(rng, images, mask, train=False)
  )(rng)
  return tokens.values


def test_pixels_become_minus_one_to_one():
  pixels = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1)
  mask = np.ones(1, bool)
  out = image_to_float(pixels, mask, "float32")
  np.testing.assert_allclose(out.ravel(), [-1, -0.6, 1], atol=1e-6)
  out = image_to_float(np.float32(pixels / 255), mask, "float32")
  np.testing.assert_allclose(out.ravel(), [-1, -0.6, 1], atol=1e-6)
  out = image_to_float(np.float32([[[[np.nan]]]]), ~mask, "float32")
  np.testing.assert_array_equal(out.ravel(), [0])


@encoders
def test_bytes_and_floats_give_the_same_tokens(encoder):
  images = _images(2, 8, 8, 3)
  variables, mask = _init(encoder, images)
  apply_fn = jax.jit(
    lambda images: encoder.apply(variables, images, mask, train=False).values
  )
  np.testing.assert_allclose(
    apply_fn(images), apply_fn(np.float32(images) / 255), atol=1e-3
  )


@encoders
@pytest.mark.parametrize(
  ("size", "grid"), [((8, 8), (2, 2)), ((9, 13), (3, 4)), ((5, 3), (2, 1))]
)
@pytest.mark.parametrize("channels", [1, 5])
def test_any_size_gives_its_grid(encoder, size, grid, channels):
  images = _images(2, *size, channels)

  def init_and_apply(rng):
    mask = jnp.ones(2, bool)
    variables = encoder.init(rng, images, mask, train=False)
    return encoder.apply(
      variables, images, mask, train=False, mutable=["intermediates"]
    )

  shapes = jax.eval_shape(init_and_apply, jax.random.key(0))
  assert shapes[0].values.shape == (2, grid[0] * grid[1], encoder.width)


@encoders
def test_the_grid_is_sown(encoder):
  images = _images(1, 9, 13, 3)
  variables, mask = _init(encoder, images)
  apply_fn = jax.jit(
    lambda *args: encoder.apply(*args, train=False, mutable="intermediates")
  )
  _, state = apply_fn(variables, images, mask)
  (grid,) = state["intermediates"]["grid"]
  np.testing.assert_array_equal(grid, [3, 4])


@encoders
def test_another_size_needs_no_other_parameters(encoder):
  shapes = [
    jax.tree.map(np.shape, _init(encoder, images)[0])
    for images in (_images(1, 8, 8, 3), _images(1, 5, 11, 3))
  ]
  assert shapes[0] == shapes[1]


def test_grid_tokens_stand_row_by_row_where_their_pixels_are():
  # A norm over cells would let every pixel reach every cell.
  encoder = GridEncoder(7, features=(3, 5), norm="layer")
  images = _images(1, 32, 48, 3)  # 8 x 12 cells
  variables, mask = _init(encoder, images)
  apply_fn = jax.jit(
    lambda images: encoder.apply(variables, images, mask, train=False).values
  )
  other = images.copy()
  other[:, 16:20, 40:44] = 255 - other[:, 16:20, 40:44]  # cell (4, 10)
  changed = np.abs(apply_fn(images) - apply_fn(other)).max(-1).reshape(8, 12)
  assert changed[4, 10] == changed.max()
  far = changed.copy()
  far[3:6, 9:12] = 0  # two 3 x 3 convolutions reach one cell further
  np.testing.assert_array_equal(far, 0)


def test_grid_tokens_are_normed_and_then_given_positions():
  encoder = GridEncoder(7, features=(3, 5))
  values = _encode(encoder, _images(1, 8, 12, 3))
  normed = values[0] - sinusoidal_positions_2d(2, 3, 7)
  np.testing.assert_allclose(normed.mean(-1), np.zeros(6), atol=1e-5)
  np.testing.assert_allclose(normed.std(-1), np.ones(6), atol=1e-2)


def test_coordinates_are_two_more_features_of_a_cell():
  encoder = GridEncoder(7, features=(3,), norm="layer", positions="coordinates")
  images = _images(1, 8, 6, 3)  # 4 x 3 cells
  variables, mask = _init(encoder, images)
  kernel = np.array(variables["params"]["out"]["kernel"])
  assert kernel.shape == (3 + 2, 7)
  kernel[:3] = 0  # The features say nothing.
  out = dict(variables["params"]["out"], kernel=kernel)
  params = variables["params"] | {"out": out}
  tokens = encoder.apply({"params": params}, images, mask, train=False)
  rows = np.repeat([-1, -1 / 3, 1 / 3, 1], 3)
  columns = np.tile([-1, 0, 1], 4)
  expected = np.stack([columns, rows], axis=1) @ kernel[3:] + out["bias"]
  np.testing.assert_allclose(tokens.values[0], expected, atol=1e-5)


def test_batch_norm_is_told_of_training_and_of_absent_images():
  encoder = GridEncoder(7, features=(3, 5), norm="batch")
  images, mask = _images(4, 8, 8, 3), np.array([True, False, True, True])
  params = encoder.init(jax.random.key(0), images, mask, train=False)["params"]

  def run(images, mask, **settings):
    return encoder.apply({"params": params}, images, mask, **settings)

  tokens, sown = run(images, mask, train=True, mutable=["running"])
  alone, expected = run(
    images[mask], mask[mask], train=True, mutable=["running"]
  )
  np.testing.assert_allclose(tokens.values[mask], alone.values, atol=1e-4)
  assert list(sown["running"]) == ["stage_0", "stage_1"]
  found, there = jax.tree.leaves(sown), jax.tree.leaves(expected)
  for a, b in zip(found, there, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  one = run(images[2:3], mask[2:3], train=False)
  all_of_them = run(images, mask, train=False)
  np.testing.assert_allclose(one.values, all_of_them.values[2:3], atol=1e-4)
  assert np.abs(all_of_them.values[2] - tokens.values[2]).max() > 0.1


def test_unknown_positions_are_named():
  encoder = GridEncoder(7, positions="none")
  message = "'none'; it must be 'waves' or 'coordinates'"
  with pytest.raises(ValueError, match=message):
    _init(encoder, _images(1, 16, 16, 3))


@pytest.mark.parametrize("stem_size", [1, 2])
def test_grid_tokens_know_where_they_are(stem_size):
  encoder = GridEncoder(7, features=(3,), stem_size=stem_size)
  images = np.full((1, 16, 16, 3), 128, np.uint8)
  values = np.asarray(_encode(encoder, images)[0])
  distances = np.linalg.norm(values[:, None] - values[None], axis=-1)
  assert np.min(distances + 9 * np.eye(len(values))) > 0.05


@encoders
@pytest.mark.parametrize(
  ("images", "mask", "message"),
  [
    (np.zeros((2, 8, 8), np.uint8), np.ones(2, bool), r"\[2, 8, 8\]"),
    (np.zeros((2, 8, 8, 3), np.uint8), np.ones(3, bool), r"and \[3\]"),
    (np.zeros((2, 8, 8, 3), np.int32), np.ones(2, bool), "got int32"),
  ],
)
def test_wrong_images_are_named(encoder, images, mask, message):
  with pytest.raises(ValueError, match=message):
    encoder.init(jax.random.key(0), images, mask, train=False)
