"""Unpacks archives that might be hostile: nothing is written outside.

Only plain files and folders below the target are written, with the user's own
default permissions. A name that is absolute or climbs with `..`, a link, a
device: the whole archive is refused before its first file is written.
"""

import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable

_ZIP_SUFFIXES = (".whl", ".zip")
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


class ArchiveError(ValueError):
  """An archive that was refused; the message names the member."""


def unpack(
  archive: str | os.PathLike[str],
  target: str | os.PathLike[str],
  *,
  name: str | None = None,
) -> None:
  """Unpacks `archive` into the new folder `target`.

  Args:
    archive: a zip file or wheel, a tar file, or a Debian package (which
      needs the program dpkg-deb).
    target: the folder to create.
    name: decides the format by its suffix, by default the archive's own name.

  Raises:
    ArchiveError: a member would leave `target` or is neither a file nor a
      folder, or the archive is damaged or of an unknown format.
  """
  archive, target = pathlib.Path(archive), pathlib.Path(target)
  name = archive.name if name is None else name
  target.mkdir(parents=True)
  try:
    if name.endswith(_ZIP_SUFFIXES):
      _unpack_zip(archive, target)
    elif name.endswith(_TAR_SUFFIXES):
      _unpack_tar(archive, target)
    elif name.endswith(".deb"):
      _unpack_deb(archive, target)
    else:
      raise ArchiveError(f"{name} is no wheel, zip, tar or deb file")
  except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
    raise ArchiveError(f"{name} is damaged ({error})") from error


def _unpack_zip(archive: pathlib.Path, target: pathlib.Path) -> None:
  with zipfile.ZipFile(archive) as file:
    members = file.infolist()
    for member in members:
      # The upper half of the attributes is the Unix mode, or 0 if unknown.
      kind = stat.S_IFMT(member.external_attr >> 16)
      _check_member(member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
    for member in members:
      if member.is_dir():
        (target / member.filename).mkdir(parents=True, exist_ok=True)
      else:
        with file.open(member) as source:
          _write(target / member.filename, source)


def _unpack_tar(archive: pathlib.Path, target: pathlib.Path) -> None:
  with tarfile.open(archive) as file:
    members = file.getmembers()
    for member in members:
      _check_member(member.name, member.isreg() or member.isdir())
    for member in members:
      if member.isdir():
        (target / member.name).mkdir(parents=True, exist_ok=True)
      else:
        _write(target / member.name, file.extractfile(member))


def _unpack_deb(archive: pathlib.Path, target: pathlib.Path) -> None:
  command = ["dpkg-deb", "-x", str(archive), str(target)]
  try:
    subprocess.run(command, check=True, capture_output=True, text=True)
  except FileNotFoundError:
    raise ArchiveError(
      "it needs the program dpkg-deb, which is not installed"
    ) from None
  except subprocess.CalledProcessError as error:
    raise ArchiveError(f"dpkg-deb said {error.stderr.strip()}") from error
  _check_links(target.rglob("*"), target.resolve())


def _check_links(paths: Iterable[pathlib.Path], root: pathlib.Path) -> None:
  """Refuses links that leave `root`; Debian packages link inside it a lot."""
  for path in paths:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
      raise ArchiveError(f"its member {path.name!r} is a link to the outside")


def _check_member(name: str, is_plain: bool) -> None:
  if not is_plain:
    raise ArchiveError(f"its member {name!r} is neither a file nor a folder")
  # A Windows path knows drives, and both kinds of slashes.
  path = pathlib.PureWindowsPath(name)
  if path.anchor or ".." in path.parts or "\0" in name:
    raise ArchiveError(f"its member {name!r} would be written to the outside")


def _write(path: pathlib.Path, source) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, "wb") as file:
    shutil.copyfileobj(source, file)
