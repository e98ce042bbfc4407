import collections
import dataclasses
import hashlib
import json
import tarfile
import typing

import numpy as np
import pytest
from PIL import Image

from mmjax.data import emoji_clips, packages
from mmjax.data.builders import fluent_emoji as builder
from mmjax.data.emoji_clips import EmojiClips

SKINS = ("", "1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")
# As the package names its files: by emoji and place of the skin.
EMOJI = {
  "wave": "1f44b{}",
  "run": "1f3c3{}-200d-2640-fe0f",
  "pair": "1f468{}-200d-2764-fe0f-200d-1f468{}",
}
NUMBERS = {"wave": 5, "run": 24, "pair": 49}  # frames of each


def colour_of(name, tone, frame):
  """A colour of its own for each frame; the blue is the frame."""
  return (40 * tone, 100 * list(EMOJI).index(name), 5 * frame)


def draw(name, tone):
  """Frames of 32 pixels with a colour of its own, the upper half clear."""
  frames = []
  for frame in range(NUMBERS[name]):
    image = Image.new("RGBA", (32, 32))
    image.paste((*colour_of(name, tone, frame), 255), (0, 16, 32, 32))
    # Were all that is drawn opaque, the file would not say that it has holes.
    image.putpixel((0, 0), (255, 255, 255, 255))
    frames.append(image)
  return frames


def write_clip(path, frames):
  frames[0].save(
    path, save_all=True, append_images=frames[1:], lossless=True, duration=40
  )


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
  """A folder with a small package like the real one, and what it is."""
  folder = tmp_path_factory.mktemp("emoji")
  assets = folder / "assets"
  assets.mkdir()
  for name, pattern in EMOJI.items():
    for tone, skin in enumerate(SKINS):
      skin = f"-{skin}" if skin else ""
      path = assets / f"{pattern.format(skin, skin)}.webp"
      write_clip(path, draw(name, tone))
  # One tone is not enough, two skins in one clip are no tone, and one picture
  # does not move.
  write_clip(assets / "1f600.webp", draw("wave", 0))
  mixed = "1f468-1f3fb-200d-2764-fe0f-200d-1f468-1f3ff.webp"
  write_clip(assets / mixed, draw("pair", 0))
  draw("wave", 0)[0].save(assets / "1f601.webp", lossless=True)
  path = folder / builder.PACKAGE.filename
  with tarfile.open(path, "w:gz") as file:
    file.add(assets, "package/assets")
  package = dataclasses.replace(
    builder.PACKAGE,
    sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    content_sha256=packages.digest_tree(assets),
  )
  return folder, package


@pytest.fixture(scope="module")
def clips(archive, tmp_path_factory):
  """Prepares the small package in a cache of its own."""
  folder, package = archive
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("MMJAX_CACHE", str(tmp_path_factory.mktemp("emoji_cache")))
    patch.setattr(builder, "PACKAGE", package)
    EmojiClips(manual_dir=str(folder)).prepare()
    yield emoji_clips.load_clips()


def test_the_package_is_pinned():
  assert (
    str(builder.PACKAGE) == "npm package @lobehub/fluent-emoji-anim-1 1.0.0"
  )
  assert len(builder.PACKAGE.sha256) == len(builder.PACKAGE.content_sha256)


@pytest.mark.parametrize(
  ("code_points", "expected"),
  [
    ("1f44b", ("1f44b", "yellow", "waving hand sign")),
    ("1f3c2-1f3fe", ("1f3c2", "medium dark", "snowboarder")),
    (
      "1f3cc-fe0f-200d-2642-fe0f",
      ("1f3cc-200d-2642", "yellow", "golfer, male sign"),
    ),
    (
      "1f468-1f3fb-200d-2764-fe0f-200d-1f468-1f3fb",
      ("1f468-200d-2764-200d-1f468", "light", "man, heavy black heart, man"),
    ),
    (
      "1f468-1f3fb-200d-2764-fe0f-200d-1f468-1f3ff",
      ("1f468-200d-2764-200d-1f468", "mixed", "man, heavy black heart, man"),
    ),
  ],
)
def test_code_points_are_read(code_points, expected):
  assert builder.read_sequence(code_points) == expected


@pytest.mark.parametrize("code_points", ["smile", "1f44b-", "e000", "110000"])
def test_what_is_no_emoji_is_named(code_points):
  with pytest.raises(ValueError, match=f"'{code_points}' is no emoji"):
    builder.read_sequence(code_points)


def test_frames_are_spread_evenly_and_laid_on_white(clips):
  assert clips.emoji == (
    "1f3c3-200d-2640",
    "1f44b",
    "1f468-200d-2764-200d-1f468",
  )
  assert clips.names == (
    "runner, female sign",
    "waving hand sign",
    "man, heavy black heart, man",
  )
  assert clips.frames.shape == (3, 6, 24, 32, 32, 3)
  assert clips.frames.dtype == np.uint8
  assert clips.files[1][3] == "1f44b-1f3fd"
  for place, name in enumerate(("run", "wave", "pair")):
    for tone in range(6):
      for frame in range(24):
        expected = np.full((32, 32, 3), 255)
        shown = frame * NUMBERS[name] // 24
        expected[16:] = colour_of(name, tone, shown)
        found = clips.frames[place, tone, frame]
        np.testing.assert_array_equal(found, expected)


