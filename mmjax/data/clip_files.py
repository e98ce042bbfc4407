"""Clips of a user: files to frames, and frames to what a model was trained on.

Files are read as data only: arrays that would have to run code are refused.
"""

import io
import os
import pathlib

import numpy as np

from mmjax.data import transforms

_KINDS = "an animated WebP, GIF or PNG, or frames as .npy"
_SHAPES = "uint8 [T, h, w] or [T, h, w, c] with 1, 3 or 4 channels"


def read_clip(path: str | os.PathLike[str]) -> np.ndarray:
  """Reads the frames of a clip.

  Args:
    path: an animated picture, each of whose frames is shown once, or a .npy
      file.

  Returns:
    uint8 [T, h, w, 3].

  Raises:
    ValueError: it cannot be read, or is no clip; one sentence.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise ValueError(f"there is no file {path}; give the path of {_KINDS}")
  if path.is_dir():
    raise ValueError(f"{path} is a folder; give the path of {_KINDS}")
  if path.suffix.lower() == ".npy":
    return _read_array(path)
  image = transforms.open_image(path)
  frames = []
  for number in range(getattr(image, "n_frames", 1)):
    try:
      image.seek(number)
      frames.append(np.asarray(transforms.convert_to_rgb(image)))
    except (OSError, EOFError, SyntaxError, ValueError) as error:
      raise ValueError(
        f"frame {number + 1} of the clip {path} cannot be read ({error});"
        f" give {_KINDS}"
      ) from error
  return np.stack(frames)


def fit_clip(
  frames: np.ndarray, shape: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
  """Brings frames to the number, the size and the channels of training clips.

  Args:
    frames: uint8 [n, h, w, 3].
    shape: T, h, w and channels, of which there are 1 or 3.

  Returns:
    uint8 [T, h, w, channels]; bool [T], True = present, as what is missing is
    absent at the end; and notes to the user, a sentence each. Of too many
    frames T are taken, at equal distances.

  Raises:
    ValueError: another number of channels.
  """
  number, height, width, channels = shape
  if channels not in (1, 3):
    raise ValueError(
      f"a clip of a user has 1 or 3 channels, and the model reads {channels};"
      " name an example of its data with --record"
    )
  notes, given = [], len(frames)
  if given > number:
    frames = frames[np.arange(number) * given // number]
    notes.append(
      f"the clip has {given} frames, of which {number} at equal distances were"
      " read"
    )
  elif given < number:
    notes.append(
      f"the clip has {given} frames, and the model was trained on {number}; the"
      " others are absent"
    )
  fitted = np.zeros(shape, np.uint8)
  for row, frame in enumerate(frames):
    fitted[row] = _fit_frame(frame, height, width, channels)
  return fitted, np.arange(number) < given, notes


def _fit_frame(
  frame: np.ndarray, height: int, width: int, channels: int
) -> np.ndarray:
  """Brings a frame [*, *, 3] to [height, width, channels]."""
  from PIL import Image

  image = Image.fromarray(frame)
  if channels == 1:
    image = image.convert("L")
  if image.size != (width, height):
    image = image.resize((width, height), Image.Resampling.BILINEAR)
  return np.asarray(image).reshape(height, width, channels)


def _read_array(path: pathlib.Path) -> np.ndarray:
  """Reads a .npy file of frames."""
  content = path.read_bytes()
  try:
    frames = np.load(io.BytesIO(content), allow_pickle=False)
  except (ValueError, OSError, EOFError, SyntaxError) as error:
    raise ValueError(
      f"the clip {path} cannot be read as an array ({error}); save {_SHAPES}"
      " with numpy.save"
    ) from error
  found = f"{getattr(frames, 'dtype', type(frames).__name__)}"
  shape = list(np.shape(frames))
  is_clip = (
    isinstance(frames, np.ndarray)
    and frames.dtype == np.uint8
    and 0 not in shape
    and (frames.ndim == 3 or (frames.ndim == 4 and shape[3] in (1, 3, 4)))
  )
  if not is_clip:
    raise ValueError(
      f"the clip {path} is {found} {shape}; it has to be {_SHAPES}"
    )
  if frames.ndim == 3:
    frames = frames[..., None]
  if frames.shape[3] == 1:
    return np.repeat(frames, 3, axis=3)
  if frames.shape[3] == 4:
    from PIL import Image

    return np.stack(
      [
        np.asarray(transforms.convert_to_rgb(Image.fromarray(f)))
        for f in frames
      ]
    )
  return frames
