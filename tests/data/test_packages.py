import dataclasses
import hashlib
import io
import sys
import zipfile

import pytest

from mmjax.data import packages


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv("MMJAX_CACHE", str(tmp_path / "cache"))


def make_wheel(content=b"some data"):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w") as file:
    file.writestr(zipfile.ZipInfo("toy/data/file.txt"), content)
  return buffer.getvalue()


WHEEL = make_wheel()
TOY = packages.DataPackage(
  registry="pip",
  name="mmjax-toy-data",
  version="1.2",
  sha256=hashlib.sha256(WHEEL).hexdigest(),
  filename="toy-1.2-py3-none-any.whl",
  content="toy/data",
)


def stored(tmp_path):
  folder = tmp_path / "cache" / "packages"
  return sorted(folder.iterdir()) if folder.exists() else []


def use_client(monkeypatch, tmp_path, name, body):
  """Puts a shell script in the place of a registry's client."""
  script = tmp_path / "bin" / name
  script.parent.mkdir(exist_ok=True)
  script.write_text(f"#!/bin/sh\n{body}\n")
  script.chmod(0o755)
  monkeypatch.setenv("PATH", str(script.parent), prepend=":")
  if name == "pip":
    monkeypatch.setattr(sys, "executable", str(script))


def test_cache_is_where_the_environment_says(tmp_path, monkeypatch):
  assert packages.cache_dir() == tmp_path / "cache"
  monkeypatch.setenv("MMJAX_CACHE", "~/somewhere")
  assert packages.cache_dir().is_absolute()
  monkeypatch.delenv("MMJAX_CACHE")
  assert packages.cache_dir().name == "mmjax"


def test_manual_file_is_verified_unpacked_and_kept(tmp_path):
  (tmp_path / TOY.filename).write_bytes(WHEEL)
  found = packages.locate_package(TOY, manual_dir=tmp_path)
  assert (found / "file.txt").read_bytes() == b"some data"
  (tmp_path / TOY.filename).unlink()
  assert packages.locate_package(TOY, manual_dir=tmp_path) == found
  assert len(stored(tmp_path)) == 1


def test_wrong_digest_is_refused_and_leaves_nothing(tmp_path):
  wrong = make_wheel(b"other data")
  (tmp_path / TOY.filename).write_bytes(wrong)
  with pytest.raises(packages.PackageError) as refused:
    packages.locate_package(TOY, manual_dir=tmp_path)
  assert TOY.sha256 in str(refused.value)
  assert hashlib.sha256(wrong).hexdigest() in str(refused.value)
  assert stored(tmp_path) == []


def test_missing_manual_file_is_named(tmp_path):
  with pytest.raises(packages.PackageError, match=TOY.filename):
    packages.locate_package(TOY, manual_dir=tmp_path)
  assert stored(tmp_path) == []


def test_hostile_archive_leaves_nothing(tmp_path):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w") as file:
    file.writestr("toy/data/file.txt", "good")
    file.writestr("../../../evil", "evil")
  (tmp_path / TOY.filename).write_bytes(buffer.getvalue())
  hostile = dataclasses.replace(
    TOY, sha256=hashlib.sha256(buffer.getvalue()).hexdigest()
  )
  with pytest.raises(packages.PackageError, match="evil"):
    packages.locate_package(hostile, manual_dir=tmp_path)
  assert stored(tmp_path) == []
  assert not list(tmp_path.rglob("evil"))


def test_content_digest_is_checked_and_a_damaged_copy_replaced(tmp_path):
  (tmp_path / TOY.filename).write_bytes(WHEEL)
  line = f"{hashlib.sha256(b'some data').hexdigest()}  file.txt\n"
  digest = hashlib.sha256(line.encode()).hexdigest()
  package = dataclasses.replace(TOY, content_sha256=digest)
  found = packages.locate_package(package, manual_dir=tmp_path)
  assert packages.digest_tree(found) == digest
  (found / "file.txt").write_text("damaged")
  assert packages.locate_package(package, manual_dir=tmp_path) == found
  assert (found / "file.txt").read_bytes() == b"some data"
  wrong = dataclasses.replace(package, content_sha256="0" * 64)
  with pytest.raises(packages.PackageError, match=f"{digest}.*{'0' * 64}"):
    packages.locate_package(wrong, manual_dir=tmp_path)
  assert len(stored(tmp_path)) == 1


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
  (tmp_path / TOY.filename).write_bytes(WHEEL)
  packages.locate_package(TOY, manual_dir=tmp_path)
  (target,) = stored(tmp_path)
  target.rename(target.with_name(f".incomplete-{target.name}-abc"))
  other = target.with_name(".incomplete-other")
  other.mkdir()
  packages.locate_package(TOY, manual_dir=tmp_path)
  assert stored(tmp_path) == sorted([target, other])


