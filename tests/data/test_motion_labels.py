import collections
import itertools

import numpy as np
import pytest

from mmjax.data import motion_labels

STEPS = list(motion_labels.DIRECTIONS.values())


class EveryDraw:
  """A generator whose `random` gives each of its cells once, in their middles.

  Functions that scale uniform numbers to whole ones then list all that they
  could draw.
  """

  def __init__(self, *sizes):
    cells = itertools.product(*map(range, sizes))
    self._draws = (np.array(list(cells)) + 0.5) / np.array(sizes)

  def __len__(self):
    return len(self._draws)

  def random(self, shape):
    return self._draws.reshape(shape)


def list_wrapping(direction, *, num_frames, size, max_speed):
  """All paths of a direction, each as a tuple of places."""
  rng = EveryDraw(size, size, max_speed)
  paths = motion_labels.draw_wrapping(
    np.full(len(rng), direction),
    num_frames,
    size=size,
    max_speed=max_speed,
    rng=rng,
  )
  return [tuple(map(tuple, path.tolist())) for path in paths]


def walk(start, speed, room, num_frames):
  """Steps pixel by pixel; counts the turns between two steps of its own."""
  path, place, sense, turns, moved = [start], start, np.sign(speed), 0, False
  for _ in range(num_frames - 1):
    for _ in range(abs(speed)):
      if not 0 <= place + sense <= room:
        sense, turns = -sense, turns + moved
      place, moved = place + sense, True
    path.append(place)
  return path, turns


def test_opposite_directions_are_four_apart():
  for number, (row, column) in enumerate(STEPS):
    assert STEPS[(number + 4) % 8] == (-row, -column)
  assert len(set(STEPS)) == 8


def test_wrapping_paths_step_in_their_direction():
  size, max_speed = 7, 3
  for direction, (row, column) in enumerate(STEPS):
    paths = list_wrapping(
      direction, num_frames=5, size=size, max_speed=max_speed
    )
    expected = {
      tuple(
        ((y + t * s * row) % size, (x + t * s * column) % size)
        for t in range(5)
      )
      for y, x, s in itertools.product(range(7), range(7), (1, 2, 3))
    }
    assert set(paths) == expected
    assert len(paths) == len(expected)


def test_one_frame_tells_nothing_of_the_direction():
  size = 5
  for direction in range(8):
    paths = list_wrapping(direction, num_frames=4, size=size, max_speed=2)
    for frame in range(4):
      counts = collections.Counter(path[frame] for path in paths)
      assert len(counts) == size**2
      assert set(counts.values()) == {2}


def test_frames_without_order_leave_two_directions():
  bags = []
  for direction in range(8):
    paths = list_wrapping(direction, num_frames=4, size=7, max_speed=3)
    reversed_paths = [path[::-1] for path in paths]
    assert sorted(reversed_paths) == sorted(
      list_wrapping((direction + 4) % 8, num_frames=4, size=7, max_speed=3)
    )
    bags.append(collections.Counter(tuple(sorted(path)) for path in paths))
  for direction in range(4):
    assert bags[direction] == bags[direction + 4]
  # And no more than two: the best guess from a bag is right half the time.
  best = sum(
    max(counts[bag] for counts in bags) for bag in set().union(*bags)
  ) / sum(sum(counts.values()) for counts in bags)
  assert best == 0.5


def test_bounces_are_those_of_a_walker_who_turns_back():
  room, num_frames, max_speed = 5, 7, 4
  paths = motion_labels.enumerate_bouncing(
    num_frames, room=room, max_speed=max_speed
  )
  expected = collections.Counter()
  for start, size, sense in itertools.product(range(6), range(1, 5), (1, -1)):
    if 0 <= start + sense <= room:
      path, turns = walk(start, size * sense, room, num_frames)
      expected[tuple(path), turns] += 1
  found = zip(paths.positions.tolist(), paths.bounces.tolist(), strict=True)
  assert collections.Counter((tuple(p), c) for p, c in found) == expected
  assert set(paths.bounces) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
  ("start", "speed", "num_frames", "bounces"),
  [
    (0, 1, 4, 0),  # leaves an end, arrives at the other
    (0, 1, 5, 1),
    (1, -1, 2, 0),  # arrives
    (1, -1, 3, 1),
    (1, -2, 2, 1),  # turns between two frames
    (2, 3, 3, 2),
  ],
)
def test_what_counts_as_a_bounce(start, speed, num_frames, bounces):
  paths = motion_labels.enumerate_bouncing(num_frames, room=3, max_speed=3)
  path, turns = walk(start, speed, 3, num_frames)
  found = [
    paths.bounces[row]
    for row in np.flatnonzero((paths.positions == path).all(axis=1))
  ]
  assert turns == bounces
  assert bounces in found


def test_a_single_frame_never_bounces():
  paths = motion_labels.enumerate_bouncing(1, room=3, max_speed=2)
  assert not paths.bounces.any()


