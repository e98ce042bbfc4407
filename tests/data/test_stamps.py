import dataclasses
import hashlib
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from mmjax.data import packages, prepare
from mmjax.data.builders import stamps as builder
from mmjax.data.stamps import SPLITS, Stamps

FOLDER = "./usr/share/tuxpaint/stamps"


def make_png(seed, size=(23, 17), mode="RGBA"):
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
  png = io.BytesIO()
  Image.fromarray(pixels).convert(mode).save(png, "PNG")
  return png.getvalue()


def make_files():
  """A package of 60 pictures; some are alike, some have the same caption."""
  files = {}
  for number in range(60):
    category = ("animals", "food")[number % 2]
    name = f"{category}/sub/thing{number:02}"
    seed = 4 if number == 10 else number  # 4 and 10 are the same picture
    files[f"{name}.png"] = make_png(seed)
    caption = f"The number {number}{' again' * (number % 3 == 0)}."
    if number in (21, 34):
      caption = "A thing."
    files[f"{name}.txt"] = f"{caption}\nxx.utf8=\xe4.\n".encode()
  files["food/sub/thing00_desc_xx.ogg"] = b"sound"
  files["food/sub/thing00_mirror.png"] = make_png(99)  # without a caption
  files["food/drawing.svg"] = b"<svg/>"
  files["food/drawing.txt"] = b"A drawing.\n"
  return files


def make_deb(tmp_path, monkeypatch, files):
  """Puts a package where manual_dir finds it, and a dpkg-deb that reads it."""
  content = tmp_path / "content.tar"
  with tarfile.open(content, "w") as file:
    for name, data in files.items():
      info = tarfile.TarInfo(f"{FOLDER}/{name}")
      info.size = len(data)
      file.addfile(info, io.BytesIO(data))
  script = tmp_path / "bin" / "dpkg-deb"
  script.parent.mkdir()
  script.write_text(f"#!/bin/sh\ncat {content}\n")
  script.chmod(0o755)
  monkeypatch.setenv("PATH", str(script.parent), prepend=":")
  (tmp_path / builder.PACKAGE.filename).write_bytes(b"archive")
  monkeypatch.setattr(
    builder,
    "PACKAGE",
    dataclasses.replace(
      builder.PACKAGE, sha256=hashlib.sha256(b"archive").hexdigest()
    ),
  )
  monkeypatch.setenv("MMJAX_CACHE", str(tmp_path / "cache"))
  return Stamps(manual_dir=str(tmp_path))


@pytest.fixture
def stamps(tmp_path, monkeypatch):
  data = make_deb(tmp_path, monkeypatch, make_files())
  data.prepare()
  return data


def test_a_package_becomes_pictures_with_captions(stamps):
  assets, files = stamps.load_assets(), make_files()
  assert assets["labels"] == ["animals", "food"]
  seen = []
  for split in SPLITS:
    batch, listed = stamps.arrays(split), stamps.list_examples(split)
    assert list(listed) == stamps.record_ids(split, len(listed))
    for row, (record_id, example) in enumerate(listed.items()):
      name = record_id.removeprefix(f"{split}/")
      seen.append(name)
      caption = files[f"{name}.txt"].decode().splitlines()[0]
      assert example["text"] == caption
      assert example["answer"] == name.split("/")[0]
      assert assets["labels"][batch["label"][row]] == example["answer"]
      words = caption.lower().rstrip(".").split()
      known = [w if w in assets["vocabulary"] else "<unk>" for w in words]
      ids = batch["text"][row][batch["text_mask"][row]]
      assert [assets["vocabulary"][i] for i in ids] == known
      image = Image.open(io.BytesIO(files[f"{name}.png"]))
      expected = np.asarray(builder.fit_picture(image, 64))
      np.testing.assert_array_equal(batch["image"][row], expected)
      np.testing.assert_array_equal(stamps.load_image(record_id), expected)
    for key, blank in stamps.blank_batch().items():
      assert batch[key].shape[1:] == blank.shape[1:]
      assert batch[key].dtype == blank.dtype
  assert sorted(seen) == sorted(
    name.removesuffix(".png")
    for name in files
    if name.endswith(".png") and "mirror" not in name
  )


@pytest.mark.parametrize("task", ["category", "matching"])
def test_the_type_is_the_length_of_the_caption(stamps, task):
  data = dataclasses.replace(stamps, task=task)
  types = data.load_assets()["question_types"]
  assert types == ["up to 2 words", "3 words", "4 words and more"]
  seen = set()
  for split in SPLITS:
    listed = data.list_examples(split).values()
    numbers = data.arrays(split)["question_type"]
    for example, number in zip(listed, numbers, strict=True):
      assert example["type"] == types[number]
      assert number == len(example["text"].split()) - 2
      seen.add(number)
  assert seen == {0, 1, 2}
  # Words that are cut off count.
  short = dataclasses.replace(data, max_words=1).arrays("train")
  whole = data.arrays("train")["question_type"]
  np.testing.assert_array_equal(short["question_type"], whole)


