"""Tables of comparisons, from cells whose numbers are chosen."""

import csv
import dataclasses
import io
import json

import pytest
from scipy import stats

from mmjax.comparison.cells import CellResult, Comparison
from mmjax.comparison.seeds import SeedResult
from mmjax.comparison.summary import find_gains, summarize
from mmjax.comparison.tables import (
  make_csv,
  make_json,
  make_markdown,
  write_tables,
)
from mmjax.report.comparison import plot_comparison, write_plot


def make_cell(setting, method, scores, without=None, first=0):
  """Seeds `first`, `first` + 1, ... of these scores, on 100 test rows."""
  seeds = [
    SeedResult(
      seed=seed,
      accuracy=score,
      accuracy_without={} if without is None else {"audio": without[seed]},
      validation_accuracy=score,
      best_step=10 + seed,
      seconds=2.0 + seed,
      right=("1" * round(100 * score)).ljust(100, "0"),
      mapped=True,
      origin="somewhere",
    )
    for seed, score in enumerate(scores, start=first)
  ]
  return CellResult(setting, method, 1234, 5678, tuple(seeds))


COMPARISON = Comparison(
  name="toy",
  claim="nothing",
  methods={"plain": None, "better": None, "same": None},
  settings=("easy", "hard"),
  baseline="plain",
  single=("plain", "same"),
  ceilings={"hard": 0.75},
  published={"better": {"easy": 0.9}},
  source="somebody",
)
CELLS = [
  make_cell("easy", "plain", [0.50, 0.52, 0.54]),
  make_cell("easy", "better", [0.80, 0.81, 0.85], without=[0.3, 0.4, 0.5]),
  make_cell("easy", "same", [0.51, 0.52, 0.53]),
  make_cell("hard", "plain", [0.60, 0.60, 0.60]),
  make_cell("hard", "better", [0.61, 0.55, 0.66], without=[0.2, 0.2, 0.2]),
  make_cell("hard", "same", [0.60, 0.60, 0.60]),
]


def find(entries, setting, method):
  (entry,) = [
    e for e in entries if (e.cell.setting, e.cell.method) == (setting, method)
  ]
  return entry


def test_means_intervals_and_tests_by_hand():
  entries = summarize(COMPARISON, CELLS)
  easy = find(entries, "easy", "better")
  assert easy.accuracy.estimate == pytest.approx(0.82)
  half_width = 4.302653 * 0.0264575 / 3**0.5  # t of 2 degrees, deviation
  assert easy.accuracy.high - 0.82 == pytest.approx(half_width, abs=1e-6)
  assert easy.without["audio"].estimate == pytest.approx(0.4)
  assert easy.published == 0.9
  assert easy.seconds == 3.0
  p = stats.ttest_rel([0.80, 0.81, 0.85], [0.50, 0.52, 0.54]).pvalue
  # Two methods are held against the baseline: the smaller p counts twice.
  assert easy.p_value == pytest.approx(2 * p)
  assert easy.differs
  assert find(entries, "easy", "plain").p_value is None
  assert find(entries, "hard", "same").p_value == 1.0
  assert not find(entries, "hard", "better").differs


def test_without_the_baseline_nothing_is_tested():
  cells = [cell for cell in CELLS if cell.method != "plain"]
  entries = summarize(COMPARISON, cells)
  assert not any(entry.differs for entry in entries)
  data = json.loads(make_json(COMPARISON, entries))
  assert all(cell["p_value"] is None for cell in data["cells"])


def test_markdown():
  text = make_markdown(COMPARISON, summarize(COMPARISON, CELLS))
  lines = text.splitlines()
  assert lines[0].startswith("| method | easy | hard | parameters | FLOPs")
  assert lines[2].startswith("| plain (baseline) | 52.0 ± 5.0 | 60.0 ± 0.0 |")
  assert lines[3].startswith("| better | 82.0 ± 6.6* (90) | 60.7 ± 13.7 |")
  assert lines[3].endswith("| 1,234 | 5,678 | 3.0 |")
  assert lines[5] == "| ceiling, all modalities |  | 75.0 |  |  |  |"
  assert "published, somebody" in text
  assert "over 3 seeds" in text
  missing = text.partition("missing at test time")[2]
  assert "| better | 40.0 ± 24.8 | 20.0 ± 0.0 |" in missing
  assert "plain" not in missing


