"""Prepares a data set once: `python -m mmjax.data.prepare easy_vqa`.

Experiments do the same by themselves at first use. It may be run again, be
killed, or run twice at once: what is finished is kept, what is not is redone.
"""

import argparse
import contextlib
import io
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from mmjax import locks
from mmjax.data import packages


def load_builder(make_builder: Callable[..., Any], cache: pathlib.Path) -> Any:
  """Returns a TFDS builder with its data, prepared or not, under `cache`.

  Raises:
    PackageError: what was prepared cannot be read.
  """
  folder = cache / "datasets"
  try:
    return make_builder(data_dir=folder, file_format="array_record")
  except Exception as error:
    raise packages.PackageError(
      f"the data set {make_builder.name} in {folder} is damaged ({error}); "
      f"delete {folder / make_builder.name} and prepare it again"
    ) from error


def is_prepared(builder: Any) -> bool:
  """Returns whether a builder's data are complete on this machine.

  TFDS moves the finished folder into place as a whole. Its own answer to this
  question warns when the folder is not there.
  """
  return (builder.data_path / "dataset_info.json").exists()


def build_dataset(
  make_builder: Callable[..., Any],
  package: packages.DataPackage | None = None,
  *,
  manual_dir: str | os.PathLike[str] | None = None,
) -> Any:
  """Returns a TFDS builder whose data set is prepared, preparing it if needed.

  Args:
    make_builder: a TFDS builder class; it is given the folder of the package
      as its `manual_dir`.
    package: the package that the data set is made from; None if it is
      generated.
    manual_dir: a folder of the user with the package's archive in it.

  Raises:
    PackageError: the package cannot be had or trusted.
  """
  import tensorflow_datasets as tfds

  cache = packages.cache_dir()
  builder = load_builder(make_builder, cache)
  if is_prepared(builder):
    return builder
  name = builder.info.full_name
  lock = locks.FileLock(
    cache / "locks" / f"{builder.name}.lock",
    wait=True,
    purpose=f"preparing the data set {name}",
  )
  with lock:
    builder = load_builder(make_builder, cache)
    if is_prepared(builder):
      return builder
    start = time.monotonic()
    origin = "generated" if package is None else f"from the {package}"
    _say(f"preparing the data set {name}, once, {origin} ...")
    # What a killed process left; nobody else works on it under this lock.
    for leftover in builder.data_path.parent.glob("incomplete.*"):
      shutil.rmtree(leftover)
    folder = None
    if package is not None:
      folder = packages.locate_package(package, manual_dir=manual_dir)
    if not sys.stderr.isatty():
      tfds.disable_progress_bar()
    # TFDS writes its messages to standard output, which belongs to results;
    # its progress bars go to standard error.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare(
        download_dir=cache / "downloads",
        download_config=tfds.download.DownloadConfig(manual_dir=folder),
      )
    seconds = time.monotonic() - start
    _say(f"prepared {name} in {seconds:.1f} s in {builder.data_dir}")
  return builder


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  from mmjax.data.av_digits import AvDigits
  from mmjax.data.digit_motion import DigitMotion
  from mmjax.data.easy_vqa import EasyVqa
  from mmjax.data.emoji_clips import EmojiClips
  from mmjax.data.moving_digits import MovingDigits
  from mmjax.data.sort_of_clevr import SortOfClevr
  from mmjax.data.stamps import Stamps

  datasets = {
    "av_digits": AvDigits,
    "digit_motion": DigitMotion,
    "easy_vqa": EasyVqa,
    "emoji_clips": EmojiClips,
    "moving_digits": MovingDigits,
    "sort_of_clevr": SortOfClevr,
    "stamps": Stamps,
  }
  parser = argparse.ArgumentParser(
    prog="python -m mmjax.data.prepare",
    description="Prepares a data set once; experiments do so at first use.",
    epilog="Everything is kept in the folder MMJAX_CACHE of the environment, "
    "else in the user's cache.",
  )
  parser.add_argument(
    "name", nargs="?", choices=sorted(datasets), help="the data set"
  )
  parser.add_argument(
    "--list", action="store_true", help="list the data sets and exit"
  )
  parser.add_argument(
    "--manual-dir",
    metavar="DIR",
    help="take the package's file from DIR instead of the registry",
  )
  options = parser.parse_args(argv)
  if options.list:
    for name, dataset in datasets.items():
      print(f"{name}: {dataset.__doc__.splitlines()[0]}")
    return 0
  if options.name is None:
    parser.error("the name of a data set is missing; --list shows them")
  dataset = datasets[options.name]
  settings = {}
  if options.manual_dir is not None:
    settings["manual_dir"] = options.manual_dir
    if "manual_dir" not in dataset.__dataclass_fields__:
      parser.error(f"{options.name} is generated; leave --manual-dir out")
  try:
    dataset(**settings).prepare()
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(f"{options.name} is ready in {packages.cache_dir() / 'datasets'}")
  return 0


def _say(message: str) -> None:
  print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
  sys.exit(main())