def test_what_is_alike_is_in_one_split(stamps):
  place = {
    example["image_id"]: (split, example["group"])
    for split in SPLITS
    for example in stamps.list_examples(split).values()
  }
  assert place["animals/sub/thing04"] == place["animals/sub/thing10"]
  assert place["food/sub/thing21"] == place["animals/sub/thing34"]
  assert len({group for _, group in place.values()}) == 58
  sizes = [sum(s == split for s, _ in place.values()) for split in SPLITS]
  assert sizes[0] in (41, 42)
  assert sum(sizes) == 60
  split = place["food/sub/thing21"][0]
  batch = stamps.arrays(split)
  ids = dict(zip(stamps.list_examples(split), batch["caption_id"], strict=True))
  same = ids[f"{split}/food/sub/thing21"], ids[f"{split}/animals/sub/thing34"]
  assert same[0] == same[1]
  assert len(set(ids.values())) == len(ids) - 1


def test_groups_are_those_of_a_search():
  rng = np.random.default_rng(0)
  # A chain of pictures, each near the next, in random order, and captions.
  base = rng.integers(0, 100, (2, 2, 3))
  steps = np.array([0, 3, 1, 9, 2, 8]) * 15
  pictures = np.stack([base + step for step in steps]).astype(np.uint8)
  captions = ["One.", "two", "Three", "Four", "ONE", "five"]
  groups = builder.group_pictures(pictures, captions)
  assert groups.tolist() == [0, 0, 0, 3, 0, 3]
  captions[5] = "(three!)"
  groups = builder.group_pictures(pictures, captions)
  assert groups.tolist() == [0] * 6


def test_splits_are_pinned_and_keep_groups_whole():
  names = [f"n{number}" for number in range(200)]
  groups = np.arange(200) // 3 * 3
  splits = builder.split_groups(groups, names)
  for first in range(0, 198, 3):
    assert len(set(splits[first : first + 3])) == 1
  counts = [splits.count(split) for split in SPLITS]
  np.testing.assert_allclose(counts, [140, 30, 30], atol=3)
  order = sorted(
    range(0, 200, 3), key=lambda g: hashlib.sha256(f"n{g}".encode()).digest()
  )
  assert splits[order[0]] == "train"
  assert splits[order[-1]] == "test"


@pytest.mark.parametrize(
  ("size", "box"), [((40, 20), (0, 8, 32, 24)), ((5, 10), (8, 0, 24, 32))]
)
def test_pictures_keep_their_proportions_on_white(size, box):
  square = np.asarray(builder.fit_picture(Image.new("RGB", size), 32))
  expected = np.full((32, 32, 3), 255, np.uint8)
  left, top, right, bottom = box
  expected[top:bottom, left:right] = 0
  np.testing.assert_array_equal(square, expected)
  clear = builder.fit_picture(Image.new("RGBA", (3, 3)), 8)
  assert (np.asarray(clear) == 255).all()


