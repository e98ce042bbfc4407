"""The documentation is true: its code runs, its commands and links exist."""

import importlib.util
import itertools
import json
import pathlib
import re
import shlex
import textwrap

import pytest

from experiments.comparisons import COMPARISONS
from experiments.configs import EXPERIMENTS
from mmjax import config as config_lib
from mmjax.data.digit_motion import DigitMotion

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [
  ROOT / "README.md",
  ROOT / "CONTRIBUTING.md",
  ROOT / "experiments" / "README.md",
  *PAGES,
]


def read_blocks(path, language):
  """The fenced blocks of a language: (number of the first line, text)."""
  text = path.read_text(encoding="utf-8")
  pattern = rf"^```{language}\n(.*?)^```$"
  return [
    (text[: match.start(1)].count("\n") + 1, match[1])
    for match in re.finditer(pattern, text, re.DOTALL | re.MULTILINE)
  ]


def run_blocks(path):
  """Runs the Python blocks of a page in order, in one namespace."""
  namespace = {"__name__": path.stem}
  for line, code in read_blocks(path, "python"):
    # Blank lines in front, so that a traceback names the line of the page.
    exec(compile("\n" * (line - 1) + code, str(path), "exec"), namespace)


def read_commands(path):
  """The shell commands of a page, as lists of words, joined by `&&` or not."""
  commands = []
  for _, block in read_blocks(path, "bash"):
    lines = block.replace("\\\n", " ").splitlines()
    for command in itertools.chain.from_iterable(map(unroll, lines)):
      words = shlex.split(command, comments=True)
      while words:
        end = words.index("&&") if "&&" in words else len(words)
        commands.append(words[:end])
        words = words[end + 1 :]
  return commands


def unroll(line):
  """All turns of a loop on one line, and of loops in it; else the line."""
  loop = re.fullmatch(r"for (\w+) in ([^;]+); do (.*); done", line)
  if loop is None:
    return [line]
  name, values, body = loop.groups()
  turns = [re.sub(rf"\${name}\b", value, body) for value in values.split()]
  return [command for turn in turns for command in unroll(turn)]


def name_of(path):
  return path.relative_to(ROOT).as_posix()


def test_the_reader_finds_blocks_and_commands(tmp_path):
  page = tmp_path / "page.md"
  page.write_text(
    "# x\n\n```bash\na b \\\n  'c d' && e  # note\n```\n\n"
    "```python\nx = 1\n```\n\n"
    "```bash\nfor k in 3 4; do f $k --set g=$k; done\n"
    "for m in x y; do for k in 5 6; do h_$m $m-$k $kk; done; done\n```\n"
  )
  commands = [
    *(["a", "b", "c d"], ["e"]),
    *(["f", "3", "--set", "g=3"], ["f", "4", "--set", "g=4"]),
    *(["h_x", "x-5", "$kk"], ["h_x", "x-6", "$kk"]),
    *(["h_y", "y-5", "$kk"], ["h_y", "y-6", "$kk"]),
  ]
  assert read_commands(page) == commands
  assert read_blocks(page, "python") == [(9, "x = 1\n")]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_code_of_the_documentation_runs(path, easy_vqa, tmp_path, monkeypatch):
  del easy_vqa  # prepared once for all pages
  monkeypatch.chdir(tmp_path)
  run_blocks(path)


def read_inner_blocks(path):
  """The Python blocks inside of lists."""
  pattern = r"^  ```python\n(.*?)^  ```$"
  found = re.findall(pattern, path.read_text("utf-8"), re.DOTALL | re.M)
  return [textwrap.dedent(block) for block in found]


def test_the_ceilings_of_the_results_are_what_their_code_gives(
  easy_vqa, capsys
):
  del easy_vqa
  path = ROOT / "experiments" / "README.md"
  prior, best, _ = read_inner_blocks(path)
  assert prior.count("assert score") == 2
  exec(prior, {})
  exec(best.replace(", 300_000)", ")"), {})  # the large one takes long
  printed = capsys.readouterr().out.splitlines()
  told = re.findall(
    r"the\s+best\s+rule[^%]*?(\d\d\.\d ± \d\.\d)", path.read_text("utf-8")
  )
  assert told == ["74.1 ± 0.8", "75.0 ± 0.4"]
  for num_rows, value in zip(("12000", "60000"), told, strict=True):
    assert f"{num_rows} synergy {value}" in printed


def test_orders_are_counted_by_where_the_events_are(
  digit_items, tmp_path, monkeypatch, capsys
):
  del digit_items  # prepared once for all tests
  *_, code = read_inner_blocks(ROOT / "experiments" / "README.md")
  data = DigitMotion(
    target="order", num_clips=10_000, num_frames=8, max_speed=2
  )
  clips = data.list_examples("test").values()
  folder = tmp_path / "runs" / "motion" / "cells" / "order" / "some"
  folder.mkdir(parents=True)
  right = "".join(str(int(abs(c["flash"] - c["blink"]) == 3)) for c in clips)
  (folder / "seed-0.json").write_text(json.dumps({"right": right}))
  monkeypatch.chdir(tmp_path)
  exec(code, {})
  printed = capsys.readouterr().out
  share = float(re.search(r"'in different halves': '([\d.]+)'", printed)[1])
  assert abs(share - 100 * 3 / 16) < 5  # three of 16 pairs are three apart
  assert "'the same half, at most two frames apart': '0.0'" in printed
  assert "'the same half, three frames apart': '100.0'" in printed


def test_every_result_has_its_command():
  commands = read_commands(ROOT / "experiments" / "README.md")
  trained = {words[3] for words in commands if "experiments.train" in words}
  assert trained == set(EXPERIMENTS)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_commands_name_what_exists(path):
  for words in read_commands(path):
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
      words = words[1:]  # JAX_NUM_CPU_DEVICES=2 python ...
    if words[:2] != ["python", "-m"]:
      continue
    module = words[2]
    assert importlib.util.find_spec(module) is not None, module
    if len(words) < 4 or words[3].startswith("-"):
      continue
    overrides = [
      words[i + 1] for i, word in enumerate(words) if word == "--set"
    ]
    if module == "experiments.train":
      config_lib.build_config(EXPERIMENTS[words[3]], overrides)
    if module == "experiments.compare":
      configure_all(COMPARISONS[words[3]], words, overrides)


def configure_all(comparison, words, overrides):
  """Configures the methods and settings that a command names."""

  def named(flag, known):
    text = words[words.index(flag) + 1] if flag in words else "all"
    return list(known) if text == "all" else text.split(",")

  for setting in named("--settings", comparison.settings):
    assert setting in comparison.settings
    for method in named("--methods", comparison.methods):
      comparison.configure(setting, method, 0, overrides)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_lead_somewhere(path):
  text = re.sub(
    r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE
  )
  targets = re.findall(r"\]\(([^)]+)\)", text)
  broken = [
    target
    for target in targets
    if not re.match(r"https?://|#", target)
    and not (path.parent / target.partition("#")[0]).exists()
  ]
  assert broken == []


def test_the_reference_has_a_page_for_every_part():
  pages = "\n".join(
    path.read_text(encoding="utf-8") for path in ROOT.glob("docs/api/*.md")
  )
  shown = {
    folder
    for folders in re.findall(r"<!-- modules: (.*?) -->", pages)
    for folder in folders.split()
  }
  parts = {
    path.parent.relative_to(ROOT / "mmjax").as_posix()
    for path in ROOT.glob("mmjax/**/*.py")
  }
  assert shown == parts
