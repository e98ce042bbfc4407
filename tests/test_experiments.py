"""Every experiment, shrunk in place, from its start to the answer.

The command lines run in this process, on the real data.
"""

import dataclasses
import json
import re
import shutil

import easy_vqa as easy_vqa_package
import fiddle as fdl
import numpy as np
import pytest
import tiny_runs
from command_lines import error_of
from PIL import Image

from experiments import evaluate, predict, train
from experiments.configs import ALL, EXPERIMENTS
from mmjax.checkpoint import Checkpoints
from mmjax.config import build_config, flatten
from mmjax.data.synthetic import scene_graph_vqa
from mmjax.data.synthetic import sort_of_clevr as scenes
from mmjax.evaluation import evaluate as evaluate_split
from mmjax.reporting import write_report
from mmjax.trainer import check_settings

pytestmark = pytest.mark.usefixtures(
  "easy_vqa", "sort_of_clevr", "fast_compilation"
)

# Name and changes of each run: every experiment as it is, and those that can be
# shown objects or pixels from pixels too.
RUNS = {name: (name, {}) for name in EXPERIMENTS}
RUNS |= {
  f"{name}-pixels": (name, {"shown": "image"})
  for name in EXPERIMENTS
  if name.startswith("sort_of_clevr")
}
# One for each path that a run can take: what is shown, and how it is learned.
# The others differ from these in a module; they are trained by `-m slow`.
TRAINED = (
  "easy_vqa_co_attention",
  "easy_vqa_graph",
  "easy_vqa_question_only",
  "easy_vqa_image_only",
  "sort_of_clevr_graph_reasoning",
  "sort_of_clevr_graph_once-pixels",
  "sort_of_clevr_hard_attention-pixels",
  "scene_matching_graph",
  "scene_graph_vqa_detected",
  "digit_motion_graph",
)
MAJORITY = 0.375  # of the validation split; question-only reaches 0.67


EDGES, STEPS, PAIRS = (
  "Strongest edges",
  "Steps of reasoning",
  "Pairs that add most",
)
# What the report draws as graphs; what is missing here has none.
GRAPH_TITLES = {
  "scene_graph_vqa_co_attention": {EDGES},
  "scene_graph_vqa_detected": {STEPS},
  "scene_graph_vqa_guided": {STEPS},
  "scene_graph_vqa_no_edges": {STEPS},
  "scene_graph_vqa_reasoning": {STEPS},
  "digit_motion_graph": {f"{EDGES} within video"},
  **{
    f"{data}_matching_{name}": {EDGES}
    for data in ("scene", "stamp")
    for name in ("attention", "graph", "phrases")
  },
  "scene_matching_pooled": {"Where it looked: region"},
  "easy_vqa_co_attention": {EDGES},
  "easy_vqa_graph": {EDGES},
  "sort_of_clevr_co_attention": {EDGES},
  "sort_of_clevr_graph": {EDGES},
  "sort_of_clevr_graph_once": {f"{EDGES} within objects"},
  "sort_of_clevr_graph_reasoning": {STEPS},
  "sort_of_clevr_hard_attention": {"Where it looked: objects"},
  "sort_of_clevr_relation_network": {PAIRS},
  "sort_of_clevr_soft_attention": {"Where it looked: objects"},
  "sort_of_clevr_co_attention-pixels": {EDGES},
  "sort_of_clevr_graph-pixels": {EDGES},
  "sort_of_clevr_graph_once-pixels": {f"{EDGES} within image"},
  "sort_of_clevr_graph_reasoning-pixels": {STEPS},
  "sort_of_clevr_relation_network-pixels": {PAIRS},
}


@dataclasses.dataclass(frozen=True)
class Known:
  """What is known of an experiment's data: its test split, and a question.

  Attributes:
    num_examples: of the test split.
    num_labels: answers there are.
    question: one that may be asked of `image`, or None if none is asked about
      a picture.
    image: path of a picture.
    changes: further settings of the tiny run.
    unit: what the report calls its examples.
  """

  num_examples: int
  num_labels: int
  question: str | None
  image: str
  changes: dict
  unit: str = "questions"


