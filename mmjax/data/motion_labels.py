"""Motions with a label: a direction, a number of bounces, an order of events.

What one frame can tell of the label, and what all frames without their order
can tell, is known by construction; see each function. All is in whole pixels.
"""

from typing import NamedTuple

import numpy as np

# Steps (row, column) of the eight directions; number d + 4 is opposite to d.
DIRECTIONS = {
  "right": (0, 1),
  "down right": (1, 1),
  "down": (1, 0),
  "down left": (1, -1),
  "left": (0, -1),
  "up left": (-1, -1),
  "up": (-1, 0),
  "up right": (-1, 1),
}


class BouncingPaths(NamedTuple):
  """All paths that a coordinate can take, one a row.

  Attributes:
    positions: int [P, T], between 0 and the room.
    bounces: int [P], how often each turns back.
  """

  positions: np.ndarray
  bounces: np.ndarray


def draw_wrapping(
  directions: np.ndarray,
  num_frames: int,
  *,
  size: int,
  max_speed: int,
  rng: np.random.Generator,
) -> np.ndarray:
  """Draws straight paths on a square that goes on at its opposite side.

  Start and speed are uniform and independent of the direction. So every
  position is uniform for every direction, in every frame: one frame tells
  nothing of it. And the path reversed in time is one of the opposite
  direction, equally likely, with the same frames: all frames without their
  order leave two directions equally likely.

  Args:
    directions: int [n], numbers of `DIRECTIONS`.
    num_frames: T.
    size: height and width of the square.
    max_speed: pixels a frame on each axis that is moved along, at most; at
      least 1 is moved, and fewer than half of `size` have to be.
    rng: decides; the first paths are the same however many are drawn.

  Returns:
    int [n, T, 2], row and column, from 0 and below `size`.
  """
  draws = rng.random((len(directions), 3))
  start = np.floor(draws[:, None, :2] * size).astype(np.int64)
  speed = np.floor(draws[:, 2] * max_speed).astype(np.int64) + 1
  step = np.array(list(DIRECTIONS.values()))[directions] * speed[:, None]
  time = np.arange(num_frames)[:, None]
  return (start + time * step[:, None]) % size


def enumerate_bouncing(
  num_frames: int, *, room: int, max_speed: int
) -> BouncingPaths:
  """Lists the paths of a coordinate that turns back at 0 and at `room`.

  A path is the straight line start + t * speed, folded at both ends. It turns
  back, or bounces, at each end that it reaches after the first frame and
  before the last one: what only leaves an end, or only arrives there, does not
  turn.

  Args:
    num_frames: T.
    room: the greatest coordinate, at least 1.
    max_speed: pixels a frame at most; at least 1 is moved.

  Returns:
    One path for each start between the ends, speed and sense, except that at
    an end there is one sense only: inwards.
  """
  speeds = [s for s in range(-max_speed, max_speed + 1) if s]
  lines = [(start, s) for start in range(room) for s in speeds if s > 0]
  lines += [(start, s) for start in range(1, room + 1) for s in speeds if s < 0]
  start, speed = np.array(lines).T
  line = start[:, None] + np.arange(num_frames) * speed[:, None]
  lowest, highest = line.min(axis=1), line.max(axis=1)
  # Ends lie at the multiples of the room; those strictly between are passed.
  bounces = np.maximum(-(-highest // room) - lowest // room - 1, 0)
  return BouncingPaths(room - np.abs(room - line % (2 * room)), bounces)


def draw_bouncing(
  counts: np.ndarray,
  num_frames: int,
  *,
  room: int,
  max_speed: int,
  most: int,
  rng: np.random.Generator,
) -> np.ndarray:
  """Draws paths on a square that bounce a given number of times.

  Bounces of both coordinates are added; a corner counts twice. Of all paths
  with the wanted number each is equally likely. All frames without their order
  tell the number where they tell the path, which reversed in time bounces as
  often.

  Args:
    counts: int [n], numbers of bounces; `most` stands for that many or more.
    num_frames: T.
    room: the greatest coordinate, at least 1.
    max_speed: pixels a frame of each coordinate at most; at least 1 is moved.
    most: the cap.
    rng: decides; the first paths are the same however many are drawn.

  Returns:
    int [n, T, 2], between 0 and `room`.

  Raises:
    ValueError: no path bounces so often.
  """
  paths = enumerate_bouncing(num_frames, room=room, max_speed=max_speed)
  total = np.minimum(paths.bounces[:, None] + paths.bounces, most)
  draws = rng.random(len(counts))
  positions = np.zeros((len(counts), num_frames, 2), np.int64)
  for count in np.unique(counts):
    row, column = np.nonzero(total == count)
    if not len(row):
      raise ValueError(
        f"no path of {num_frames} frames with at most {max_speed} pixels a "
        f"frame bounces {count} times between ends that are {room} pixels "
        "apart; change the number of frames, the speed or the room"
      )
    (chosen,) = np.nonzero(counts == count)
    pick = np.floor(draws[chosen] * len(row)).astype(np.int64)
    positions[chosen, :, 0] = paths.positions[row[pick]]
    positions[chosen, :, 1] = paths.positions[column[pick]]
  return positions


def draw_events(
  firsts: np.ndarray, num_frames: int, *, rng: np.random.Generator
) -> np.ndarray:
  """Draws the frames of two events of which a given one comes first.

  Any two frames are equally likely. Reversed in time the other event comes
  first, in the same frames: where all else is as likely reversed, all frames
  without their order tell nothing.

  Args:
    firsts: int [n], 0 or 1, which event comes first.
    num_frames: T, at least 2.
    rng: decides; the first pairs are the same however many are drawn.

  Returns:
    int [n, 2], the frame of event 0 and of event 1, never the same.
  """
  early, late = np.triu_indices(num_frames, 1)
  pick = np.floor(rng.random(len(firsts)) * len(early)).astype(np.int64)
  pairs = np.stack([early[pick], late[pick]], axis=1)
  return np.where(firsts[:, None] == 0, pairs, pairs[:, ::-1])
