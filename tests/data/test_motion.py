import numpy as np

from mmjax.data import motion


def walk(start, speed, room, num_frames):
  """Steps pixel by pixel and turns back at the borders."""
  path, place, sense = [start], start, np.sign(speed)
  for _ in range(num_frames - 1):
    for _ in range(abs(speed)):
      if not 0 <= place + sense <= room:
        sense = -sense
      place += sense
    path.append(place)
  return path


def test_paths_are_those_of_a_walker_who_turns_back():
  rng = np.random.default_rng(0)
  paths = motion.draw_positions(211, 13, room=11, max_speed=5, rng=rng)
  assert paths.shape == (211, 13, 2)
  assert paths.min() == 0
  assert paths.max() == 11
  found = set()
  for path in paths.reshape(211, 13, 2).transpose(0, 2, 1).reshape(-1, 13):
    walks = {
      speed: walk(path[0], speed, 11, 13)
      for speed in range(-5, 6)
      if speed != 0
    }
    speeds = {speed for speed, each in walks.items() if each == path.tolist()}
    assert speeds
    found |= speeds
  assert found == {*range(-5, 0), *range(1, 6)}


def test_starts_are_uniform_and_axes_independent():
  rng = np.random.default_rng(1)
  starts = motion.draw_positions(20_000, 1, room=4, max_speed=1, rng=rng)[:, 0]
  share = np.zeros((5, 5))
  np.add.at(share, tuple(starts.T), 1 / 20_000)
  # Five standard errors.
  np.testing.assert_allclose(share, 1 / 25, atol=5 * (0.04 / 20_000) ** 0.5)


def test_the_first_paths_stay_when_more_are_drawn():
  few, many = (
    motion.draw_positions(
      number, 5, room=7, max_speed=3, rng=np.random.default_rng(2)
    )
    for number in (3, 11)
  )
  np.testing.assert_array_equal(few, many[:3])


def test_a_frame_is_the_picture_in_its_place_and_nothing_else():
  rng = np.random.default_rng(3)
  images = rng.integers(1, 256, (3, 5, 7, 1)).astype(np.uint8)
  positions = rng.integers(0, 5, (3, 4, 2))
  video = motion.render(images, positions, 11)
  assert video.dtype == np.uint8
  expected = np.zeros((3, 4, 11, 11, 1), np.uint8)
  for clip in range(3):
    for frame in range(4):
      row, column = positions[clip, frame]
      expected[clip, frame, row : row + 5, column : column + 7] = images[clip]
  np.testing.assert_array_equal(video, expected)


def test_shrinking_takes_the_mean_of_squares():
  rng = np.random.default_rng(4)
  images = rng.integers(0, 256, (2, 6, 9, 1)).astype(np.uint8)
  small = motion.shrink_images(images, 3)
  assert small.shape == (2, 2, 3, 1)
  assert small.dtype == np.uint8
  for n, y, x in np.ndindex(2, 2, 3):
    square = images[n, 3 * y : 3 * y + 3, 3 * x : 3 * x + 3]
    assert small[n, y, x, 0] == round(int(square.sum()) / 9)
  np.testing.assert_array_equal(motion.shrink_images(images, 1), images)


def test_what_leaves_a_frame_enters_at_the_opposite_side():
  rng = np.random.default_rng(5)
  images = rng.integers(1, 256, (3, 5, 2, 1)).astype(np.uint8)
  positions = rng.integers(0, 7, (3, 11, 2))
  video = motion.render_wrapping(images, positions, 7)
  assert video.dtype == np.uint8
  assert (positions > 5).any()
  for clip, frame in np.ndindex(3, 11):
    expected = np.zeros((7, 7, 1), np.uint8)
    row, column = positions[clip, frame]
    for y, x in np.ndindex(5, 2):
      expected[(row + y) % 7, (column + x) % 7] = images[clip, y, x]
    np.testing.assert_array_equal(video[clip, frame], expected)
