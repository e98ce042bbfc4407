"""The results of a comparison as tables: Markdown, CSV and JSON.

Accuracies are in percent with Student's 95 % interval over the seeds. A star
marks a method that differs from the baseline on that setting: paired t-test
over the seeds, p < 0.05 after Holm's correction for all methods of the
setting.
"""

import csv
import dataclasses
import io
import json
import math
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.comparison.cells import CellResult, Comparison
from mmjax.comparison.summary import (
  LEVEL,
  Entry,
  Gain,
  find_gains,
  summarize,
)
from mmjax.report.intervals import Interval


def make_markdown(
  comparison: Comparison, entries: Sequence[Entry], gains: Sequence[Gain] = ()
) -> str:
  """Makes the table of all methods by settings, and that of missing parts.

  Cells that were not run are empty.

  Args:
    comparison: what was compared.
    entries: see `summarize`, at least one.
    gains: see `find_gains`.

  Returns:
    Markdown; what is published stands in brackets.
  """
  settings = list(dict.fromkeys(entry.cell.setting for entry in entries))
  present = {entry.cell.method for entry in entries}
  methods = [method for method in comparison.methods if method in present]
  found = {(e.cell.setting, e.cell.method): e for e in entries}
  head = ["method", *settings, "parameters", "FLOPs", "seconds"]
  lines = _row(head) + _row(["---"] * len(head))
  for method in methods:
    row = [found.get((setting, method)) for setting in settings]
    done = [entry for entry in row if entry is not None]
    seconds = statistics.fmean(entry.seconds for entry in done)
    lines += _row(
      [
        f"{method} (baseline)" if method == comparison.baseline else method,
        *("" if entry is None else _show(entry) for entry in row),
        f"{done[0].cell.parameters:,}",
        f"{done[0].cell.flops:,}",
        f"{seconds:.1f}",
      ]
    )
  if comparison.ceilings:
    known = [comparison.ceilings.get(setting) for setting in settings]
    shown = ["" if c is None else f"{100 * c:.1f}" for c in known]
    lines += _row(["ceiling, all modalities", *shown, "", "", ""])
  numbers = sorted({len(entry.cell.seeds) for entry in entries})
  seeds = " to ".join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))
  spread = f"mean ± 95 % interval over {seeds} seeds"
  if numbers[-1] == 1:
    spread = "of one seed, so without an interval"
  text = "".join(lines)
  text += (
    f"\nAccuracy on the test split in percent, {spread}. FLOPs are those of "
    "the forward pass of one example, seconds those of training one seed."
  )
  if any(entry.p_value is not None and entry.differs for entry in entries):
    text += (
      " * differs from the baseline, paired t-test over the seeds, "
      f"p < {LEVEL} after Holm's correction."
    )
  if comparison.published:
    text += f" In brackets: published, {comparison.source}."
  told = [*map(_tell, gains), *_tell_changes(entries)]
  text += "\n" + "".join(f"\n- {sentence}\n" for sentence in told)
  return text + _missing_table(settings, methods, found)


def make_csv(cells: Sequence[CellResult]) -> str:
  """Makes one line a seed, with all that is known of it."""
  names = sorted(
    {m for cell in cells for seed in cell.seeds for m in seed.accuracy_without}
  )
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator="\n")
  fields = ["setting", "method", "seed", "accuracy"]
  fields += [f"accuracy_without_{name}" for name in names]
  fields += ["validation_accuracy", "best_step", "seconds", "parameters"]
  writer.writerow([*fields, "flops", "mapped", "origin"])
  for cell in cells:
    for seed in cell.seeds:
      writer.writerow(
        [
          cell.setting,
          cell.method,
          seed.seed,
          seed.accuracy,
          *(seed.accuracy_without.get(name, "") for name in names),
          seed.validation_accuracy,
          seed.best_step,
          round(seed.seconds, 3),
          cell.parameters,
          cell.flops,
          seed.mapped,
          seed.origin,
        ]
      )
  return buffer.getvalue()


