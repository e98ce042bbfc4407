"""Pictures → clips: paths that bounce, and frames with a picture in one place.

Everything is in whole pixels, so a frame holds the very picture.
"""

import numpy as np


def draw_positions(
  number: int,
  num_frames: int,
  *,
  room: int,
  max_speed: int,
  rng: np.random.Generator,
) -> np.ndarray:
  """Draws paths that bounce between 0 and `room`.

  Start, speed and sense are drawn uniformly and apart for rows and columns.
  The path is the straight line start + t * speed, folded at both ends.

  Args:
    number: n, of the paths.
    num_frames: T.
    room: the greatest coordinate, at least 1.
    max_speed: pixels a frame at most; at least 1 is moved.
    rng: decides; the first paths are the same however many are drawn.

  Returns:
    int [n, T, 2], between 0 and `room`.
  """
  # One row of draws a path: uniform in [0, 1), scaled to whole numbers.
  draws = rng.random((number, 3, 2))
  start = np.floor(draws[:, 0] * (room + 1)).astype(np.int64)
  speed = np.floor(draws[:, 1] * max_speed).astype(np.int64) + 1
  speed = np.where(draws[:, 2] < 0.5, speed, -speed)
  time = np.arange(num_frames)[:, None]
  line = start[:, None] + time * speed[:, None]
  return room - np.abs(room - line % (2 * room))


def shrink_images(images: np.ndarray, times: int) -> np.ndarray:
  """Shrinks pictures by the mean over squares, rounded.

  Args:
    images: uint8 [n, h, w, 1], h and w multiples of `times`.
    times: side of the squares in pixels.

  Returns:
    uint8 [n, h / times, w / times, 1].
  """
  number, height, width, _ = images.shape
  squares = images.reshape(
    number, height // times, times, width // times, times, 1
  )
  return np.rint(squares.mean(axis=(2, 4))).astype(np.uint8)


def render(
  images: np.ndarray, positions: np.ndarray, frame_size: int
) -> np.ndarray:
  """Lays each picture into its frames.

  Args:
    images: uint8 [n, h, w, 1].
    positions: int [n, T, 2], row and column of the upper left pixel.
    frame_size: height and width of the frames.

  Returns:
    uint8 [n, T, frame_size, frame_size, 1], zero around the picture.
  """
  number, num_frames, _ = positions.shape
  video = np.zeros((number, num_frames, frame_size, frame_size, 1), np.uint8)
  # [n, T, y, x, 1, h, w]: the window of h x w pixels at every place.
  windows = np.lib.stride_tricks.sliding_window_view(
    video, images.shape[1:3], axis=(2, 3), writeable=True
  )
  clip, frame = np.ogrid[:number, :num_frames]
  rows, columns = positions[..., 0], positions[..., 1]
  windows[clip, frame, rows, columns] = np.moveaxis(images, -1, 1)[:, None]
  return video


def render_wrapping(
  images: np.ndarray, positions: np.ndarray, frame_size: int
) -> np.ndarray:
  """Lays each picture into its frames; what leaves one side enters opposite.

  Args:
    images: uint8 [n, h, w, 1], h and w at most `frame_size`.
    positions: int [n, T, 2], row and column of the upper left pixel, below
      `frame_size`.
    frame_size: height and width of the frames.

  Returns:
    uint8 [n, T, frame_size, frame_size, 1], zero around the picture.
  """
  margin = max(images.shape[1:3]) - 1
  wide = render(images, positions, frame_size + margin)
  # No two pixels of a picture meet where the margins are folded back.
  wide[:, :, :margin] |= wide[:, :, frame_size:]
  wide[:, :, :, :margin] |= wide[:, :, :, frame_size:]
  return np.ascontiguousarray(wide[:, :, :frame_size, :frame_size])
