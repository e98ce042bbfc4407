"""The benchmark of a Relation Network's chunks runs and compares gradients."""

from benchmarks import relation_network


def test_every_way_has_a_row():
  table = relation_network.measure(3, 2, 4, [1, 2], repeats=2)
  rows = [line.split(" | ")[0] for line in table.splitlines()[2:]]
  assert rows[:3] == ["| all at once", "| chunks of 1", "| chunks of 2"]
  assert all(line.count("|") == 5 for line in table.splitlines())
