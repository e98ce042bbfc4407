import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mmjax.data import packages, prepare
from mmjax.data.builders import easy_vqa as builder

COMMAND = [sys.executable, "-W", "error", "-m", "mmjax.data.prepare"]


def start(cache):
  return subprocess.Popen(
    [*COMMAND, "easy_vqa"],
    env=os.environ | {"MMJAX_CACHE": str(cache)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def prepared(cache):
  return sorted(path.name for path in (cache / "datasets/easy_vqa").iterdir())


def test_killed_prepare_can_be_rerun(tmp_path):
  process = start(tmp_path)
  folder = tmp_path / "datasets" / "easy_vqa"
  deadline = time.monotonic() + 120
  while not list(folder.glob("incomplete.*/*")):  # records are being written
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.002)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert prepared(tmp_path) != ["1.0.0"]
  again = start(tmp_path)
  out, err = again.communicate(timeout=300)
  assert again.returncode == 0, err
  assert "is ready" in out
  assert prepared(tmp_path) == ["1.0.0"]


def test_concurrent_prepares_make_one_data_set(tmp_path):
  processes = [start(tmp_path) for _ in range(2)]
  results = [process.communicate(timeout=300) for process in processes]
  assert [process.returncode for process in processes] == [0, 0], results
  assert prepared(tmp_path) == ["1.0.0"]
  # One of them prepared, the other waited for it.
  assert sum("prepared easy_vqa" in err for _, err in results) == 1


@pytest.mark.parametrize(
  ("name", "folders"),
  [
    ("easy_vqa", ["easy_vqa"]),
    ("av_digits", ["written_digits", "spoken_digits"]),
    ("moving_digits", ["written_digits", "spoken_digits"]),
  ],
)
def test_finished_data_are_left_alone(
  easy_vqa, digit_items, cache, capfd, name, folders
):
  infos = [
    cache / "datasets" / folder / "1.0.0" / "dataset_info.json"
    for folder in folders
  ]
  before = [info.stat().st_mtime_ns for info in infos]
  capfd.readouterr()
  assert prepare.main([name]) == 0
  assert [info.stat().st_mtime_ns for info in infos] == before
  captured = capfd.readouterr()
  assert "preparing" not in captured.err
  assert f"{name} is ready" in captured.out


def test_list_and_help_and_mistakes(capsys, tmp_path, monkeypatch):
  monkeypatch.setenv("MMJAX_CACHE", str(tmp_path / "cache"))
  assert prepare.main(["--list"]) == 0
  listed = capsys.readouterr().out
  for line in ("easy_vqa: Questions", "av_digits: A wr", "digit_motion: A wr"):
    assert line in listed
  with pytest.raises(SystemExit) as helped:
    prepare.main(["--help"])
  assert helped.value.code == 0
  assert "MMJAX_CACHE" in capsys.readouterr().out
  for arguments in ([], ["easy_vqz"]):
    with pytest.raises(SystemExit) as failed:
      prepare.main(arguments)
    assert failed.value.code == 2
  capsys.readouterr()
  assert prepare.main(["easy_vqa", "--manual-dir", str(tmp_path)]) == 1
  err = capsys.readouterr().err
  assert "error: there is no easy_vqa-1.0-py3-none-any.whl" in err
  assert "Traceback" not in err


def test_damaged_facts_of_a_data_set_are_named(easy_vqa, cache, tmp_path):
  del easy_vqa
  copy = tmp_path / "datasets"
  shutil.copytree(cache / "datasets", copy)
  (path,) = copy.glob("easy_vqa/*/dataset_info.json")
  path.write_text("{")
  with pytest.raises(packages.PackageError, match=r"easy_vqa in .* is damaged"):
    prepare.load_builder(builder.EasyVqaBuilder, tmp_path)
