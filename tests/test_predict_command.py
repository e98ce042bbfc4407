"""What `experiments.predict` answers, draws, converts and refuses."""

import json

import numpy as np
import pytest
import tiny_runs
from command_lines import IMAGE, error_of, nothing_changes, predict_flags
from PIL import Image

from experiments import predict
from mmjax.data.easy_vqa import EasyVqa

pytestmark = pytest.mark.usefixtures("easy_vqa", "fast_compilation")


def test_predict_answers_and_draws(capsys, workdir, tmp_path):
  where = tmp_path / "where.png"
  flags = [*predict_flags(workdir), "--attention", where]
  with nothing_changes(workdir):
    assert tiny_runs.run_main(predict.main, *flags) == 0
  captured = capsys.readouterr()
  answers = [line.split()[0] for line in captured.out.splitlines()]
  shares = [float(line.split()[1]) for line in captured.out.splitlines()]
  assert len(set(answers)) == 5
  assert shares == sorted(shares, reverse=True)
  assert 100 * 5 / 13 < sum(shares) <= 100.05
  assert "note" not in captured.err
  with Image.open(where) as image:
    assert image.format == "PNG"
    assert min(image.size) > 100
    assert len(set(np.asarray(image.convert("L")).ravel().tolist())) > 20


def test_an_unknown_word_is_answered_with_a_note(capsys, workdir):
  flags = predict_flags(workdir, text="what is the zebra shape?")
  assert tiny_runs.run_main(predict.main, *flags, "--json") == 0
  captured = capsys.readouterr()
  result = json.loads(captured.out.splitlines()[-1])
  assert len(result["answers"]) == 5
  (note,) = result["notes"]
  assert "'zebra'" in note
  assert f"note: {note}" in captured.err.splitlines()


@pytest.mark.parametrize(
  ("mode", "size", "ending"),
  [
    ("L", (64, 64), "png"),
    ("P", (31, 97), "gif"),
    ("RGBA", (200, 3), "png"),
    ("CMYK", (640, 480), "jpeg"),
    ("I;16", (17, 17), "png"),
    ("1", (1, 1), "png"),
  ],
)
def test_odd_pictures_are_converted(
  capsys, workdir, tmp_path, mode, size, ending
):
  path = tmp_path / f"picture.{ending}"
  Image.new(mode, size, 1).save(path)
  flags = predict_flags(workdir, image=path)
  assert tiny_runs.run_main(predict.main, *flags) == 0
  assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.parametrize("kind", ["missing", "text", "folder", "cut"])
def test_files_that_are_no_picture(capsys, workdir, tmp_path, kind):
  path = tmp_path / "picture.png"
  if kind == "text":
    path.write_text("a blue circle")
  elif kind == "folder":
    path.mkdir()
  elif kind == "cut":
    with open(IMAGE, "rb") as file:
      path.write_bytes(file.read()[:80])
  with nothing_changes(workdir):
    message = error_of(
      capsys, predict.main, *predict_flags(workdir, image=path)
    )
  assert str(path) in message
  assert "picture" in message.replace("picture.png", "")


def test_an_example_of_the_data_by_its_record_id(capsys, workdir):
  flags = ["--workdir", workdir, "--record", "test/0/0"]
  assert tiny_runs.run_main(predict.main, *flags, "--json") == 0
  answers = json.loads(capsys.readouterr().out.splitlines()[-1])["answers"]
  example = EasyVqa().list_examples("test")["test/0/0"]
  asked = predict_flags(workdir, text=example["text"])
  assert tiny_runs.run_main(predict.main, *asked, "--json") == 0
  same = json.loads(capsys.readouterr().out.splitlines()[-1])["answers"]
  assert answers == same
  message = error_of(
    capsys, predict.main, "--workdir", workdir, "--record", "x"
  )
  assert "test" in message


@pytest.mark.parametrize(
  "flags",
  [
    [],
    ["--image", "x.png"],
    ["--record", "test/0/0", "--text", "x"],
    ["--record", "test/0/0", "--clip", "x.gif"],
    ["--clip", "x.gif", "--image", "x.png", "--text", "x"],
  ],
)
def test_a_picture_and_a_question_or_a_clip_or_a_record(capsys, workdir, flags):
  assert tiny_runs.run_main(predict.main, "--workdir", workdir, *flags) == 2
  message = capsys.readouterr().err
  assert "--image and --text are needed, or --clip, or --record" in message


def test_a_clip_is_not_for_those_who_answer_questions(capsys, workdir):
  message = error_of(
    capsys, predict.main, "--workdir", workdir, "--clip", "x.gif"
  )
  assert "does not read clips alone" in message
  assert "--image and --text" in message


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_an_empty_question(capsys, workdir, text):
  message = error_of(capsys, predict.main, *predict_flags(workdir, text=text))
  assert "has no words" in message
  assert "ask for instance" in message


@pytest.mark.parametrize("name", ["folder", "where.xyz"])
def test_a_place_where_nothing_can_be_drawn(capsys, workdir, tmp_path, name):
  (tmp_path / "folder").mkdir()
  message = error_of(
    capsys,
    predict.main,
    *predict_flags(workdir),
    *("--attention", tmp_path / name),
  )
  assert str(tmp_path / name) in message


# --- defects keep their traceback
