"""The rules of the house, kept by reading the source instead of trusting it.

Who may import whom, which file alone may know a library, how long a file is,
and that importing the package costs nothing.
"""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE_FILES = sorted(ROOT.glob("mmjax/**/*.py"))
SOURCE_FILES = PACKAGE_FILES + sorted(ROOT.glob("experiments/**/*.py"))
ALL_FILES = SOURCE_FILES + sorted(
  path
  for folder in ("tests", "docs", "benchmarks")
  for path in ROOT.glob(f"{folder}/**/*.py")
)

# A part of mmjax and the parts that it may import besides itself.
MODULES = {"array_types", "nn"}
ALLOWED = {
  "array_types": set(),
  "locks": set(),
  "workdir": set(),
  "nn": {"array_types"},
  "encoders": MODULES,
  "fusion": MODULES,
  "heads": MODULES,
  "models": MODULES | {"encoders", "fusion", "heads"},
  "losses": {"array_types"},
  "metrics": {"array_types"},
  "data": {"array_types", "locks"},
  "analysis": {"array_types"},
  "training": {"array_types", "workdir"},
}

# A library and the only places that may know it.
CONFINED = {
  "orbax": {"mmjax/checkpoint.py"},
  "tensorflow_datasets": {"mmjax/data"},
  "grain": {"mmjax/data"},
  "argparse": {"experiments", "mmjax/data/prepare.py"},
  "absl": {"experiments"},
  "matplotlib": {"mmjax/report"},
  "tensorflow": set(),
  "torch": set(),
}


def read_imports(source):
  """All that a module imports, as dotted names; functions included."""
  names = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, "imports are absolute"
      names += [f"{node.module}.{alias.name}" for alias in node.names]
  return names


def part_of(path):
  """`nn` for mmjax/nn/graph.py, `locks` for mmjax/locks.py."""
  return path.relative_to(ROOT / "mmjax").parts[0].removesuffix(".py")


def name_of(path):
  return path.relative_to(ROOT).as_posix()


def import_violations(part, source):
  """The parts of mmjax that a module of `part` imports without leave."""
  imported = {
    name.split(".")[1]
    for name in read_imports(source)
    if name.startswith("mmjax.")
  }
  return sorted(imported - ALLOWED[part] - {part})


def lies_in(name, places):
  return any(name == place or name.startswith(f"{place}/") for place in places)


def public_nodes(tree):
  """The module and its public classes, functions and methods."""
  yield tree, "module"
  waiting = [(tree, "")]
  while waiting:
    parent, prefix = waiting.pop()
    for node in parent.body:
      if not isinstance(node, ast.ClassDef | ast.FunctionDef):
        continue
      if node.name.startswith("_"):
        continue
      yield node, prefix + node.name
      if isinstance(node, ast.ClassDef):
        waiting.append((node, f"{prefix}{node.name}."))


def run_python(*arguments):
  return subprocess.run(
    [sys.executable, *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


def test_the_reader_sees_all_forms_of_import():
  source = """
import jax.numpy as jnp, os
from mmjax import locks
from mmjax.nn.attention import attend
def late():
  import orbax.checkpoint
"""
  assert set(read_imports(source)) == {
    "jax.numpy",
    "os",
    "mmjax.locks",
    "mmjax.nn.attention.attend",
    "orbax.checkpoint",
  }
  assert import_violations("encoders", source) == ["locks"]
  assert import_violations("nn", source) == ["locks"]
  assert import_violations("losses", source) == ["locks", "nn"]


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_a_part_imports_only_what_it_may(part):
  files = [path for path in PACKAGE_FILES if part_of(path) == part]
  assert files, f"mmjax/{part} is gone: correct ALLOWED"
  found = {
    name_of(path): wrong
    for path in files
    if (wrong := import_violations(part, path.read_text(encoding="utf-8")))
  }
  assert found == {}


def test_data_is_numpy():
  found = {
    name_of(path): names
    for path in PACKAGE_FILES
    if part_of(path) == "data"
    and (
      names := [
        name
        for name in read_imports(path.read_text(encoding="utf-8"))
        if name.partition(".")[0] in ("jax", "flax", "optax", "chex")
        or name.startswith("mmjax.array_types")
      ]
    )
  }
  assert found == {}


def test_the_package_never_imports_the_experiments():
  found = [
    name_of(path)
    for path in PACKAGE_FILES
    for name in read_imports(path.read_text(encoding="utf-8"))
    if name.partition(".")[0] == "experiments"
  ]
  assert found == []


@pytest.mark.parametrize("library", sorted(CONFINED))
def test_a_library_is_known_in_one_place(library):
  found = [
    name_of(path)
    for path in SOURCE_FILES
    for name in read_imports(path.read_text(encoding="utf-8"))
    if name.partition(".")[0] == library
    and not lies_in(name_of(path), CONFINED[library])
  ]
  assert found == []


def test_pmap_stands_in_one_file():
  found = set()
  for path in SOURCE_FILES:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if (isinstance(node, ast.Attribute) and node.attr == "pmap") or (
        isinstance(node, ast.ImportFrom)
        and any(alias.name == "pmap" for alias in node.names)
      ):
        found.add(name_of(path))
  assert found == {"mmjax/training/parallel.py"}


def test_files_are_short():
  long = {
    name_of(path): lines
    for path in ALL_FILES
    if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 350
  }
  assert long == {}


def test_no_file_is_a_drawer_for_everything():
  names = {path.stem for path in SOURCE_FILES}
  assert names.isdisjoint({"utils", "util", "misc", "common"})


def test_public_names_are_documented():
  bare = [
    f"{name_of(path)}: {name}"
    for path in SOURCE_FILES
    for node, name in public_nodes(ast.parse(path.read_text(encoding="utf-8")))
    if not ast.get_docstring(node)
  ]
  assert bare == []


def test_importing_mmjax_imports_nothing():
  code = (
    "import sys, mmjax; "
    "print(*sorted({'jax', 'numpy', 'flax', 'absl'} & set(sys.modules)))"
  )
  result = run_python("-c", code)
  assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_the_list_of_experiments_answers():
  result = run_python("-m", "experiments.train", "--list")
  assert result.returncode == 0, result.stderr
  names = [line.split()[0] for line in result.stdout.splitlines()]
  assert "easy_vqa_co_attention" in names


def test_listing_and_showing_load_neither_data_nor_checkpoint_libraries():
  code = """
import sys
from experiments import train
for flags in (["--list"], ["easy_vqa_graph", "--show"]):
  sys.argv = ["train", *flags]
  assert train.main() == 0
slow = {"tensorflow_datasets", "orbax.checkpoint", "matplotlib", "grain", "PIL"}
assert not slow & set(sys.modules), slow & set(sys.modules)
import jax
jax.config.update("jax_num_cpu_devices", 3)  # refused once a device is in use
"""
  result = run_python("-c", code)
  assert result.returncode == 0, result.stderr
  assert "training.num_steps = " in result.stdout
