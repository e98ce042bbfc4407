import collections
import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import typing

import numpy as np
import pytest
from PIL import Image

from mmjax.data.easy_vqa import EasyVqa


@pytest.fixture(scope="module")
def official():
  """The package's own files, by (split, image): [(row, text, answer)]."""
  folder = pathlib.Path(
    importlib.metadata.distribution("easy-vqa").locate_file("easy_vqa/data")
  )
  rows = {}
  for split in ("train", "test"):
    questions = json.loads((folder / split / "questions.json").read_text())
    for row, (text, answer, image) in enumerate(questions):
      rows.setdefault((split, image), []).append((row, text, answer))
  return folder, rows


def read_ids(batches):
  return [
    record_id
    for step in range(batches.num_batches)
    for record_id in batches.record_ids(step)
  ]


def by_split(easy_vqa, assets):
  return {
    split: read_ids(easy_vqa.eval_batches(assets, split, batch_size=128))
    for split in ("train", "validation", "test")
  }


def test_splits_have_the_official_counts_and_are_disjoint(
  easy_vqa, easy_vqa_assets, official
):
  ids = by_split(easy_vqa, easy_vqa_assets)
  assert {s: len(set(rows)) == len(rows) for s, rows in ids.items()} == {
    "train": True,
    "validation": True,
    "test": True,
  }
  images = {
    split: {int(each.split("/")[1]) for each in rows}
    for split, rows in ids.items()
  }
  assert len(ids["test"]) == 9_673
  assert len(images["test"]) == 1_000
  assert len(ids["train"]) + len(ids["validation"]) == 38_575
  assert len(images["train"]) == 3_600
  assert len(images["validation"]) == 400
  assert images["train"] | images["validation"] == set(range(4_000))
  # Pinned, so that no later version moves images between the splits.
  lowest = sorted(
    range(4_000), key=lambda i: hashlib.sha256(str(i).encode()).hexdigest()
  )
  assert images["validation"] == set(lowest[:400])
  _, rows = official
  for split, name in [("validation", "train"), ("test", "test")]:
    expected = {
      f"{split}/{image}/{row}"
      for image in images[split]
      for row, _, _ in rows[name, image]
    }
    assert set(ids[split]) == expected


def test_assets_come_from_the_training_split_only(
  easy_vqa, easy_vqa_assets, official
):
  _, rows = official
  images = {
    int(each.split("/")[1])
    for each in read_ids(
      easy_vqa.eval_batches(easy_vqa_assets, "train", batch_size=128)
    )
  }
  questions = [row for image in images for row in rows["train", image]]
  words = {word for _, text, _ in questions for word in text[:-1].split()}
  assert easy_vqa_assets["vocabulary"] == ["<pad>", "<unk>", *sorted(words)]
  assert len(words) == 26
  assert easy_vqa_assets["labels"] == sorted({a for _, _, a in questions})
  assert len(easy_vqa_assets["labels"]) == 13
  assert easy_vqa_assets["question_types"] == ["color", "shape", "yes/no"]
  counts = collections.defaultdict(collections.Counter)
  for _, text, answer in questions:
    counts[text][answer] += 1
  prior = easy_vqa_assets["question_prior"]
  assert prior.keys() == counts.keys()
  for text, answer in prior.items():
    assert counts[text][answer] == max(counts[text].values())
  assert easy_vqa_assets["majority_answer"] == "yes"
  assert json.loads(json.dumps(easy_vqa_assets)) == easy_vqa_assets


def test_published_baselines_hold_on_the_test_split(easy_vqa_assets, official):
  _, rows = official
  test = [row for (split, _), r in rows.items() if split == "test" for row in r]
  prior = easy_vqa_assets["question_prior"]
  right = np.mean([prior[text] == answer for _, text, answer in test])
  assert abs(right - 0.670) < 0.01
  majority = easy_vqa_assets["majority_answer"]
  right = np.mean([majority == answer for _, _, answer in test])
  assert abs(right - 0.373) < 0.001


