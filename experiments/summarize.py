"""Sums up evaluated runs: one table row an experiment, over its seeds.

  python -m experiments.summarize runs/*
  python -m experiments.summarize runs/* --also accuracy_by_type

Reads what `train` and `evaluate` left in each work directory. Runs that differ
in nothing but the seed make one row; where settings differ from the first run
of the same experiment, the row names them. Runs without scores are left out and
named, with exit code 1. Accuracy is the mean over runs with
Student's 95 % interval; minutes are those of training, compilation and
evaluations included, the mean over runs. `--also` adds any score that
`evaluate` has written, `parameters` among them; one column for each type, say,
of a score by type.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import cli


def main() -> int:
  """Parses the flags and prints the table."""
  parser = argparse.ArgumentParser(
    prog="python -m experiments.summarize",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("workdir", nargs="+", help="work directories of runs")
  parser.add_argument("--split", default="test", help="default: test")
  parser.add_argument(
    "--also",
    action="append",
    default=[],
    metavar="SCORE",
    help="show another score of the evaluation, such as accuracy_by_type "
    "(repeatable)",
  )
  cli.add_trust_flag(parser)
  args = parser.parse_args()
  runs, code = [], 0
  for path in args.workdir:
    try:
      runs.append(_read_run(pathlib.Path(path), args.split, args.trust))
    except (RuntimeError, ValueError) as error:
      print(f"left out: {error}", file=sys.stderr)
      code = 1
  groups = _group(runs)
  more = _list_scores(runs, args.also)
  heads = [
    *("experiment", "runs", f"{args.split} accuracy", "of each run", "minutes"),
    *more,
  ]
  print(f"| {' | '.join(heads)} |")
  print("|---" * len(heads) + "|")
  for name, group in groups.items():
    cells = [
      _tell_mean([run.find(path) for run in group], path=path) for path in more
    ]
    print(" | ".join([_make_row(name, group), *cells]) + " |")
  return code


@dataclasses.dataclass(frozen=True)
class _Run:
  """What the table needs of a run: `config` is its configuration."""

  workdir: pathlib.Path
  config: Any
  scores: Mapping[str, Any]
  minutes: float

  @property
  def accuracy(self) -> float:
    """The score that every run has."""
    return self.scores["accuracy"]

  def find(self, path: str) -> float | None:
    """Returns a score, `name` or `name: part`, or None if there is none."""
    name, _, part = path.partition(": ")
    found = self.scores.get(name)
    return (found or {}).get(part) if part else found


def _list_scores(runs: Sequence[_Run], names: Sequence[str]) -> list[str]:
  """Lists the columns of scores, one for each part of a score with parts.

  Raises:
    ValueError: no run has such a score, or it is no number.
  """
  columns: dict[str, None] = {}
  for name in names:
    values = [run.scores[name] for run in runs if name in run.scores]
    if not values:
      known = sorted({name for run in runs for name in run.scores})
      raise ValueError(
        f"no run has a score {name!r}; there are {', '.join(known)}"
      )
    for value in values:
      parts = value if isinstance(value, dict) else {"": value}
      for part, number in parts.items():
        if not isinstance(number, int | float | None):
          raise ValueError(f"the score {name!r} is no number; name another one")
        columns[f"{name}: {part}" if part else name] = None
  return list(columns)


def _group(runs: Sequence[_Run]) -> dict[str, list[_Run]]:
  """Groups runs of equal settings, under names that tell them apart.

  Raises:
    ValueError: two runs of a group have the same seed.
  """
  from mmjax import config as config_lib
  from mmjax.experiment import RESUMABLE_SETTINGS

  groups: dict[str, list[_Run]] = {}
  first: dict[str, _Run] = {}
  for run in runs:
    base = first.setdefault(run.config.name, run)
    changes = config_lib.difference(
      base.config, run.config, ignore=("seed", *RESUMABLE_SETTINGS)
    )
    name = "; ".join([run.config.name, *changes])
    group = groups.setdefault(name, [])
    for other in group:
      if other.config.seed == run.config.seed:
        raise ValueError(
          f"{other.workdir} and {run.workdir} are runs of the same seed, "
          f"{run.config.seed}; leave one of them out"
        )
    group.append(run)
  return groups


def _read_run(workdir: pathlib.Path, split: str, trust: Sequence[str]) -> _Run:
  """Returns settings, accuracy and minutes of training of one run."""
  from mmjax import config as config_lib
  from mmjax.checkpoint import Checkpoints
  from mmjax.training.writers import read_events, total_seconds
  from mmjax.workdir import CHECKPOINTS_DIR, EVALUATIONS_DIR, METRICS_FILE

  with Checkpoints(workdir / CHECKPOINTS_DIR) as checkpoints:
    best = checkpoints.best_step()
    config = config_lib.load(checkpoints.load_config(), trust=trust)
  scores = workdir / EVALUATIONS_DIR / f"{split}-{best}.json"
  events = read_events(workdir / METRICS_FILE)
  if not scores.exists() or not events:
    raise ValueError(
      f"{workdir} has no scores of its best step on {split!r}; make them with "
      f"python -m experiments.evaluate --workdir {workdir} --split {split}"
    )
  read = json.loads(scores.read_text(encoding="utf-8"))
  return _Run(workdir, config, read, total_seconds(events) / 60)


def _make_row(name: str, group: Sequence[_Run]) -> str:
  """Makes one line of the table, without its end."""
  accuracies = [run.accuracy for run in group]
  each = ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)
  minutes = statistics.mean(run.minutes for run in group)
  return (
    f"| {name} | {len(group)} | {_tell_mean(accuracies, 2)} % | {each} | "
    f"{minutes:.1f}"
  )


def _tell_mean(
  values: Sequence[float | None], digits: int = 1, path: str = ""
) -> str:
  """Writes the mean with its interval in percent, if all values are there.

  What is above 1 is no share, nor is a `distance`, and is written as it is; a
  count that all runs have alike, such as `parameters`, without an interval.
  """
  from mmjax.report.intervals import student_t

  if any(value is None for value in values):
    return ""
  if isinstance(values[0], int) and len(set(values)) == 1 and values[0] > 1:
    return f"{values[0]:,}"
  is_share = max(values) <= 1 and not path.endswith("distance")
  scale, digits = (100, digits) if is_share else (1, digits + 1)
  interval = student_t([float(value) for value in values])
  text = f"{scale * interval.estimate:.{digits}f}"
  if len(values) > 1:  # one run says nothing of its spread
    half = scale * (interval.high - interval.low) / 2
    text += f" ± {half:.{digits}f}"
  return text


if __name__ == "__main__":
  cli.run_main(main)