def test_damaged_packages_are_refused(tmp_path, monkeypatch):
  (tmp_path / "a.txt").write_bytes(b"\n")
  with pytest.raises(ValueError, match=r"a\.txt starts without a caption"):
    builder.read_caption(tmp_path / "a.txt")
  (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
  with pytest.raises(ValueError, match=r"a\.txt is not UTF-8"):
    builder.read_caption(tmp_path / "a.txt")
  data = make_deb(tmp_path, monkeypatch, {"food/readme": b"no pictures"})
  with pytest.raises(ValueError, match=r"holds no picture NAME\.png"):
    data.prepare()
  (tmp_path / builder.PACKAGE.filename).write_bytes(b"another archive")
  monkeypatch.setenv("MMJAX_CACHE", str(tmp_path / "other"))
  with pytest.raises(packages.PackageError, match="SHA-256"):
    data.prepare()


def test_mistakes_are_explained(stamps, tmp_path, monkeypatch):
  with pytest.raises(ValueError, match=r"data\.max_words is 0"):
    Stamps(max_words=0)
  with pytest.raises(ValueError, match=r"data\.task is 'x'; .* matching"):
    Stamps(task="x")
  with pytest.raises(ValueError, match=r"'dev'.*train, validation, test"):
    stamps.arrays("dev")
  with pytest.raises(ValueError, match="no record 'test/x'"):
    stamps.load_image("test/x")
  assets = {**stamps.load_assets(), "labels": ["animals"]}
  with pytest.raises(ValueError, match="categories food"):
    stamps.encode_split(assets, "train")
  assets = {**stamps.load_assets(), "question_types": ["caption"]}
  with pytest.raises(ValueError, match=r"4 words and more, .* types caption;"):
    stamps.encode_split(assets, "train")
  monkeypatch.setenv("MMJAX_CACHE", str(tmp_path / "empty"))
  with pytest.raises(ValueError, match=r"mmjax\.data\.prepare stamps"):
    stamps.arrays("train")


def test_builder_states_licence_and_source(stamps):
  del stamps
  info = prepare.load_builder(builder.StampsBuilder, packages.cache_dir()).info
  assert info.redistribution_info.license == "GPL-2"
  assert "Kendrick" in info.citation


@pytest.mark.parametrize("num_shards", [1, 2])
def test_training_has_another_false_caption_at_each_visit(stamps, num_shards):
  data = dataclasses.replace(stamps, task="matching")
  assets, whole = data.load_assets(), data.arrays("train")
  rows = {one: row for row, one in enumerate(data.list_examples("train"))}
  categories = [e["answer"] for e in stamps.list_examples("train").values()]
  batches, again = (
    data.train_batches(assets, batch_size=10, seed=3, num_shards=num_shards)
    for _ in range(2)
  )
  seen = {}
  for step in range(40):
    batch = batches.batch(step)
    flat = {
      key: values.reshape(10, *values.shape[1 + (num_shards > 1) :])
      for key, values in batch.items()
    }
    for place, one in enumerate(batches.record_ids(step)):
      row = rows[one]
      np.testing.assert_array_equal(flat["text"][place], whole["text"][row])
      false = np.flatnonzero(
        (whole["text"] == flat["negative"][place]).all(axis=1)
      )
      assert row not in false
      assert categories[row] in {categories[i] for i in false}
      for key in ("text_mask", "phrase_spans", "phrase_mask"):
        name = f"negative_{key.removeprefix('text_')}"
        np.testing.assert_array_equal(flat[name][place], whole[key][false[0]])
      seen.setdefault(one, set()).add(int(false[0]))
    for key, values in again.batch(step).items():  # by number, and no state
      np.testing.assert_array_equal(batch[key], values)
  assert np.mean([len(each) for each in seen.values()]) > 4
  for step, batch in enumerate(again.iterate(stop=3)):  # through the threads
    np.testing.assert_array_equal(
      batch["negative"], batches.batch(step)["negative"]
    )
  other = data.train_batches(assets, batch_size=10, seed=4)
  mine = {
    one: row.tolist()
    for step in range(4)
    for one, row in zip(
      other.record_ids(step), other.batch(step)["negative"], strict=True
    )
  }
  same = [
    row.tolist() == mine[one]
    for one, row in zip(
      batches.record_ids(0),
      batches.batch(0)["negative"].reshape(10, -1),
      strict=True,
    )
    if one in mine
  ]
  assert not all(same)
  evaluated = data.eval_batches(assets, "test", batch_size=5).batch(0)
  fixed = data.arrays("test")["negative"][:5]
  np.testing.assert_array_equal(evaluated["negative"], fixed)


def test_matching_has_true_and_false_captions(stamps):
  data = dataclasses.replace(stamps, task="matching")
  batch, assets = data.arrays("test"), data.load_assets()
  assert assets["labels"] == ["negative", "text"]
  assert assets["majority_answer"] is None
  assert (batch["label"] == 1).all()
  listed = list(data.list_examples("test").values())
  assert {example["answer"] for example in listed} == {"text"}
  categories = [e["answer"] for e in stamps.list_examples("test").values()]
  for row in range(len(listed)):
    same = (batch["text"] == batch["negative"][row]).all(axis=1)
    # All others may be "the number <unk>".
    told = (batch["text"] != batch["text"][row]).any()
    assert same[row] != told
    alike = {categories[i] for i in np.flatnonzero(same)}
    assert categories[row] in alike or told
    for text, key in (("text", "phrase"), ("negative", "negative_phrase")):
      spans = batch[f"{key}_spans"][row][batch[f"{key}_mask"][row]]
      count = batch[f"{text}_mask"][row].sum()
      places = [i for start, stop in spans for i in range(start, stop)]
      assert places == list(range(count))
  blank = data.blank_batch()
  assert {k: (v.shape[1:], v.dtype) for k, v in blank.items()} == {
    k: (v.shape[1:], v.dtype) for k, v in batch.items()
  }