def look_up(name, shown, folder):
  """What is known of the data of an experiment, by what is shown of them."""
  if name.startswith("easy_vqa"):
    image = f"{easy_vqa_package.__path__[0]}/data/test/images/0.png"
    return Known(9_673, 13, "what is the blue shape?", image, {})
  image = folder / "scene.png"
  if name.startswith("scene"):
    small = {"data.num_scenes": 16, "data.num_eval_scenes": 10}
    if name.startswith("scene_matching"):
      changes = {**small, "evaluation.batch_size": 10}
      return Known(10, 2, None, str(image), changes, "captions")
    data = scene_graph_vqa.SceneGraphVqa(num_eval_scenes=10)
    Image.fromarray(data.load_image("test/0/0")).save(image)
    question = data.list_examples("test")["test/0/0"]["text"]
    changes = {**small, "evaluation.batch_size": 40}
    return Known(80, 10, question, str(image), changes)
  if name.startswith("digit"):
    small = {"data.num_clips": 40, "data.num_eval_clips": 16}
    changes = {**small, "evaluation.batch_size": 16}
    return Known(16, 8, None, str(image), changes, "clips")
  if name.startswith("stamp"):
    changes = {"evaluation.batch_size": 118, "data.image_size": 17}
    return Known(118, 2, None, str(image), changes, "captions")
  scene = scenes.draw_scene(scenes.make_rng(1, 0))
  Image.fromarray(scenes.render(scene)).save(image)
  # Objects can be read off pictures of the real size only; cells of pictures
  # have to be more than one behind all convolutions.
  size = 17 if shown == "image" else 75
  changes = {"data.image_size": size}
  question = "what is the shape of the blue object?"
  return Known(4_000, 10, question, str(image), changes)


def last_json(text):
  return json.loads(text.splitlines()[-1])


def steps_of(workdir):
  return Checkpoints(workdir / "checkpoints").steps()


def test_the_experiments_are_there():
  assert set(EXPERIMENTS) >= {
    "easy_vqa_concat",
    "easy_vqa_co_attention",
    "easy_vqa_graph",
    "easy_vqa_question_only",
    "easy_vqa_image_only",
    "sort_of_clevr_relation_network",
    "scene_matching_graph",
    "scene_graph_vqa_reasoning",
    "stamp_matching_graph",
  }
  assert len(EXPERIMENTS) == len(ALL)


# Those that tests/test_scene_experiments.py tries, on few scenes and no stamps.
APART = ("scene", "stamp")


@pytest.mark.parametrize(
  "run", [run for run in RUNS if not run.startswith(APART)]
)
def test_model_loss_and_metrics_fit_the_data(run):
  """At full size, in shapes only: the settings are those people start with."""
  name, changes = RUNS[run]
  overrides = [f"{path}={value}" for path, value in changes.items()]
  experiment = fdl.build(build_config(EXPERIMENTS[name], overrides))
  experiment.data.prepare()
  check_settings(experiment, experiment.data.load_assets())


@pytest.mark.parametrize(
  "name", [name for name in EXPERIMENTS if name.startswith("sort_of_clevr")]
)
def test_norms_from_pixels_are_the_published_ones(name):
  """Batch norm of the picture, which an instance norm would blind."""
  flat = flatten(build_config(EXPERIMENTS[name], ["shown=image"]))
  norms = {path: v for path, v in flat.items() if path.endswith(".norm")}
  assert norms.pop("model.head.norm", False) is False
  assert sorted(norms.values()) == ["batch", "batch"]


