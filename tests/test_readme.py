"""What the README promises: ten lines that make a model, and two commands."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def find_block(language, pattern):
  """The one fenced block of a language that holds the pattern."""
  blocks = re.findall(
    rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE
  )
  found = [block for block in blocks if re.search(pattern, block)]
  assert len(found) == 1
  return found[0]


def test_ten_lines_compose_a_model():
  code = find_block("python", "")
  statements = ast.parse(code).body
  imports = [
    node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)
  ]
  assert len(statements) - len(imports) == 10
  lines = code.splitlines()
  after_imports = lines[imports[-1].end_lineno :]
  assert len([line for line in after_imports if line.strip()]) == 10
  namespace = {}
  exec(compile(code, "README.md", "exec"), namespace)
  assert namespace["logits"].shape == (6, 13)
  assert namespace["logits"].dtype == "float32"


def test_the_two_commands_are_one_line_each():
  # `.ci/run` runs the second word for word, and finds it the same way.
  assert find_block("bash", "&& pytest$").count("\n") == 1
  first = find_block("bash", r"pip install -e \. && python")
  assert first.count("\n") == 1
  assert "easy_vqa_co_attention --workdir runs/easy_vqa" in first


def test_the_figure_names_existing_places():
  figure = find_block("text", "record")
  for place in re.findall(r"mmjax/\S+?(?=,|$|\s)", figure):
    assert (ROOT / place).exists(), place


def test_the_results_have_their_place():
  assert README.count("<!-- results -->") == 1
  assert README.index("<!-- results -->") < README.index("<!-- /results -->")


def test_the_version_has_an_entry_in_the_changelog():
  import mmjax

  changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
  assert f"## [{mmjax.__version__}]" in changelog