@pytest.mark.parametrize("kind", ["train", "test"])
@pytest.mark.parametrize("num_shards", [1, 2])
def test_record_ids_are_the_very_questions(
  easy_vqa, easy_vqa_assets, official, kind, num_shards
):
  folder, rows = official
  sizes = {"batch_size": 48, "num_shards": num_shards}
  if kind == "train":
    batches = easy_vqa.train_batches(easy_vqa_assets, seed=5, **sizes)
  else:
    batches = easy_vqa.eval_batches(easy_vqa_assets, "test", **sizes)
  vocabulary = easy_vqa_assets["vocabulary"]
  labels = easy_vqa_assets["labels"]
  types = easy_vqa_assets["question_types"]
  listed = easy_vqa.list_examples(kind)
  for step in (0, 7):
    batch, ids = batches.batch(step), iter(batches.record_ids(step))
    if num_shards == 1:
      batch = {key: values[None] for key, values in batch.items()}
    for shard in range(num_shards):
      part = {key: values[shard] for key, values in batch.items()}
      for place in np.flatnonzero(part["example_mask"]):
        record_id = next(ids)
        _, image, row = record_id.split("/")
        text, answer = next(
          (t, a) for r, t, a in rows[kind, int(image)] if r == int(row)
        )
        mask = part["text_mask"][place]
        words = [vocabulary[i] for i in part["text"][place][mask]]
        assert " ".join(words) + "?" == text
        assert (part["text"][place][~mask] == 0).all()
        assert labels[part["label"][place]] == answer
        name = types[part["question_type"][place]]
        assert (name == "yes/no") == (answer in ("yes", "no"))
        png = folder / kind / "images" / f"{image}.png"
        pixels = np.asarray(Image.open(png).convert("RGB"))
        where = part["image_index"][place]
        np.testing.assert_array_equal(part["image"][where], pixels)
        np.testing.assert_array_equal(easy_vqa.load_image(record_id), pixels)
        assert listed[record_id] == {
          "text": text,
          "answer": answer,
          "type": name,
          "image_id": int(image),
        }
    assert next(ids, None) is None


@pytest.mark.parametrize(
  ("batch_size", "num_shards"), [(128, 1), (128, 4), (63, 1), (66, 3)]
)
def test_evaluation_covers_each_test_question_once(
  easy_vqa, easy_vqa_assets, batch_size, num_shards
):
  batches = easy_vqa.eval_batches(
    easy_vqa_assets, "test", batch_size=batch_size, num_shards=num_shards
  )
  ids = read_ids(batches)
  assert len(ids) == len(set(ids)) == 9_673
  shapes = {
    tuple((key, values.shape) for key, values in sorted(batch.items()))
    for batch in batches.iterate()
  }
  assert len(shapes) == 1
  # Little of the work is padding.
  assert 9_673 / (batches.num_batches * batch_size) > 0.9


def test_training_shapes_and_share_of_padding(easy_vqa, easy_vqa_assets):
  batches = easy_vqa.train_batches(easy_vqa_assets, batch_size=128, seed=0)
  batch = batches.batch(0)
  assert {key: (v.shape, str(v.dtype)) for key, v in batch.items()} == {
    "image": ((16, 64, 64, 3), "uint8"),
    "image_mask": ((16,), "bool"),
    "image_index": ((128,), "int32"),
    "text": ((128, 12), "int32"),
    "text_mask": ((128, 12), "bool"),
    "label": ((128,), "int32"),
    "question_type": ((128,), "int32"),
    "example_mask": ((128,), "bool"),
  }
  small = EasyVqa(questions_per_image=5, max_words=9, image_size=23)
  batch = small.train_batches(easy_vqa_assets, batch_size=15, seed=0).batch(2)
  assert batch["image"].shape == (3, 23, 23, 3)
  assert batch["text"].shape == (15, 9)
  filled = [batches.batch(i)["example_mask"].mean() for i in range(25)]
  assert 0.9 < np.mean(filled) < 1
  # No question is drawn twice for an image, and no image twice in an epoch.
  for step in range(25):
    ids = batches.record_ids(step)
    assert (
      len(set(ids)) == len(ids) == batches.batch(step)["example_mask"].sum()
    )
    assert len({record_id.split("/")[1] for record_id in ids}) == 16