@pytest.mark.parametrize("method", ["mlp", "graph_once", "hard_attention"])
def test_what_is_shown_is_one_of_two(method, tmp_path, capsys):
  flags = [f"sort_of_clevr_{method}", "--workdir", tmp_path / "run"]
  message = error_of(capsys, train.main, *flags, "--set", "shown=pixels")
  assert message == (
    "error: shown is 'pixels'; it must be 'objects' or 'image'"
  )
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  "run",
  [
    pytest.param(run, marks=[] if run in TRAINED else pytest.mark.slow)
    for run in RUNS
  ],
)
def test_train_resume_evaluate_report_predict(run, tmp_path, capsys):
  workdir = tmp_path / "run"
  name, changes = RUNS[run]
  known = look_up(name, changes.get("shown"), tmp_path)
  changes = {**changes, **known.changes}
  flags = tiny_runs.train_flags(name, workdir, changes)
  config = tiny_runs.tiny_config(name, changes)

  # train and save
  assert tiny_runs.run_main(train.main, *flags) == 0
  assert steps_of(workdir) == [2, 4]
  straight = tiny_runs.to_bits(tiny_runs.restore(workdir, config))
  half = tiny_runs.to_bits(tiny_runs.restore(workdir, config, 2))
  assert straight != half
  history = tiny_runs.read_history(workdir)
  assert [(event["kind"], event["step"]) for event in history] == [
    *(("train", 1), ("train", 2), ("eval", 2)),
    *(("train", 3), ("train", 4), ("eval", 4)),
  ]
  assert all(0 < e["loss"] < 20 for e in history if e["kind"] == "train")
  assert list((workdir / "tensorboard").iterdir())

  # resume: what came after step 2 is lost and comes out the same again
  shutil.rmtree(workdir / "checkpoints" / "4")
  assert tiny_runs.run_main(train.main, *flags) == 0
  assert "resuming after step 2 of 4" in capsys.readouterr().err
  again = tiny_runs.to_bits(tiny_runs.restore(workdir, config, 4))
  assert again == straight
  assert tiny_runs.read_history(workdir) == history

  # evaluate
  code = tiny_runs.run_main(evaluate.main, "--workdir", workdir, "--step", "4")
  result = last_json(capsys.readouterr().out)
  assert code == 0
  assert result["experiment"] == name
  assert (result["step"], result["split"]) == (4, "test")
  assert result["num_examples"] == known.num_examples
  if name.startswith("scene_matching"):
    assert result["baselines"] == {"chance": 0.5}
  saved = workdir / "evaluations" / "test-4.json"
  assert json.loads(saved.read_text()) == result

  # report, on the smaller split
  evaluated = evaluate_split(workdir, step=4, split="validation")
  assert evaluated.scores["accuracy"] == history[-1]["accuracy"]
  page = write_report(workdir, evaluated, count=2).read_text()
  assert page.count("data:image/") >= 2
  assert name in page
  assert ("caption recall@1" in page) == name.startswith("scene_matching")
  assert f"<li>{known.unit} <b>" in page
  assert ("questions" in page) == (known.unit == "questions")
  assert ("true caption" in page) == (known.unit == "captions")
  titles = re.findall(r'<h3>(.*?)</h3>\n<figure class="graph">', page)
  assert set(titles) == GRAPH_TITLES.get(run, set())

  # predict
  if known.question is None:
    code = tiny_runs.run_main(
      predict.main, "--workdir", workdir, "--image", "x.png", "--text", "x"
    )
    assert code == 1
    assert "answers no question about a picture" in capsys.readouterr().err
    (record_id, *_) = fdl.build(config).data.list_examples("test")
    code = tiny_runs.run_main(
      predict.main,
      *("--workdir", workdir, "--record", record_id, "--json"),
      *("--attention", tmp_path / "where.png"),
    )
    captured = capsys.readouterr()
    answers = last_json(captured.out)["answers"]
    assert code == 0
    assert 0 < sum(answers.values()) <= 1 + 1e-6
    assert "note: true is: " in captured.err
    assert (tmp_path / "where.png").stat().st_size > 1_000
    predict_a_clip(workdir, name, tmp_path, capsys)
    return
  code = tiny_runs.run_main(
    predict.main,
    *("--workdir", workdir, "--image", known.image, "--json"),
    *("--text", known.question),
  )
  answers = last_json(capsys.readouterr().out)["answers"]
  assert code == 0
  assert len(answers) == 5
  assert 5 / known.num_labels < sum(answers.values()) <= 1 + 1e-6


def predict_a_clip(workdir, name, folder, capsys):
  """Digits in motion read clips, and matchers say that they do not."""
  clip = folder / "clip.npy"
  np.save(clip, np.random.default_rng(0).integers(0, 256, (5, 9, 7), np.uint8))
  where = folder / "clip.png"
  code = tiny_runs.run_main(
    predict.main,
    *("--workdir", workdir, "--clip", clip, "--attention", where, "--json"),
  )
  captured = capsys.readouterr()
  if not name.startswith("digit"):
    assert code == 1
    assert "name an example of its data with --record" in captured.err
    return
  assert code == 0
  result = last_json(captured.out)
  assert len(result["answers"]) == 5
  assert "has 5 frames" in result["notes"][0]
  assert where.stat().st_size > 1_000


def test_a_shrunk_co_attention_learns(tmp_path):
  """Far from trained, it beats every constant answer."""
  changes = {
    "width": 16,
    "data.image_size": 16,
    "data.questions_per_image": 8,
    "model.encoders.image.features": (8, 16),
    "model.encoders.text.embedding_dim": 16,
    "optimizer.learning_rate": 5e-3,
    "training.batch_size": 128,
    "training.num_steps": 120,
    "training.log_every": 20,
    "training.checkpoint_every": 120,
  }
  flags = tiny_runs.train_flags("easy_vqa_co_attention", tmp_path, changes)
  assert tiny_runs.run_main(train.main, *flags) == 0
  history = tiny_runs.read_history(tmp_path)
  losses = [event["loss"] for event in history if event["kind"] == "train"]
  assert losses[-1] < 0.6 * losses[0]
  assert history[-1]["accuracy"] > MAJORITY + 0.1