def test_tree_digest_sees_names_and_contents_but_no_hidden_files(tmp_path):
  (tmp_path / "a").write_text("1")
  first = packages.digest_tree(tmp_path)
  (tmp_path / ".DS_Store").write_text("x")
  (tmp_path / "__pycache__").mkdir()
  (tmp_path / "__pycache__" / "m.pyc").write_text("x")
  assert packages.digest_tree(tmp_path) == first
  (tmp_path / "a").write_text("2")
  second = packages.digest_tree(tmp_path)
  (tmp_path / "a").rename(tmp_path / "b")
  assert len({first, second, packages.digest_tree(tmp_path)}) == 3


def test_installed_package_is_used_only_if_its_content_is_pinned(
  tmp_path, monkeypatch, capsys
):
  site = tmp_path / "site"
  (site / "toy" / "data").mkdir(parents=True)
  (site / "toy" / "data" / "file.txt").write_bytes(b"some data")
  info = site / "mmjax_toy_data-1.2.dist-info"
  info.mkdir()
  (info / "METADATA").write_text("Name: mmjax-toy-data\nVersion: 1.2\n")
  monkeypatch.syspath_prepend(site)
  use_client(monkeypatch, tmp_path, "pip", "echo no network >&2; exit 1")
  digest = packages.digest_tree(site / "toy" / "data")
  pinned = dataclasses.replace(TOY, content_sha256=digest)
  assert packages.locate_package(pinned) == site / "toy" / "data"
  newer = dataclasses.replace(pinned, version="1.3")
  altered = dataclasses.replace(pinned, content_sha256="0" * 64)
  for package, reason in [
    (TOY, ""),
    (newer, "has version 1.2"),
    (altered, "was changed"),
  ]:
    with pytest.raises(packages.PackageError, match="no network"):
      packages.locate_package(package)
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
  ("registry", "client"), [("pip", "pip"), ("npm", "npm"), ("apt", "apt-get")]
)
def test_client_fetches_by_name_and_version(
  tmp_path, monkeypatch, registry, client
):
  (tmp_path / "wheel").write_bytes(WHEEL)
  use_client(
    monkeypatch,
    tmp_path,
    client,
    f'echo "$@" > {tmp_path}/arguments; cat requirements.txt '
    f">> {tmp_path}/arguments 2> /dev/null; cp {tmp_path}/wheel {TOY.filename}",
  )
  package = dataclasses.replace(TOY, registry=registry)
  found = packages.locate_package(package)
  assert (found / "file.txt").read_bytes() == b"some data"
  arguments = (tmp_path / "arguments").read_text()
  name = {"pip": "{}=={}", "npm": "{}@{}", "apt": "{}={}"}[registry]
  assert name.format(TOY.name, TOY.version) in arguments
  if registry == "pip":
    assert f"--hash=sha256:{TOY.sha256}" in arguments
    assert "--no-deps" in arguments


def test_failing_or_missing_client_gives_one_sentence(tmp_path, monkeypatch):
  use_client(monkeypatch, tmp_path, "npm", "echo offline >&2; exit 1")
  with pytest.raises(packages.PackageError) as failed:
    packages.locate_package(dataclasses.replace(TOY, registry="npm"))
  monkeypatch.setenv("PATH", str(tmp_path))
  with pytest.raises(packages.PackageError) as missing:
    packages.locate_package(dataclasses.replace(TOY, registry="npm"))
  with pytest.raises(packages.PackageError, match="pip, npm and apt"):
    packages.locate_package(dataclasses.replace(TOY, registry="cpan"))
  assert "offline" in str(failed.value)
  assert "npm, which is not installed" in str(missing.value)
  for error in (failed, missing):
    for part in (TOY.name, TOY.version, TOY.filename, "manual_dir"):
      assert part in str(error.value)
    assert "\n" not in str(error.value)
  assert stored(tmp_path) == []
