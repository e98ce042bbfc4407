"""Fixtures that several test files share."""

import os
import shutil

import pytest

# Compiling takes most of the time of the tests, and optimising most of that.
# Set before JAX is imported; 0 in the environment has all programs optimised.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
  """A cache folder of this test run: the user's own is never touched."""
  folder = tmp_path_factory.mktemp("cache")
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