def test_cells_that_were_not_run_are_empty():
  cells = [CELLS[1], make_cell("hard", "plain", [0.6, 0.7])]
  text = make_markdown(COMPARISON, summarize(COMPARISON, cells))
  lines = text.splitlines()
  # In the order of the comparison, not of the cells.
  assert lines[2].startswith("| plain (baseline) |  | 65.0 ± 63.5 | 1,234")
  assert lines[3].startswith("| better | 82.0 ± 6.6 (90) |  | 1,234")
  assert "over 2 to 3 seeds" in text
  assert "| better | 40.0 ± 24.8 |  |" in text


def test_only_common_seeds_are_paired():
  """Seeds 1 and 2 of one, 0 to 2 of the other."""
  base = make_cell("easy", "plain", [0.50, 0.52, 0.54])
  other = make_cell("easy", "better", [0.60, 0.68], first=1)
  entry = find(summarize(COMPARISON, [base, other]), "easy", "better")
  p = stats.ttest_rel([0.60, 0.68], [0.52, 0.54]).pvalue
  assert entry.p_value == pytest.approx(p)


def test_the_gain_over_one_modality():
  (easy, hard) = find_gains(COMPARISON, CELLS)
  # The single method with the better validation: plain 52, same 52, the first.
  assert (easy.fused, easy.single) == ("better", "plain")
  assert easy.difference.estimate == pytest.approx(0.30)
  assert 0.2 < easy.difference.low < 0.3 < easy.difference.high < 0.4
  assert hard.difference.estimate == pytest.approx(0.0067, abs=1e-4)
  assert hard.difference.low < 0 < hard.difference.high
  text = make_markdown(COMPARISON, summarize(COMPARISON, CELLS), [easy])
  assert "better is +30.0 points from plain on the test split" in text
  data = json.loads(make_json(COMPARISON, [], [easy]))
  assert data["gains"][0]["difference"]["mean"] == pytest.approx(0.30)
  assert find_gains(COMPARISON, CELLS[:1]) == []


def test_the_gain_chooses_on_validation():
  """The better one on the test split has the worse validation."""
  lucky = make_cell("easy", "better", [0.9, 0.9])
  seeds = [
    dataclasses.replace(seed, validation_accuracy=0.1) for seed in lucky.seeds
  ]
  comparison = dataclasses.replace(COMPARISON, single=("plain",))
  cells = [
    make_cell("easy", "plain", [0.5, 0.5]),
    dataclasses.replace(lucky, seeds=tuple(seeds)),
    make_cell("easy", "same", [0.6, 0.6]),
  ]
  (gain,) = find_gains(comparison, cells)
  assert gain.fused == "same"
  assert gain.difference.estimate == pytest.approx(0.1)


def test_one_seed_has_no_interval():
  cells = [make_cell("easy", "plain", [0.5]), make_cell("easy", "same", [0.6])]
  entries = summarize(COMPARISON, cells)
  text = make_markdown(COMPARISON, entries)
  assert "| 60.0 |" in text
  assert (
    "right"
    not in json.loads(make_json(COMPARISON, entries))["cells"][0]["seeds"][0]
  )


def test_csv_has_a_line_a_seed():
  rows = list(csv.DictReader(io.StringIO(make_csv(CELLS))))
  assert len(rows) == 18
  assert rows[4]["method"] == "better"
  assert float(rows[4]["accuracy_without_audio"]) == 0.4
  assert rows[0]["accuracy_without_audio"] == ""


def test_everything_is_written(tmp_path):
  paths = write_tables(COMPARISON, CELLS, tmp_path)
  assert [path.name for path in paths] == [
    "table.md",
    "table.csv",
    "table.json",
  ]
  entries = summarize(COMPARISON, CELLS)
  picture = write_plot(COMPARISON, entries, tmp_path / "plot.svg")
  svg = picture.read_text(encoding="utf-8")
  assert svg.count("better") >= 1
  panels = plot_comparison(COMPARISON, entries).axes
  assert [axes.get_title("left") for axes in panels] == ["easy", "hard"]


def test_a_baseline_or_single_one_that_is_no_method():
  with pytest.raises(ValueError, match="'none', named as baseline or single"):
    Comparison("toy", "", {"plain": None}, ("easy",), "none")
  with pytest.raises(ValueError, match="'blind', named as baseline or single"):
    Comparison("toy", "", {"plain": None}, ("easy",), "plain", ("blind",))
