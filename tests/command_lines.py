"""What the tests of the command lines share."""

import contextlib

import easy_vqa as easy_vqa_package
import tiny_runs

IMAGE = f"{easy_vqa_package.__path__[0]}/data/test/images/0.png"
QUESTION = "what is the blue shape?"


@contextlib.contextmanager
def nothing_changes(folder):
  before = tiny_runs.hash_files(folder)
  assert before
  yield
  assert tiny_runs.hash_files(folder) == before


def error_of(capsys, main, *arguments, code=1):
  """Runs a script that has to fail; returns its one sentence."""
  capsys.readouterr()
  assert tiny_runs.run_main(main, *arguments) == code
  captured = capsys.readouterr()
  assert captured.out == ""
  *before, message = captured.err.splitlines()
  assert message.startswith("error: ")
  assert not any("error" in line.lower() for line in before)
  assert "Traceback" not in captured.err
  return message


def predict_flags(workdir, image=IMAGE, text=QUESTION):
  return ["--workdir", workdir, "--image", image, "--text", text]
