"""Fixtures that several test files share."""

import importlib.metadata
import os
import shutil

import pytest


def compile_fast():
  """Has programs compiled in half the time, which is most of that of tests.

  Set before JAX is imported, and taken over by processes that are started.
  `JAX_DISABLE_MOST_OPTIMIZATIONS=0` in the environment has programs compiled
  as users have them.
  """
  wanted = os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
  if wanted.lower() not in ("1", "true", "yes", "on"):
    return
  # XLA ends a program that knows no flag of that name, so only those releases
  # get them in which they were tried.
  if importlib.metadata.version("jaxlib").startswith("0.10."):
    flags = (
      "--xla_cpu_use_fusion_emitters=false "
      "--xla_cpu_parallel_codegen_split_count=1"
    )
    before = os.environ.get("XLA_FLAGS", "")
    if flags not in before:
      os.environ["XLA_FLAGS"] = f"{before} {flags}".strip()


compile_fast()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
  """A cache folder of this test run: the user's own is never touched.

  Workers side by side have one: what one prepares the others wait for.
  """
  base = tmp_path_factory.getbasetemp()
  folder = (
    base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
  ) / "cache"
  folder.mkdir(exist_ok=True)
  before = os.environ.get("MMJAX_CACHE")
  os.environ["MMJAX_CACHE"] = str(folder)
  yield folder
  if before is None:
    del os.environ["MMJAX_CACHE"]
  else:
    os.environ["MMJAX_CACHE"] = before


@pytest.fixture(scope="session")
def easy_vqa(cache):
  """The prepared easy-VQA with default settings."""
  from mmjax.data.easy_vqa import EasyVqa

  data = EasyVqa()
  data.prepare()
  return data


@pytest.fixture(scope="session")
def easy_vqa_assets(easy_vqa):
  """What is fitted to the training split of easy-VQA."""
  return easy_vqa.load_assets()


@pytest.fixture(scope="session")
def sort_of_clevr(cache):
  """The prepared Sort-of-CLEVR with default settings."""
  from mmjax.data.sort_of_clevr import SortOfClevr

  data = SortOfClevr()
  data.prepare()
  return data


@pytest.fixture(scope="session")
def sort_of_clevr_assets(sort_of_clevr):
  """What is fitted to the training split of Sort-of-CLEVR."""
  return sort_of_clevr.load_assets()


@pytest.fixture(scope="session")
def digit_items(cache):
  """The prepared written and spoken digits, by split."""
  from mmjax.data import digits

  digits.prepare_items()
  return {
    split: (digits.load_written(split), digits.load_spoken(split))
    for split in digits.SPLITS
  }


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
  """A folder where tests leave compiled programs to each other."""
  return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def fast_compilation(compiled):
  """Compiles each program once in all tests that use this."""
  import tiny_runs

  with tiny_runs.fast_compilation(compiled):
    yield


@pytest.fixture(scope="session")
def trained(easy_vqa, compiled, tmp_path_factory):
  """The work directory of a tiny trained co-attention; not to be changed."""
  import tiny_runs

  from experiments import train

  workdir = tmp_path_factory.mktemp("trained") / "run"
  flags = tiny_runs.train_flags("easy_vqa_co_attention", workdir)
  with tiny_runs.fast_compilation(compiled):
    assert tiny_runs.run_main(train.main, *flags) == 0
  return workdir


@pytest.fixture
def workdir(trained, tmp_path):
  """A copy of the trained run, which has to survive what is done to it."""
  copy = tmp_path / "run"
  shutil.copytree(trained, copy)
  return copy