def test_larger_pictures_are_shrunk_and_still_ones_are_none(tmp_path):
  frames = [Image.new("RGBA", (80, 96), (c, c, c, 255)) for c in (10, 200)]
  write_clip(tmp_path / "a.webp", frames)
  found = builder.read_frames(tmp_path / "a.webp", 4, 32)
  assert found.shape == (4, 32, 32, 3)
  np.testing.assert_array_equal(found[:, 0, 0, 0], [10, 10, 200, 200])
  frames[0].save(tmp_path / "b.webp")
  assert builder.read_frames(tmp_path / "b.webp", 4, 32) is None
  (tmp_path / "c.webp").write_bytes(b"no picture")
  with pytest.raises(ValueError, match=r"c\.webp is no picture"):
    builder.read_frames(tmp_path / "c.webp", 4, 32)


@pytest.mark.parametrize("target", ["emoji", "arrow"])
def test_rows_are_the_clips_that_are_listed(clips, target):
  data = EmojiClips(
    target=target,
    test_tone="light",
    validation_tone="dark",
    num_frames=6,
    num_starts=3,
  )
  labels = data.load_assets()["labels"]
  tones = {
    "train": {"yellow", "medium light", "medium", "medium dark"},
    "validation": {"dark"},
    "test": {"light"},
  }
  for split in emoji_clips.SPLITS:
    arrays, listed = data.arrays(split), data.list_examples(split)
    number = 3 * len(tones[split]) * 3 * (1 if target == "emoji" else 2)
    assert len(listed) == number
    assert set(data.tones_of(split)) == tones[split]
    assert arrays["label"].dtype == np.int32
    counts = collections.Counter(arrays["label"].tolist())
    assert set(counts.values()) == {number // len(labels)}
    for row, clip in enumerate(listed.values()):
      assert clip["type"] in tones[split]
      emoji = [clip["image_id"] in files for files in clips.files].index(True)
      tone = clips.files[emoji].index(clip["image_id"])
      assert emoji_clips.TONES[tone] == clip["type"]
      places = [(clip["start"] + 4 * t) % 24 for t in range(6)]
      if clip["backward"]:
        assert target == "arrow"
        places = places[::-1]
      np.testing.assert_array_equal(
        arrays["video"][row], clips.frames[emoji, tone, places]
      )
      answer = clips.names[emoji]
      if target == "arrow":
        answer = "backwards" if clip["backward"] else "forwards"
      assert clip["answer"] == labels[arrays["label"][row]] == answer
    starts = collections.defaultdict(set)
    for clip in listed.values():
      starts[clip["image_id"]].add(clip["start"])
    assert all(len(each) == 3 for each in starts.values())


def test_of_the_arrow_a_bag_of_frames_tells_nothing(clips):
  del clips
  arrays = EmojiClips(target="arrow", num_starts=5).arrays("test")
  bags = [
    tuple(sorted(frame.tobytes() for frame in clip)) for clip in arrays["video"]
  ]
  by_label = [
    collections.Counter(
      bag
      for bag, of_row in zip(bags, arrays["label"], strict=True)
      if of_row == label
    )
    for label in range(2)
  ]
  assert by_label[0] == by_label[1]


def test_only_training_follows_the_seed(clips):
  del clips
  first, second = (EmojiClips(num_starts=2, seed=seed) for seed in (0, 1))
  for split in emoji_clips.SPLITS:
    same = first.list_examples(split) == second.list_examples(split)
    assert same == (split != "train")


def test_batches_are_rows_of_the_arrays(clips):
  del clips
  data = EmojiClips(num_frames=3)
  assets = json.loads(json.dumps(data.load_assets()))
  assert assets == data.load_assets()
  assert assets["majority_answer"] in assets["labels"]
  whole, blank = data.arrays("train"), data.blank_batch()
  batches = data.train_batches(assets, batch_size=6, seed=1)
  batch, ids = batches.batch(2), batches.record_ids(2)
  rows = [int(record_id.removeprefix("train/")) for record_id in ids]
  assert batch.keys() == whole.keys() == blank.keys()
  for key, values in batch.items():
    np.testing.assert_array_equal(values, whole[key][rows])
    assert values.dtype == blank[key].dtype
    assert values.shape[1:] == blank[key].shape[1:]


def test_is_a_plain_config_object():
  assert EmojiClips.__dataclass_params__.frozen
  hints = typing.get_type_hints(EmojiClips)
  for field in dataclasses.fields(EmojiClips):
    assert isinstance(field.default, hints[field.name])
  assert hash(EmojiClips()) == hash(EmojiClips())


@pytest.mark.parametrize(
  ("settings", "match"),
  [
    ({"target": "name"}, "'emoji' or 'arrow'"),
    ({"test_tone": "green"}, "data.test_tone is 'green'"),
    ({"validation_tone": "dark"}, "hold out two tones"),
    ({"num_frames": 5}, "has to divide 24"),
    ({"num_frames": 0}, "has to divide 24"),
    ({"num_starts": 25}, "between 1 and 24"),
    ({"seed": -1}, "data.seed is -1"),
  ],
)
def test_bad_settings_are_explained(settings, match):
  with pytest.raises(ValueError, match=match) as refused:
    EmojiClips(**settings)
  assert "\n" not in str(refused.value)


def test_there_is_no_such_split(clips):
  del clips
  with pytest.raises(ValueError, match="'dev'; they have train"):
    EmojiClips().arrays("dev")


def test_data_that_were_never_prepared_are_named(tmp_path, monkeypatch):
  monkeypatch.setenv("MMJAX_CACHE", str(tmp_path))
  with pytest.raises(ValueError, match=r"mmjax\.data\.prepare emoji_clips"):
    EmojiClips().load_assets()