def test_bad_settings_are_explained(easy_vqa, easy_vqa_assets, monkeypatch):
  train, evaluate = easy_vqa.train_batches, easy_vqa.eval_batches
  for call, match in [
    (lambda: EasyVqa(max_words=0), "data.max_words"),
    (
      lambda: EasyVqa(max_words=8).load_assets(),
      "data.max_words to at least 9",
    ),
    (
      lambda: train(easy_vqa_assets, batch_size=24, seed=0, num_shards=2),
      "training.batch_size to a multiple of 16",
    ),
    (
      lambda: train(easy_vqa_assets, batch_size=0, seed=0),
      "training.batch_size",
    ),
    (
      lambda: evaluate(easy_vqa_assets, "test", batch_size=25, num_shards=2),
      "evaluation.batch_size to a multiple of 2",
    ),
    (
      lambda: evaluate(easy_vqa_assets, "test", batch_size=38, num_shards=2),
      "evaluation.batch_size to at least 40",
    ),
    (
      lambda: evaluate(easy_vqa_assets, "dev", batch_size=64),
      "no split 'dev'.*train, validation, test",
    ),
    (lambda: easy_vqa.load_image("test/1"), "'test/1'"),
    (lambda: easy_vqa.load_image("test/1/0"), "'test/1/0'"),
    (lambda: easy_vqa.load_image("train/x/0"), "'train/x/0'"),
  ]:
    with pytest.raises(ValueError, match=match) as refused:
      call()
    assert "\n" not in str(refused.value)


def test_unprepared_data_are_explained(easy_vqa_assets, tmp_path, monkeypatch):
  monkeypatch.setenv("MMJAX_CACHE", str(tmp_path))
  with pytest.raises(ValueError, match=r"python -m mmjax\.data\.prepare"):
    EasyVqa().load_assets()


def test_answers_unknown_to_the_assets_name_the_record(
  easy_vqa, easy_vqa_assets
):
  assets = easy_vqa_assets | {"labels": ["yes"]}
  batches = easy_vqa.eval_batches(assets, "test", batch_size=64)
  with pytest.raises(RuntimeError, match=r"test/[0-9]+"):
    batches.batch(0)


def test_one_example_of_the_user(easy_vqa, easy_vqa_assets, tmp_path):
  path = tmp_path / "x.jpg"
  Image.new("CMYK", (31, 17), (0, 255, 255, 0)).save(path)
  batch, notes = easy_vqa.encode_example(
    easy_vqa_assets, image=path, text="What is the PURPLE shape?"
  )
  reference = easy_vqa.train_batches(
    easy_vqa_assets, batch_size=8, seed=0
  ).batch(0)
  assert batch.keys() == reference.keys()
  for key, values in batch.items():
    assert len(values) == 1
    assert values.dtype == reference[key].dtype
    assert values.shape[1:] == reference[key].shape[1:]
  red = batch["image"][0].reshape(-1, 3).mean(0)
  assert red[0] > 200
  assert red[1:].max() < 60
  vocabulary = easy_vqa_assets["vocabulary"]
  words = [vocabulary[i] for i in batch["text"][0][batch["text_mask"][0]]]
  assert words == ["what", "is", "the", "<unk>", "shape"]
  assert len(notes) == 1
  assert "'purple'" in notes[0]
  assert batch["example_mask"].all()
  assert batch["image_mask"].all()


def test_long_empty_and_impossible_examples(
  easy_vqa, easy_vqa_assets, tmp_path
):
  image = Image.new("RGB", (64, 64))
  batch, notes = easy_vqa.encode_example(
    easy_vqa_assets, image=image, text="is " * 13
  )
  assert batch["text_mask"].all()
  assert "13 words" in notes[0]
  for text in ("", "  ?!"):
    with pytest.raises(ValueError, match="no words"):
      easy_vqa.encode_example(easy_vqa_assets, image=image, text=text)
  path = tmp_path / "notes.txt"
  path.write_text("text")
  with pytest.raises(ValueError, match=r"notes\.txt"):
    easy_vqa.encode_example(easy_vqa_assets, image=path, text="what?")


def test_is_a_plain_config_object():
  assert EasyVqa.__dataclass_params__.frozen
  hints = typing.get_type_hints(EasyVqa)
  for field in dataclasses.fields(EasyVqa):
    assert field.default is not dataclasses.MISSING
    assert isinstance(field.default, hints[field.name])
  assert hash(EasyVqa()) == hash(EasyVqa())


def test_import_is_cheap():
  code = (
    "import sys; before = set(sys.modules); import mmjax.data.easy_vqa; "
    "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
  )
  result = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  heavy = {"jax", "flax", "grain", "tensorflow_datasets", "PIL", "platformdirs"}
  assert not heavy & set(result.stdout.split())
  assert "numpy" in result.stdout.split()
