"""What the experiment scripts share: flags, errors and the last line."""

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

OWN_PACKAGES = ("mmjax", "experiments", "__main__")


def add_config_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that choose and change an experiment."""
  parser.add_argument(
    "experiment", nargs="?", help="name of the experiment, see --list"
  )
  add_set_flag(parser)
  parser.add_argument(
    "--list", action="store_true", help="list the experiments and exit"
  )
  parser.add_argument(
    "--show", action="store_true", help="print the configuration and exit"
  )
  add_trust_flag(parser)


def add_set_flag(parser: argparse.ArgumentParser) -> None:
  """Adds the flag that changes settings."""
  parser.add_argument(
    "--set",
    action="append",
    default=[],
    metavar="PATH=VALUE",
    dest="overrides",
    help="change one setting, for instance training.num_steps=500 (repeatable)",
  )


def add_checkpoint_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that choose a checkpoint."""
  parser.add_argument("--workdir", help="a trained run")
  parser.add_argument(
    "--step", default="best", help="best (default), latest or a number"
  )
  add_set_flag(parser)
  parser.add_argument(
    "--list", action="store_true", help="list the experiments and exit"
  )
  parser.add_argument(
    "--show",
    action="store_true",
    help="print the checkpoint's configuration and exit",
  )
  add_trust_flag(parser)


def add_trust_flag(parser: argparse.ArgumentParser) -> None:
  """Adds the flag that admits packages of the user."""
  parser.add_argument(
    "--trust",
    action="append",
    default=[],
    metavar="PACKAGE",
    help="admit dataclasses of this package in the checkpoint's configuration",
  )


def build_config(
  parser: argparse.ArgumentParser, args: argparse.Namespace
) -> Any | None:
  """Builds the configuration that the flags describe.

  Returns:
    The configuration, or None when `--list` or `--show` has answered.
  """
  from experiments.configs import EXPERIMENTS
  from mmjax import config as config_lib

  if args.list:
    _list_experiments()
    return None
  if args.experiment is None:
    parser.error("name an experiment; --list shows them")
  if args.experiment not in EXPERIMENTS:
    raise config_lib.unknown_name("experiment", args.experiment, EXPERIMENTS)
  config = config_lib.build_config(EXPERIMENTS[args.experiment], args.overrides)
  if args.show:
    _show(config)
    return None
  return config


def has_answered(
  parser: argparse.ArgumentParser, args: argparse.Namespace
) -> bool:
  """Answers `--list` and `--show` of `add_checkpoint_flags`, if given.

  Returns:
    Whether it has; if not, there is a work directory to go on with.
  """
  if args.list:
    _list_experiments()
    return True
  if not args.workdir:
    parser.error("--workdir is needed: the directory of a trained run")
  if args.show:
    from mmjax.evaluation import load_trained

    trained = load_trained(
      args.workdir, args.step, trust=args.trust, overrides=args.overrides
    )
    _show(trained.config)
  return args.show


def _list_experiments() -> None:
  from experiments.configs import EXPERIMENTS

  width = max(map(len, EXPERIMENTS))
  for name, config_fn in EXPERIMENTS.items():
    claim = config_fn.func.__doc__.partition("\n")[0]
    print(f"{name:<{width}}  {claim}")


def _show(config: Any) -> None:
  from mmjax import config as config_lib

  for path, value in config_lib.flatten(config).items():
    print(f"{path} = {value!r}")


def score(
  workdir: str,
  *,
  step: str = "best",
  split: str = "test",
  report: bool,
  trust: Sequence[str] = (),
  overrides: Sequence[str] = (),
) -> None:
  """Scores a checkpoint, writes its report if asked to, prints the scores."""
  from mmjax.evaluation import evaluate

  evaluated = evaluate(
    workdir, step=step, split=split, trust=trust, overrides=overrides
  )
  if report:
    from mmjax.reporting import write_report
    from mmjax.training.progress import make_progress

    with make_progress() as progress, progress.phase("drawing the report"):
      path = write_report(workdir, evaluated)
    print(f"report: {path}", file=sys.stderr)
  print_json(evaluated.summary())


def print_json(value: Mapping[str, Any]) -> None:
  """Prints one line of JSON, which scripts read as the last line."""
  print(json.dumps(value, allow_nan=False), flush=True)


def run_main(main: Callable[[], int]) -> None:
  """Runs `main` and exits with its code.

  An error that mmjax raised on purpose is printed as its one sentence, on
  standard error, with exit code 1; so is what the system says of a file. Any
  other error is a defect, here or in the user's own modules, and keeps its
  traceback.
  """
  try:
    code = main()
  except KeyboardInterrupt:
    print(
      "interrupted; what was written is kept, and the same command goes on",
      file=sys.stderr,
    )
    _leave_at_once(128 + signal.SIGINT)
  except BrokenPipeError:  # the reader of our output, such as head, has left
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    code = 1
  except (OSError, RuntimeError, ValueError, FloatingPointError) as error:
    message = _explain(error)
    if message is None:
      raise
    print(f"error: {message}", file=sys.stderr)
    code = 1
  sys.exit(code)


def _leave_at_once(code: int) -> NoReturn:
  """Ends the process; Python's own way crashes under a running compilation."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _explain(error: Exception) -> str | None:
  """Returns what to tell of an error, None if it is a defect."""
  *_, (frame, _) = traceback.walk_tb(error.__traceback__)
  module = frame.f_globals.get("__name__", "")
  if module.partition(".")[0] in OWN_PACKAGES:
    return str(error).partition("\n\n")[0]  # Fiddle adds a paragraph
  if isinstance(error, OSError) and error.filename is not None:
    return (
      f"{error.strerror}: {error.filename}; check this path, its permissions "
      "and the free space"
    )
  return None
