"""Pixels: what is veiled, what is clear, and where the lines run."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from mmjax.report.examples import ExampleView
from mmjax.report.overlays import (
  MAX_SIDE,
  data_uri,
  encode_image,
  fit_image,
  outline_cells,
  spread_cells,
  veil_image,
  word_maps,
  word_weights,
)


def _noise(height, width, low=120):
  rng = np.random.default_rng(0)
  return rng.integers(low, 256, (height, width, 3), np.uint8)


def _hot(row, column, shape=(3, 5)):
  weights = np.zeros(shape)
  weights[row, column] = 0.01
  return weights


def test_one_hot_cell_is_clear_on_its_own_pixels_only():
  image = _noise(21, 55)
  veiled = veil_image(image, _hot(1, 3))
  clear = (veiled == image).all(axis=-1)
  expected = np.zeros((21, 55), bool)
  expected[7:14, 33:44] = True
  np.testing.assert_array_equal(clear, expected)


@pytest.mark.parametrize("low", [0, 120])
def test_veils_differ_from_what_they_cover(low):
  image = np.full((21, 55, 3), low, np.uint8)
  veiled = veil_image(image, np.zeros((3, 5)))
  assert np.abs(veiled.astype(int) - image).min() > 50


def test_half_the_weight_is_half_as_clear():
  image = np.full((1, 3, 3), 200, np.uint8)
  row = veil_image(image, np.array([[0.0, 0.2, 0.4]]))[0, :, 0].astype(float)
  assert row[2] == 200
  assert row[1] == pytest.approx((row[0] + row[2]) / 2, abs=1)


def test_cells_share_pixels_that_do_not_divide():
  spread = spread_cells(np.arange(6).reshape(2, 3), 5, 7)
  assert spread[0].tolist() == [0, 0, 0, 1, 1, 2, 2]
  assert spread[:, 0].tolist() == [0, 0, 0, 3, 3]


def test_the_line_runs_inside_the_hot_cell():
  image = np.zeros((30, 50, 3), np.uint8)
  drawn = outline_cells(image, _hot(1, 3)).any(axis=-1)
  expected = np.zeros((30, 50), bool)
  expected[10:20, 30:40] = True
  expected[12:18, 32:38] = False
  np.testing.assert_array_equal(drawn, expected)
  assert not outline_cells(image, np.zeros((3, 5))).any()


@pytest.mark.parametrize(
  ("shape", "fitted"),
  [
    ((64, 64), (192, 192)),
    ((63, 101), (63, 101)),
    ((1000, 500), (192, 96)),
    ((5000, 3), (192, 1)),
  ],
)
def test_images_fit(shape, fitted):
  image = fit_image(_noise(*shape))
  assert image.shape == (*fitted, 3)
  assert max(image.shape) <= MAX_SIDE


def test_small_images_keep_their_pixels():
  image = _noise(64, 64)
  np.testing.assert_array_equal(fit_image(image)[1::3, 2::3], image)


def test_drawings_become_png_and_photographs_jpeg():
  drawing = np.full((192, 192, 3), 7, np.uint8)
  drawing[50:90, 30:70] = [255, 0, 0]
  kind, content = encode_image(drawing)
  assert kind == "image/png"
  assert len(content) < 1000
  decoded = np.asarray(Image.open(io.BytesIO(content)))
  np.testing.assert_array_equal(decoded, drawing)
  kind, content = encode_image(_noise(192, 192, 0))
  assert kind == "image/jpeg"
  assert Image.open(io.BytesIO(content)).size == (192, 192)


def test_data_uris_decode_to_what_they_hold():
  head, _, tail = data_uri("image/png", b"\x00\xffabc").partition(",")
  assert head == "data:image/png;base64"
  assert base64.b64decode(tail) == b"\x00\xffabc"


def _view(attention, grid=(3, 5), image=True):
  return ExampleView(
    image=_noise(21, 55) if image else None,
    words=["any", "red"],
    text="any red?",
    answer="no",
    top=[("no", 0.9)],
    attention=attention,
    grid=grid,
  )


def test_maps_start_with_the_mean_of_the_words():
  weights = np.zeros((1, 1, 7, 15))
  weights[..., 0, 4] = 0.5
  weights[..., 1, 8] = 0.25
  weights[..., 2, :] = 9.0  # padding
  maps = dict(word_maps(_view({"text_over_image": weights})))
  assert list(maps) == ["all words", "any", "red"]
  assert np.argwhere(maps["any"]).tolist() == [[0, 4]]
  assert np.argwhere(maps["red"]).tolist() == [[1, 3]]
  assert maps["all words"].sum() == pytest.approx(0.375)


def test_a_text_of_one_token_has_one_map():
  ((name, cells),) = word_maps(
    _view({"text_over_image": np.ones((1, 1, 1, 15))})
  )
  assert name == "all words"
  assert cells.shape == (3, 5)


def test_pooling_is_drawn_too():
  view = _view({"pool_image": np.arange(15.0), "pool_text": np.array([1, 3.0])})
  ((name, cells),) = word_maps(view)
  assert name == "pooling"
  assert cells[2, 4] == 14
  ((name, shares),) = word_weights(view)
  assert name == "pooling over words"
  assert shares.tolist() == [0.25, 0.75]


def test_without_attention_or_image_there_is_nothing_to_draw():
  weights = {"text_over_image": np.ones((1, 1, 7, 15))}
  assert word_maps(_view({})) == []
  assert word_weights(_view({})) == []
  assert word_maps(_view(weights, grid=None)) == []
  assert word_maps(_view(weights, image=False)) == []
