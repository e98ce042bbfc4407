"""What to draw of one example on its image: veils, and the weights of words.

A veil shows weights without colour: cells that are looked at stay clear, the
others sink into the dark (into the light, on a dark image). It reads the same
for every kind of colour vision, and no image colour can be mistaken for it.
"""

import base64
import io

import numpy as np
from PIL import Image

from mmjax.report import attention as attention_lib
from mmjax.report.examples import ExampleView

MAX_SIDE = 192  # pixels of an image in the report
_CLEAREST, _DARKEST = 1.0, 0.25
_LINE = np.array([255, 196, 0])
_DARK, _BRIGHT = np.array([17.0, 22.0, 30.0]), np.array([246.0, 247.0, 249.0])


def spread_cells(weights: np.ndarray, height: int, width: int) -> np.ndarray:
  """Gives each pixel the weight of the cell that it lies in.

  Args:
    weights: [h, w] one a cell.
    height: of the image in pixels; need not be a multiple of h.
    width: of the image in pixels.

  Returns:
    [height, width]; cells keep their sharp borders, since the model knows
    nothing finer.
  """
  rows = np.arange(height) * weights.shape[0] // height
  columns = np.arange(width) * weights.shape[1] // width
  return weights[rows[:, None], columns[None, :]]


def veil_image(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Veils an image where it is not looked at.

  Args:
    image: uint8 [height, width, 3].
    weights: [h, w] not negative, one a cell; the largest is fully clear. All
      zero veils everything.

  Returns:
    uint8 [height, width, 3].
  """
  peak = weights.max()
  share = weights / peak if peak > 0 else np.zeros_like(weights)
  clear = spread_cells(
    _DARKEST + (_CLEAREST - _DARKEST) * share, *image.shape[:2]
  )[..., None]
  veil = _DARK if image.mean() > 90 else _BRIGHT
  return np.rint(image * clear + veil * (1 - clear)).astype(np.uint8)


def outline_cells(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Draws a line around the cells with at least half of the peak's weight.

  The line lies just inside those cells, two pixels wide, and tells them
  from the rest even where the image itself is as dark as the veil.

  Args:
    image: uint8 [height, width, 3].
    weights: [h, w] not negative, one a cell. All zero draws nothing.

  Returns:
    uint8 [height, width, 3].
  """
  peak = weights.max()
  if peak <= 0:
    return image
  inside = spread_cells(weights >= peak / 2, *image.shape[:2])
  core = np.pad(inside, 2, constant_values=False)
  core = np.lib.stride_tricks.sliding_window_view(core, (5, 5)).all((2, 3))
  return np.where((inside & ~core)[..., None], _LINE, image).astype(np.uint8)


def map_image(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Veils an image by weights [h, w] and outlines where they are high."""
  return outline_cells(veil_image(image, weights), weights)


def fit_image(image: np.ndarray) -> np.ndarray:
  """Scales an image to a handy size for the report.

  Large ones shrink to `MAX_SIDE`; the pixels of small ones are repeated a
  whole number of times, so that lines on them can be thin.
  """
  height, width = image.shape[:2]
  scale = MAX_SIDE / max(height, width)
  if scale >= 1:
    return image.repeat(int(scale), axis=0).repeat(int(scale), axis=1)
  size = (max(round(width * scale), 1), max(round(height * scale), 1))
  return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def encode_image(image: np.ndarray) -> tuple[str, bytes]:
  """Encodes pixels as PNG, or as JPEG where that is far smaller.

  Args:
    image: uint8 [height, width, 3].

  Returns:
    The media type and the bytes. Drawings stay exact; photographs shrink.
  """
  png, jpeg = io.BytesIO(), io.BytesIO()
  Image.fromarray(image).save(png, "PNG", optimize=True)
  Image.fromarray(image).save(jpeg, "JPEG", quality=85)
  if len(png.getvalue()) > 2 * len(jpeg.getvalue()) + 4096:
    return "image/jpeg", jpeg.getvalue()
  return "image/png", png.getvalue()


def data_uri(media_type: str, content: bytes) -> str:
  """Writes bytes as a `data:` address, which needs no network."""
  return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def word_maps(view: ExampleView) -> list[tuple[str, np.ndarray]]:
  """The maps to draw on the image, with names.

  Returns:
    First `all words`, the mean of the maps, then one map [h, w] a word, or
    `all words` alone if the text is one token; and `pooling`, where the image
    is pooled by attention. Empty without any.
  """
  if view.image is None:
    return []
  image, text = view.image_modality, view.text_modality
  maps = attention_lib.words_over_image(
    view.attention, len(view.words), view.grid, image=image, text=text
  )
  named = []
  if maps is not None and len(maps):
    named.append(("all words", maps.mean(axis=0)))
    if len(maps) > 1 or len(view.words) == 1:
      named.extend(zip(view.words, maps, strict=False))
  pooled = attention_lib.pooled_cells(view.attention, view.grid, image=image)
  if pooled is not None:
    named.append(("pooling", pooled))
  return named


def word_weights(view: ExampleView) -> list[tuple[str, np.ndarray]]:
  """The weights [W] of the words, with the names of who looks at them."""
  image, text = view.image_modality, view.text_modality
  found = (
    (
      "image over words",
      attention_lib.image_over_words(
        view.attention, len(view.words), image=image, text=text
      ),
    ),
    (
      "pooling over words",
      attention_lib.pooled_words(view.attention, len(view.words), text=text),
    ),
  )
  return [(name, weights) for name, weights in found if weights is not None]
