"""Which examples a report shows."""

import numpy as np
import pytest

from mmjax.report.examples import (
  ExampleView,
  choose_examples,
  mark_differences,
)


def _choose(num_wrong, num_right, **options):
  correct = [False] * num_wrong + [True] * num_right
  count = num_wrong + num_right
  chosen = choose_examples(
    correct, [i % 3 for i in range(count)], list(range(count)), **options
  )
  assert len(set(chosen)) == len(chosen)
  return [correct[index] for index in chosen]


@pytest.mark.parametrize(
  ("num_wrong", "num_right", "wrong", "right"),
  [
    (100, 100, 12, 12),
    (5, 100, 5, 19),
    (0, 100, 0, 24),
    (100, 0, 24, 0),
    (100, 7, 17, 7),
    (2, 3, 2, 3),
    (0, 0, 0, 0),
  ],
)
def test_half_are_mistakes_if_there_are_so_many(
  num_wrong, num_right, wrong, right
):
  assert _choose(num_wrong, num_right) == [False] * wrong + [True] * right


def test_an_odd_count_is_filled():
  assert len(_choose(50, 50, count=7)) == 7


def test_groups_take_turns():
  groups = np.array([0] * 90 + [1] * 5 + [2] * 5)
  chosen = choose_examples([True] * 100, groups, np.arange(100), count=9)
  assert np.bincount(groups[chosen]).tolist() == [3, 3, 3]


def test_new_images_come_first():
  clusters = [index // 10 for index in range(60)]
  chosen = choose_examples([True] * 60, [0] * 60, clusters, count=6)
  assert sorted(clusters[index] for index in chosen) == [0, 1, 2, 3, 4, 5]


def test_an_image_of_a_mistake_is_not_new():
  correct = [False, True, True]
  assert choose_examples(correct, [0, 0, 0], [7, 7, 8], count=2) == [0, 2]


def test_the_seed_decides():
  arguments = ([True] * 50, [0] * 50, list(range(50)))
  first = choose_examples(*arguments, seed=1)
  assert first == choose_examples(*arguments, seed=1)
  assert first != choose_examples(*arguments, seed=2)


@pytest.mark.parametrize(
  ("answer", "correct"), [("red", True), ("blue", False), (None, None)]
)
def test_a_view_knows_whether_it_is_right(answer, correct):
  view = ExampleView(None, [], "?", answer, [("red", 0.9), ("blue", 0.1)])
  assert view.predicted == "red"
  assert view.correct is correct


def test_words_that_differ_are_marked_where_all_texts_are_as_long():
  red, blue = mark_differences(["a red, red box", "a blue, red box"])
  assert [word for word, differs in red if differs] == ["red,"]
  assert [word for word, differs in blue if differs] == ["blue,"]
  assert " ".join(word for word, _ in blue) == "a blue, red box"
  for words in mark_differences(["a box", "a red box"]):
    assert not any(differs for _, differs in words)
