import io

import numpy as np
import pytest
from PIL import Image

from mmjax.data import transforms

RED = (200, 40, 60)


def save(image, **options):
  buffer = io.BytesIO()
  image.save(buffer, **{"format": "PNG", **options})
  return buffer.getvalue()


def pixel(image, size=1):
  return transforms.to_array(transforms.open_image(image), size)[0, 0].tolist()


def test_rgb_of_the_right_size_is_untouched(tmp_path):
  values = np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)
  path = tmp_path / "x.png"
  Image.fromarray(values).save(path)
  for source in (path, str(path), path.read_bytes(), Image.open(path)):
    opened = transforms.open_image(source)
    array = transforms.to_array(opened, 5)
    np.testing.assert_array_equal(array, values)
    assert array.dtype == np.uint8


def test_modes_are_converted():
  assert pixel(Image.new("L", (3, 7), 77)) == [77] * 3
  assert pixel(Image.new("1", (3, 7), 1)) == [255] * 3
  assert pixel(Image.new("LA", (3, 7), (0, 0))) == [255] * 3
  assert pixel(Image.new("RGBA", (3, 7), (*RED, 255))) == list(RED)
  assert pixel(Image.new("RGBA", (3, 7), (0, 0, 0, 0))) == [255] * 3
  half = np.array(pixel(Image.new("RGBA", (3, 7), (0, 0, 0, 128))))
  assert abs(half - 127).max() <= 1
  palette = Image.new("RGB", (3, 7), RED).convert("P", palette=1)
  assert palette.mode == "P"
  assert pixel(palette) == pixel(palette.convert("RGB"))
  transparent = Image.new("P", (3, 7), 0)
  transparent.putpalette([0, 0, 0])
  assert pixel(save(transparent, transparency=0)) == [255] * 3
  # Ink of 0 is paper, all black ink is black.
  assert pixel(Image.new("CMYK", (3, 7), (0, 0, 0, 0))) == [255] * 3
  assert pixel(Image.new("CMYK", (3, 7), (0, 0, 0, 255))) == [0] * 3
  assert pixel(Image.new("CMYK", (3, 7), (0, 255, 255, 0))) == [255, 0, 0]


@pytest.mark.parametrize("value", [0, 257, 100 * 257, 200 * 257, 65535])
def test_16_bit_grey_is_scaled_not_clipped(value):
  image = Image.fromarray(np.full((7, 3), value, np.uint16))
  assert image.mode == "I;16"
  assert pixel(image) == [value // 257] * 3
  assert pixel(save(image)) == [value // 257] * 3


def test_floating_point_grey():
  assert pixel(Image.new("F", (3, 7), 0.5)) == [128] * 3
  assert pixel(Image.new("F", (3, 7), 200.0)) == [200] * 3
  assert pixel(Image.new("I", (3, 7), 200)) == [200] * 3


def test_whole_picture_is_kept_when_resized():
  values = np.zeros((40, 20, 3), np.uint8)
  values[:20] = 255
  array = transforms.to_array(Image.fromarray(values), 8)
  assert array.shape == (8, 8, 3)
  assert (array[:3] == 255).all()
  assert (array[5:] == 0).all()


def test_camera_orientation_is_obeyed():
  values = np.zeros((2, 2, 3), np.uint8)
  values[0] = 255  # white above
  exif = Image.Exif()
  exif[0x0112] = 3  # turned by half a circle
  data = save(Image.fromarray(values), exif=exif)
  array = transforms.to_array(transforms.open_image(data), 2)
  assert (array[1] == 255).all()
  assert (array[0] == 0).all()


def test_what_is_no_picture_is_refused_in_one_sentence(tmp_path):
  text = tmp_path / "notes.png"
  text.write_text("no picture")
  whole = save(Image.effect_noise((64, 64), 50))
  for source, match in [
    (text, "notes.png"),
    (tmp_path, "picture"),
    (tmp_path / "missing.png", "there is no file"),
    (b"", "0 bytes"),
    (whole[: len(whole) // 2], "cannot be read"),
  ]:
    with pytest.raises(ValueError, match=match) as refused:
      transforms.open_image(source)
    assert "\n" not in str(refused.value)


def test_sampled_rows_are_distinct_and_fair():
  rng = np.random.default_rng(0)
  drawn = [transforms.sample_rows(7, 3, rng) for _ in range(700)]
  assert all(len(set(rows.tolist())) == 3 for rows in drawn)
  counts = np.bincount(np.concatenate(drawn), minlength=7)
  assert abs(counts - 300).max() < 75
  assert sorted(transforms.sample_rows(2, 5, rng).tolist()) == [0, 1]
