import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_checks import random_variables

from mmjax.nn.batch_norm import BatchNorm
from mmjax.nn.convolution import ConvBlock, max_pool, space_to_depth


def _normal(*shape):
  return jax.random.normal(jax.random.key(0), shape)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("height", [1, 6, 7, 11])
def test_max_pool_equals_linen(size, height):
  values = _normal(2, height, 5, 3)
  pads = ((0, -height % size), (0, -5 % size))

  def linen_pool(values):
    window = (size, size)
    return nn.max_pool(values, window, window, padding=pads)

  @jax.jit
  def pools_and_grads(values):
    pools = lambda x: max_pool(x, size), linen_pool
    return [
      (pool(values), jax.grad(lambda x, f=pool: jnp.sum(f(x) ** 3))(values))
      for pool in pools
    ]

  ours, theirs = pools_and_grads(values)
  np.testing.assert_array_equal(ours[0], theirs[0])
  np.testing.assert_allclose(ours[1], theirs[1], atol=1e-6)


def test_max_pool_by_hand():
  values = jnp.arange(15.0).reshape(1, 3, 5, 1) * -1
  np.testing.assert_array_equal(
    max_pool(values)[0, ..., 0], [[0, -2, -4], [-10, -12, -14]]
  )


def test_max_pool_keeps_bfloat16_and_finite():
  out = max_pool(-jnp.ones((1, 3, 3, 1), jnp.bfloat16))
  assert out.dtype == jnp.bfloat16
  np.testing.assert_array_equal(out.astype(jnp.float32), -1)


def test_space_to_depth_takes_blocks_row_by_row():
  values = np.random.default_rng(0).normal(size=(2, 5, 7, 3))
  out = space_to_depth(jnp.asarray(values, jnp.float32), 2)
  assert out.shape == (2, 3, 4, 12)
  padded = np.zeros((2, 6, 8, 3))
  padded[:, :5, :7] = values
  for y in range(3):
    for x in range(4):
      block = padded[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
      np.testing.assert_allclose(out[:, y, x], block.reshape(2, 12), atol=1e-6)


def test_space_to_depth_of_size_one_is_the_identity():
  values = _normal(2, 5, 7, 3)
  np.testing.assert_array_equal(space_to_depth(values, 1), values)


@pytest.mark.parametrize(("pool", "shape"), [(1, (5, 11)), (3, (2, 4))])
def test_block_pools_by_its_size(pool, shape):
  block = ConvBlock(7, pool_size=pool)
  out, _ = jax.eval_shape(
    block.init_with_output, jax.random.key(0), _normal(2, 5, 11, 3)
  )
  assert out.shape == (2, *shape, 7)


@pytest.mark.parametrize("downsampling", ["max", "stride"])
@pytest.mark.parametrize("norm", ["instance", "layer", "none"])
def test_block_equals_its_parts(norm, downsampling):
  values = _normal(1, 5, 7, 3)
  block = ConvBlock(11, norm=norm, downsampling=downsampling)
  variables = random_variables(block.init, values)
  params = variables["params"]
  padded = np.pad(np.asarray(values[0]), ((1, 1), (1, 1), (0, 0)))
  grid = np.zeros((5, 7, 11))
  for y in range(5):
    for x in range(7):
      window = padded[y : y + 3, x : x + 3]
      grid[y, x] = np.einsum("ijc,ijcd->d", window, params["conv"]["kernel"])
  if norm != "instance":
    grid += np.asarray(params["conv"]["bias"])
  pooled = grid[::2, ::2].copy()
  if downsampling == "max":
    for y in range(3):
      for x in range(4):
        pooled[y, x] = grid[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].max((0, 1))
  if norm != "none":
    axes = (0, 1) if norm == "instance" else (2,)
    spread = np.sqrt(pooled.var(axes, keepdims=True) + 1e-6)
    pooled = (pooled - pooled.mean(axes, keepdims=True)) / spread
    pooled = pooled * params["norm"]["scale"] + params["norm"]["bias"]
  out = block.apply(variables, values)
  np.testing.assert_allclose(out[0], np.maximum(pooled, 0), atol=1e-4)


@pytest.mark.parametrize(
  ("norm", "kept"), [("instance", 0), ("batch", 1), ("none", 1)]
)
def test_only_without_a_norm_over_cells_an_area_is_kept(norm, kept):
  # Two pictures of one flat object, in the second with two cells more.
  values = np.zeros((2, 8, 8, 1), np.float32)
  values[:, 2:4, 2:4] = values[1, 2:4, 4] = 1
  block = ConvBlock(1, kernel_size=1, pool_size=1, norm=norm)
  params = {"conv": {"kernel": np.ones((1, 1, 1, 1), np.float32)}}
  if norm == "none":
    params["conv"]["bias"] = np.zeros(1)
  else:
    params["norm"] = {"scale": np.ones(1), "bias": np.zeros(1)}
  if norm == "batch":
    params["norm"] |= {"mean": np.full(1, 0.1), "variance": np.full(1, 0.1)}
  out = block.apply({"params": params}, values)
  energy = (np.asarray(out) ** 2).sum((1, 2, 3))
  raw = (values**2).sum((1, 2, 3))
  more = (energy[1] / energy[0] - 1) / (raw[1] / raw[0] - 1)
  np.testing.assert_allclose(more, kept, atol=0.1)


@pytest.mark.parametrize(
  ("norm", "shape", "message"),
  [
    ("instance", (1, 2, 2, 3), "needs more than one cell"),
    ("group", (1, 4, 4, 3), "must be 'instance', 'layer', 'batch' or 'none'"),
  ],
)
def test_what_a_block_cannot_norm(norm, shape, message):
  with pytest.raises(ValueError, match=message):
    ConvBlock(5, norm=norm).init(jax.random.key(0), _normal(*shape))


@pytest.mark.parametrize("downsampling", ["max", "stride"])
def test_batch_norm_of_a_block_is_that_of_its_convolution(downsampling):
  block = ConvBlock(5, downsampling=downsampling, norm="batch")
  values, mask = _normal(4, 6, 5, 3), np.array([True, True, False, True])
  params = block.init(jax.random.key(1), values)["params"]
  assert list(params["conv"]) == ["kernel"]
  bare = ConvBlock(5, downsampling=downsampling, norm="none")
  unnormed = {"conv": {**params["conv"], "bias": 100 * np.ones(5)}}
  inner = bare.apply({"params": unnormed}, values) - 100  # before the rectifier
  for train in True, False:
    out = block.apply({"params": params}, values, mask, train=train)
    normed = BatchNorm().apply(
      {"params": params["norm"]}, inner, mask, train=train
    )
    np.testing.assert_allclose(
      out[mask], nn.relu(normed)[mask], atol=1e-3, err_msg=f"{train=}"
    )


def test_unknown_downsampling_is_named():
  block = ConvBlock(5, downsampling="mean")
  with pytest.raises(ValueError, match="'mean'; it must be 'max' or 'stride'"):
    block.init(jax.random.key(0), _normal(1, 4, 4, 3))