def make_json(
  comparison: Comparison, entries: Sequence[Entry], gains: Sequence[Gain] = ()
) -> str:
  """Makes one object of all that the other two tables say."""
  rows = [
    {
      **dataclasses.asdict(entry.cell),
      "accuracy": _interval(entry.accuracy),
      "accuracy_without": {m: _interval(i) for m, i in entry.without.items()},
      "p_value": _finite(entry.p_value),
      "published": entry.published,
      "ceiling": comparison.ceilings.get(entry.cell.setting),
      "seconds": entry.seconds,
    }
    for entry in entries
  ]
  for row in rows:
    for seed in row["seeds"]:
      del seed["right"]  # a thousand digits; the cell's files have them
  value = {
    "comparison": comparison.name,
    "baseline": comparison.baseline,
    "cells": rows,
    "gains": [
      {**dataclasses.asdict(gain), "difference": _interval(gain.difference)}
      for gain in gains
    ],
  }
  return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_tables(
  comparison: Comparison,
  cells: Sequence[CellResult],
  folder: str | os.PathLike[str],
) -> list[pathlib.Path]:
  """Writes `table.md`, `table.csv` and `table.json`; returns their paths."""
  entries = summarize(comparison, cells)
  gains = find_gains(comparison, cells)
  texts = {
    "table.md": make_markdown(comparison, entries, gains),
    "table.csv": make_csv(cells),
    "table.json": make_json(comparison, entries, gains),
  }
  paths = []
  for name, text in texts.items():
    path = pathlib.Path(folder) / name
    path.write_text(text, encoding="utf-8")
    paths.append(path)
  return paths


def _missing_table(
  settings: Sequence[str],
  methods: Sequence[str],
  found: Mapping[tuple[str, str], Entry],
) -> str:
  """Makes the table of accuracies with a modality missing at test time."""
  names = sorted({name for entry in found.values() for name in entry.without})
  if not names:
    return ""
  columns = [(setting, name) for setting in settings for name in names]
  head = ["method", *(f"{setting}, no {name}" for setting, name in columns)]
  lines = _row(head) + _row(["---"] * len(head))
  for method in methods:
    cells = [
      found[setting, method].without.get(name)
      if (setting, method) in found
      else None
      for setting, name in columns
    ]
    if any(cells):
      shown = ["" if cell is None else _percent(cell) for cell in cells]
      lines += _row([method, *shown])
  return "\nWith a modality missing at test time:\n\n" + "".join(lines)


def _show(entry: Entry) -> str:
  text = _percent(entry.accuracy) + ("*" if entry.differs else "")
  if entry.published is not None:
    text += f" ({100 * entry.published:.0f})"
  return text


def _tell(gain: Gain) -> str:
  """Says in one sentence what several modalities gain."""
  low, high = 100 * gain.difference.low, 100 * gain.difference.high
  interval = (
    "one seed: no interval"
    if math.isinf(low)
    else f"95 % interval for new seeds and test rows: {low:+.1f} to {high:+.1f}"
  )
  points = round(100 * gain.difference.estimate, 1) + 0.0  # no -0.0
  return (
    f"{gain.setting}: of the methods chosen on the validation split, "
    f"{gain.fused} is {points:+.1f} points from "
    f"{gain.single} on the test split ({interval})."
  )


def _tell_changes(entries: Sequence[Entry]) -> list[str]:
  """Says in one sentence each what was set otherwise, and for whom."""
  changed = {}
  for entry in entries:
    for change in entry.cell.changes:
      changed.setdefault(change, []).append(entry)
  return [
    f"Changed by hand: {change} ("
    + (
      "all cells"
      if len(found) == len(entries)
      else ", ".join(f"{e.cell.method} on {e.cell.setting}" for e in found)
    )
    + ")."
    for change, found in changed.items()
  ]


def _percent(interval: Interval) -> str:
  text = f"{100 * interval.estimate:.1f}"
  if math.isinf(interval.low):
    return text
  half_width = (interval.high - interval.low) / 2
  return f"{text} ± {100 * half_width:.1f}"


def _row(cells: Sequence[str]) -> list[str]:
  return ["| " + " | ".join(cells) + " |\n"]


def _interval(interval: Interval) -> dict[str, Any]:
  return {
    "mean": interval.estimate,
    "low": _finite(interval.low),
    "high": _finite(interval.high),
  }


def _finite(value: float | None) -> float | None:
  return value if value is not None and math.isfinite(value) else None
