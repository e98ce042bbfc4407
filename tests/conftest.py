"""Fixtures that several test files share."""

import os

import pytest


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
