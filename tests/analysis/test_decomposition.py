import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from mmjax.analysis.interior_point import minimum_information
from mmjax.analysis.pid import decompose, mutual_information

pytestmark = pytest.mark.usefixtures("fast_compilation")


def _from_states(states):
  """Equally likely (x1, x2, y), each of any hashable values, as [X1, X2, Y]."""
  names = [sorted({state[i] for state in states}) for i in range(3)]
  joint = np.zeros([len(each) for each in names])
  for state in states:
    joint[tuple(names[i].index(state[i]) for i in range(3))] += 1
  return joint / joint.sum()


BITS = list(itertools.product((0, 1), repeat=2))
XOR = _from_states([(a, b, a ^ b) for a, b in BITS])
AND = _from_states([(a, b, a & b) for a, b in BITS])
SOLVED = {
  "xor": (XOR, (0, 0, 0, 1)),
  "and": (AND, (0.311278, 0, 0, 0.5)),
  "copy": (_from_states([(a, a, a) for a in (0, 1)]), (1, 0, 0, 0)),
  "unique_1": (_from_states([(a, b, a) for a, b in BITS]), (0, 1, 0, 0)),
  "unique_2": (_from_states([(a, b, b) for a, b in BITS]), (0, 0, 1, 0)),
  "two_bits": (_from_states([(a, b, (a, b)) for a, b in BITS]), (0, 1, 1, 0)),
  "nothing": (np.full((2, 2, 2), 1 / 8), (0, 0, 0, 0)),
  "no_label": (np.full((2, 3, 1), 1 / 6), (0, 0, 0, 0)),
  # A bit that both have, one that either has, and one in their parity.
  "all_four": (
    _from_states(
      [
        ((r, u, a), (r, v, b), (r, u, v, a ^ b))
        for r, u, v, a, b in itertools.product((0, 1), repeat=5)
      ]
    ),
    (1, 1, 1, 1),
  ),
}


def _parts(result):
  return np.array(
    [result.redundancy, result.unique_1, result.unique_2, result.synergy]
  )


def _draw(shape, seed, zeros=0.0):
  rng = np.random.default_rng(seed)
  joint = rng.gamma(0.5, size=shape) * (rng.random(shape) >= zeros)
  return joint / joint.sum()


def _least_by_slsqp(joint):
  """The minimum by a general solver that knows nothing of the problem."""
  shape, size = joint.shape, joint.size
  rows = [
    np.eye(size).reshape(size, *shape).sum(axis=axis).reshape(size, -1).T
    for axis in (2, 1)
  ]
  # Some follow from others, which SLSQP cannot bear: take a basis.
  _, sizes, basis = np.linalg.svd(np.concatenate(rows))
  constraints = basis[: (sizes > 1e-9).sum()]
  target = constraints @ joint.ravel()
  label = joint.sum(axis=(0, 1))

  def value_and_slope(q):
    q = q.reshape(shape)
    slope = np.log(q / q.sum(axis=2, keepdims=True))
    return (q * slope).sum(), slope.ravel()

  # It may stop short of the minimum, on one processor and not on another: of
  # several starts, all of which keep the constraints, the best is taken.
  apart = joint.sum(1)[:, None] * joint.sum(0) / label
  least = np.inf
  for share in (0.0, 0.25, 0.5, 0.75):
    solved = optimize.minimize(
      value_and_slope,
      ((1 - share) * apart + share * joint).ravel(),
      jac=True,
      method="SLSQP",
      bounds=[(1e-11, 1)] * size,
      constraints={
        "type": "eq",
        "fun": lambda q: constraints @ q - target,
        "jac": lambda q: constraints,
      },
      options={"maxiter": 500, "ftol": 1e-12},
    )
    if np.abs(constraints @ solved.x - target).max() < 1e-7:
      least = min(least, solved.fun)
  return least - (label * np.log(label)).sum()


@pytest.mark.parametrize("name", SOLVED)
def test_known_decompositions(name):
  joint, expected = SOLVED[name]
  result = decompose(joint)
  np.testing.assert_allclose(_parts(result), expected, atol=2e-6)
  assert result.converged
  assert result.gap < 2e-6
  assert result.iterations < 40


@pytest.mark.parametrize(
  ("shape", "seed"),
  [
    ((2, 2, 2), 0),
    ((2, 2, 2), 1),
    ((2, 2, 2), 2),
    ((3, 2, 3), 3),
    ((3, 2, 3), 4),
    ((5, 5, 2), 5),
    ((5, 5, 2), 6),
  ],
)
def test_random_decompositions_equal_a_general_solver(shape, seed):
  joint = _draw(shape, seed)
  result = decompose(joint, unit="nats")
  least = result.redundancy + result.unique_1 + result.unique_2
  assert result.converged
  np.testing.assert_allclose(least, _least_by_slsqp(joint), atol=2e-6)


