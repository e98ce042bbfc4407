"""Clips, their masks, and pooling of frames."""

import jax.numpy as jnp
import numpy as np
import pytest
from cases_video import CLIPS, CLIPS_MASK, EVERY, MASKED

from mmjax.encoders.image import image_to_float
from mmjax.encoders.video import StepPooling, expand_frame_mask, video_to_float

pytestmark = pytest.mark.usefixtures("fast_compilation")


def test_a_mask_of_clips_spreads_to_their_frames():
  mask = np.array([True, False, True])
  out = expand_frame_mask(CLIPS, mask)
  np.testing.assert_array_equal(out, np.repeat(mask[:, None], 5, axis=1))
  np.testing.assert_array_equal(
    expand_frame_mask(CLIPS, CLIPS_MASK), CLIPS_MASK
  )


def test_pixels_of_clips_become_minus_one_to_one():
  out, mask = video_to_float(MASKED, CLIPS_MASK, "float32")
  np.testing.assert_array_equal(mask, CLIPS_MASK)
  np.testing.assert_allclose(out[mask], 2 * CLIPS[CLIPS_MASK] - 1, atol=1e-6)
  np.testing.assert_array_equal(out[~mask], 0)
  pixels = np.round(255 * CLIPS).astype(np.uint8)
  out, _ = video_to_float(pixels, EVERY, "float32")
  np.testing.assert_allclose(out, pixels / 127.5 - 1, atol=1e-6)


def test_neighbouring_grey_levels_stay_apart_in_half_precision():
  pixels = np.arange(120, 136, dtype=np.uint8).reshape(1, 4, 4, 1)
  out = image_to_float(pixels, np.ones(1, bool), "bfloat16")
  assert len(np.unique(out.astype(jnp.float32))) == 16


@pytest.mark.parametrize(
  ("pooling", "reference"), [("mean", np.mean), ("max", np.max)]
)
def test_the_present_tokens_of_a_frame_are_pooled(pooling, reference):
  values = CLIPS[..., 0, :].astype(np.float32)  # [3, 5, 8, 3]
  mask = np.random.default_rng(1).random((3, 5, 8)) < 0.6
  out = StepPooling(pooling).apply({}, values, mask)
  for row, step in np.ndindex(3, 5):
    there = values[row, step][mask[row, step]]
    np.testing.assert_allclose(out[row, step], reference(there, 0), atol=1e-6)


def test_the_tokens_of_a_frame_are_put_side_by_side():
  values = CLIPS[..., 0, :].astype(np.float32)
  mask = np.random.default_rng(1).random((3, 5, 8)) < 0.6
  dirty = np.where(mask[..., None], values, np.nan)
  out = StepPooling("concat").apply({}, dirty, mask)
  expected = np.where(mask[..., None], values, 0).reshape(3, 5, 24)
  np.testing.assert_array_equal(out, expected)


def test_an_unknown_pooling_is_named():
  with pytest.raises(ValueError, match="'median'"):
    StepPooling("median").apply({}, CLIPS[..., 0, :], np.ones((3, 5, 8), bool))
