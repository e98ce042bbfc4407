"""Compares methods on the same data: all seeds, one table, one picture.

  python -m experiments.compare pid --methods all --seeds 5 --workdir runs/pid

Cells that are done are kept: the same command run again, with more methods or
seeds, trains only what is missing. Writes table.md, table.csv and table.json of
all that the work directory holds, after each cell, and plot.svg at the end, and
prints the table.
"""

import argparse
import pathlib

from experiments import cli


def main() -> int:
  """Parses the flags and compares."""
  parser = argparse.ArgumentParser(
    prog="python -m experiments.compare",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("comparison", nargs="?", help="its name, see --list")
  parser.add_argument("--list", action="store_true", help="list and exit")
  parser.add_argument("--workdir", help="where cells and tables are kept")
  parser.add_argument(
    "--methods", default="all", help="names with commas between; default: all"
  )
  parser.add_argument(
    "--settings", default="all", help="names with commas between; default: all"
  )
  parser.add_argument(
    "--seeds", type=int, default=5, help="seeds of each cell; default: 5"
  )
  parser.add_argument(
    "--map",
    action=argparse.BooleanOptionalAction,
    default=None,
    help="train all seeds of a cell at once, or in a row; default: whichever "
    "is faster for the model on this kind of device",
  )
  cli.add_set_flag(parser)
  args = parser.parse_args()
  from experiments.comparisons import COMPARISONS

  if args.list:
    for name, comparison in COMPARISONS.items():
      print(f"{name}  {comparison.claim}")
      print(f"  methods: {', '.join(comparison.methods)}")
      print(f"  settings: {', '.join(comparison.settings)}")
    return 0
  if args.comparison is None:
    parser.error("name a comparison; --list shows them")
  if args.workdir is None:
    parser.error("--workdir is needed: where the results are kept")
  if args.seeds < 1:
    parser.error(f"--seeds is {args.seeds}; it must be at least 1")
  _compare(args, COMPARISONS)
  return 0


def _compare(args: argparse.Namespace, comparisons: dict) -> None:
  from mmjax import config as config_lib
  from mmjax.comparison.cells import load_cells
  from mmjax.comparison.running import run_comparison
  from mmjax.comparison.summary import summarize
  from mmjax.comparison.tables import write_tables
  from mmjax.locks import FileLock
  from mmjax.report.comparison import write_plot
  from mmjax.training.progress import make_progress

  def choose(kind: str, text: str, known: list[str]) -> list[str]:
    names = known if text == "all" else [n.strip() for n in text.split(",")]
    names = [name for name in names if name]
    if not names:
      raise config_lib.ConfigError(
        f"--{kind}s is empty; name one or more of {', '.join(known)}"
      )
    for name in names:
      if name not in known:
        raise config_lib.unknown_name(kind, name, known)
    return [name for name in known if name in names]

  if args.comparison not in comparisons:
    raise config_lib.unknown_name("comparison", args.comparison, comparisons)
  comparison = comparisons[args.comparison]
  methods = choose("method", args.methods, list(comparison.methods))
  settings = choose("setting", args.settings, list(comparison.settings))
  workdir = pathlib.Path(args.workdir)
  purpose = f"comparing in {workdir}"
  with (
    FileLock(workdir / "lock", wait=False, purpose=purpose),
    make_progress() as progress,
  ):
    done = run_comparison(
      comparison,
      workdir,
      progress,
      methods=methods,
      settings=settings,
      num_seeds=args.seeds,
      overrides=args.overrides,
      mapped=args.map,
    )
    for _ in done:
      paths = write_tables(comparison, load_cells(comparison, workdir), workdir)
    entries = summarize(comparison, load_cells(comparison, workdir))
    paths.append(write_plot(comparison, entries, workdir / "plot.svg"))
    for path in paths:
      progress.message(f"written: {path}")
  print(paths[0].read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
  cli.run_main(main)