@pytest.mark.parametrize("zeros", [0.0, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parts_add_up_to_the_informations(zeros, seed):
  joint = _draw((7, 5, 3), seed, zeros)
  result = decompose(joint, unit="nats")
  assert result.converged
  assert (_parts(result) >= 0).all()
  both = joint.reshape(-1, 3)
  for found, information in [
    (result.redundancy + result.unique_1, joint.sum(axis=1)),
    (result.redundancy + result.unique_2, joint.sum(axis=0)),
    (result.total, both),
  ]:
    # Here as a sum of entropies, -sum p log p.
    np.testing.assert_allclose(
      found,
      _entropy(information.sum(0))
      + _entropy(information.sum(1))
      - _entropy(information),
      atol=1e-12,
    )


def _entropy(joint):
  joint = joint[joint > 0]
  return -(joint * np.log(joint)).sum()


def test_mutual_information_by_hand():
  assert mutual_information(np.eye(4) / 4) == pytest.approx(np.log(4))
  assert mutual_information(np.outer([0.3, 0.7], [0.1, 0.9])) == pytest.approx(
    0, abs=1e-15
  )


def test_exchange_of_the_variables_exchanges_what_is_unique():
  joint = _draw((5, 5, 2), 11)
  parts = _parts(decompose(joint))
  swapped = _parts(decompose(joint.transpose(1, 0, 2)))
  np.testing.assert_allclose(parts, swapped[[0, 2, 1, 3]], atol=2e-6)


def test_names_and_order_of_values_mean_nothing():
  joint = _draw((5, 5, 2), 12)
  order = np.random.default_rng(0).permutation(5)
  np.testing.assert_allclose(
    _parts(decompose(joint)),
    _parts(decompose(joint[order][:, order[::-1], ::-1])),
    atol=2e-6,
  )


def test_values_that_never_occur_change_nothing():
  padded = np.pad(AND, ((0, 1), (1, 0), (0, 2)))
  assert decompose(padded) == decompose(AND)


def test_units():
  bits, nats = decompose(AND), decompose(AND, unit="nats")
  np.testing.assert_allclose(_parts(bits) * np.log(2), _parts(nats))
  assert (bits.unit, nats.unit) == ("bits", "nats")


def test_a_search_that_is_stopped_says_how_far_it_may_be_off():
  joint = _draw((5, 5, 2), 5)
  exact, early = decompose(joint), decompose(joint, max_iterations=2)
  assert exact.converged
  assert not early.converged
  assert early.iterations == 2
  error = early.redundancy - exact.redundancy
  assert 1e-4 < abs(error) <= early.gap
  np.testing.assert_allclose(early.total, exact.total, rtol=1e-12)


def test_float64_stays_inside():
  decompose(XOR)
  assert jnp.ones(1).dtype == jnp.float32


def test_float32_reaches_three_digits():
  joint = jnp.asarray(_draw((5, 5, 2), 6), jnp.float32)
  least, _, _ = jax.jit(minimum_information)(joint, 1e-4)
  assert least.dtype == jnp.float32
  result = decompose(joint, unit="nats")
  np.testing.assert_allclose(least, result.total - result.synergy, atol=1e-3)


def test_a_result_is_a_record():
  record = dataclasses.asdict(decompose(XOR))
  assert record["synergy"] == pytest.approx(1)
  assert record["unit"] == "bits"


@pytest.mark.parametrize(
  ("joint", "match"),
  [
    (np.full((2, 2), 0.25), r"\[X1, X2, Y\], got \(2, 2\)"),
    (np.zeros((0, 2, 2)), r"got \(0, 2, 2\)"),
    (2 * XOR, "a sum of 2"),
    (XOR - 0.25 * AND, "divide counts by their sum"),
    (np.where(XOR > 0, np.nan, 0), "a sum of nan"),
  ],
)
def test_what_is_no_distribution(joint, match):
  with pytest.raises(ValueError, match=match):
    decompose(joint)


def test_unknown_unit():
  with pytest.raises(ValueError, match="must be 'bits' or 'nats'"):
    decompose(XOR, unit="ban")


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_sparse_counts_of_two_views_of_one_thing(noise):
  rng = np.random.default_rng(0)
  common, first, second, rest = rng.normal(size=(4, 8000))
  ranks = [
    np.argsort(np.argsort(common + noise * own)) * 10 // 8000
    for own in (first, second)
  ]
  joint = np.zeros((10, 10, 2))
  np.add.at(joint, (*ranks, (common + rest > 0).astype(int)), 1 / 8000)
  result = decompose(joint)
  assert result.converged
  assert result.iterations < 30
  assert result.redundancy > 0.9 * (result.total - result.synergy)