def test_drawn_paths_bounce_as_often_as_wanted_and_are_uniform():
  room, most = 3, 3
  paths = motion_labels.enumerate_bouncing(4, room=room, max_speed=2)
  counts = np.repeat(np.arange(most + 1), 12_000)
  drawn = motion_labels.draw_bouncing(
    counts,
    4,
    room=room,
    max_speed=2,
    most=most,
    rng=np.random.default_rng(0),
  )
  expected = collections.defaultdict(collections.Counter)
  each = list(zip(paths.positions.tolist(), paths.bounces, strict=True))
  for (rows, first), (columns, second) in itertools.product(each, each):
    expected[min(first + second, most)][tuple(rows), tuple(columns)] += 1
  for count in range(most + 1):
    found = collections.Counter(
      tuple(map(tuple, path)) for path in drawn[counts == count].mT.tolist()
    )
    total = sum(expected[count].values())
    assert set(found) == set(expected[count])
    for path, number in expected[count].items():
      share = number / total
      error = 5 * (share * (1 - share) / 12_000) ** 0.5
      assert abs(found[path] / 12_000 - share) < error


def best_guess(keys, labels, chances):
  """How often the likeliest label of each key is right."""
  shares = collections.defaultdict(collections.Counter)
  for key, label, chance in zip(keys, labels, chances, strict=True):
    shares[key][label] += chance
  return sum(max(of_key.values()) for of_key in shares.values())


def test_what_can_be_known_of_bounces_is_what_the_documentation_says():
  """Over all clips of the default size, each number equally likely."""
  paths = motion_labels.enumerate_bouncing(12, room=13, max_speed=3)
  pairs = list(itertools.product(range(len(paths.bounces)), repeat=2))
  rows, columns = (
    paths.positions[list(part)] for part in zip(*pairs, strict=True)
  )
  labels = [min(sum(paths.bounces[list(pair)]), 4) for pair in pairs]
  number = collections.Counter(labels)
  chances = [1 / 5 / number[label] for label in labels]
  frames = np.stack([rows, columns], axis=-1).tolist()
  bags = [tuple(sorted(map(tuple, each))) for each in frames]
  assert best_guess(bags, labels, chances) == pytest.approx(0.9997, abs=1e-4)
  sixth = [tuple(each[5]) for each in frames]
  assert best_guess(sixth, labels, chances) == pytest.approx(0.524, abs=1e-3)
  speeds = [
    tuple(sorted(abs(np.diff(each)).max() for each in pair))
    for pair in zip(rows, columns, strict=True)
  ]
  assert best_guess(speeds, labels, chances) == pytest.approx(0.540, abs=1e-3)
  every = [tuple(frame) for each in frames for frame in each]
  one = best_guess(
    every, np.repeat(labels, 12).tolist(), np.repeat(chances, 12) / 12
  )
  assert one == pytest.approx(0.308, abs=1e-3)


def test_too_many_bounces_are_refused():
  with pytest.raises(ValueError, match="bounces 3 times between ends that"):
    motion_labels.draw_bouncing(
      np.array([0, 3]),
      3,
      room=11,
      max_speed=2,
      most=3,
      rng=np.random.default_rng(0),
    )


def test_all_pairs_of_events_come_and_order_alone_tells_the_first():
  num_frames = 5
  bags = []
  for first in range(2):
    rng = EveryDraw(num_frames * (num_frames - 1) // 2)
    events = motion_labels.draw_events(
      np.full(len(rng), first), num_frames, rng=rng
    )
    pairs = set(map(tuple, events.tolist()))
    assert len(pairs) == len(events) == 10
    assert all((a < b) == (first == 0) for a, b in pairs)
    # Reversed in time the other one comes first.
    bags.append({(num_frames - 1 - a, num_frames - 1 - b) for a, b in pairs})
    for event in range(2):
      assert set(events[:, event]) <= set(range(num_frames))
  assert bags[0] == {(b, a) for a, b in bags[1]}
  assert not bags[0] & bags[1]


@pytest.mark.parametrize(
  "draw_fn",
  [
    lambda labels, rng: motion_labels.draw_wrapping(
      labels, 5, size=7, max_speed=3, rng=rng
    ),
    lambda labels, rng: motion_labels.draw_bouncing(
      labels, 4, room=4, max_speed=3, most=3, rng=rng
    ),
    lambda labels, rng: motion_labels.draw_events(labels % 2, 7, rng=rng),
  ],
  ids=["wrapping", "bouncing", "events"],
)
def test_the_first_draws_stay_when_more_are_drawn(draw_fn):
  labels = np.arange(13) % 4
  few, many = (
    draw_fn(labels[:number], np.random.default_rng(1)) for number in (5, 13)
  )
  np.testing.assert_array_equal(few, many[:5])
