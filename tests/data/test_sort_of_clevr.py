import collections
import dataclasses
import json
import typing

import numpy as np
import pytest
from PIL import Image

from mmjax.data import prepare, transforms
from mmjax.data.builders import sort_of_clevr as builder
from mmjax.data.sort_of_clevr import SortOfClevr
from mmjax.data.synthetic import sort_of_clevr as scenes

WORDS = list(scenes.COLORS)
SCENES = [scenes.draw_scene(scenes.make_rng(7, i)) for i in range(60)]


def find_objects(image):
  """Colour → (column, row, shape), by walking over the pixels."""
  pixels = collections.defaultdict(list)
  for row, line in enumerate(image.tolist()):
    for column, pixel in enumerate(line):
      pixels[tuple(pixel)].append((column, row))
  white = pixels.pop((255, 255, 255))
  assert len(white) + sum(map(len, pixels.values())) == 75 * 75
  found = {}
  for name, color in scenes.COLORS.items():
    at = pixels.pop(color)
    shape = {121: "square", 97: "circle"}[len(at)]
    found[name] = (*np.mean(at, axis=0), shape)
  assert not pixels, "nothing but six colours on white"
  return found


def answer(objects, text):
  """Answers a question by its words, from what is seen in the picture."""
  words = text.removesuffix("?").split()
  color = next(word for word in words if word in objects)
  column, row, shape = objects[color]

  def distance(other):
    return np.hypot(objects[other][0] - column, objects[other][1] - row)

  others = sorted(set(objects) - {color}, key=distance)
  if "nearest" in words:
    return objects[others[0]][2]
  if "furthest" in words:
    return objects[others[-1]][2]
  if words[:2] == ["how", "many"]:
    return str(sum(each[2] == shape for each in objects.values()))
  if words[-1] == "left":
    return "yes" if column < 37.5 else "no"
  if words[-1] == "top":
    return "yes" if row < 37.5 else "no"
  return shape


def test_all_answers_are_those_of_the_picture():
  for scene in SCENES:
    objects = find_objects(scenes.render(scene))
    questions = scenes.list_questions(scene)
    assert len({question.text for question in questions}) == 36
    for question in questions:
      assert question.answer == answer(objects, question.text)
    kinds = collections.Counter(question.type for question in questions)
    assert kinds == {"non-relational": 18, "relational": 18}


def test_objects_share_no_pixel_and_answers_are_never_ties():
  for scene in SCENES:
    found = find_objects(scenes.render(scene))  # no pixel is covered
    for name, (column, row), shape in zip(WORDS, *scene, strict=True):
      assert found[name] == (column, row, scenes.SHAPES[shape])
      distances = sorted(
        (x - column) ** 2 + (y - row) ** 2 for x, y, _ in found.values()
      )
      assert distances[1] < distances[2]
      assert distances[-2] < distances[-1]
    assert scene.positions.min() >= 5
    assert scene.positions.max() <= 69


def test_a_scene_by_hand():
  positions = [[10, 37], [10, 50], [38, 37], [60, 10], [25, 25], [50, 60]]
  scene = scenes.Scene(np.array(positions), np.array([0, 1, 1, 1, 0, 1]))
  answers = {q.text: q.answer for q in scenes.list_questions(scene)}
  assert answers["what is the shape of the red object?"] == "square"
  assert answers["is the red object on the left?"] == "yes"
  assert answers["is the blue object on the left?"] == "no"
  assert answers["is the blue object at the top?"] == "yes"
  assert answers["is the green object at the top?"] == "no"
  near = "what is the shape of the object nearest to the {} object?"
  far = "what is the shape of the object furthest from the {} object?"
  assert answers[near.format("red")] == "circle"  # green, 13 away
  assert answers[near.format("blue")] == "square"  # gray, 17.7
  assert answers[far.format("yellow")] == "circle"  # orange, 51.0
  assert answers[far.format("orange")] == "circle"  # green, 64.0
  same = "how many objects have the shape of the {} object?"
  assert answers[same.format("gray")] == "2"
  assert answers[same.format("orange")] == "4"


def test_states_say_what_the_picture_says():
  for scene in SCENES[:9]:
    states = scenes.describe(scene)
    assert states.shape == (6, scenes.NUM_FEATURES)
    assert states.dtype == np.float32
    for state, (column, row, shape) in zip(
      states, find_objects(scenes.render(scene)).values(), strict=True
    ):
      np.testing.assert_allclose(state[:2] * 32 + 37, [column, row], atol=1e-4)
      assert scenes.SHAPES[state[8:].argmax()] == shape
      assert sorted(state[2:]) == [0] * 6 + [1, 1]
    assert (states[:, 2:8] == np.eye(6)).all()
    again = scenes.read_scene(scenes.render(scene))
    np.testing.assert_array_equal(again.positions, scene.positions)
    np.testing.assert_array_equal(again.shapes, scene.shapes)


def test_pictures_of_something_else_have_no_states():
  image = scenes.render(SCENES[0])
  erased = np.where(
    (image == scenes.COLORS["gray"]).all(-1, keepdims=True), 255, image
  )
  for wrong in (image[:, 1:], erased.astype(np.uint8), 255 - image):
    with pytest.raises(ValueError, match="use a model of pixels") as refused:
      scenes.read_scene(wrong)
    assert "\n" not in str(refused.value)


def test_a_seed_and_a_number_decide_a_scene():
  one, again, *others = (
    scenes.draw_scene(scenes.make_rng(*key))
    for key in [(0, 5), (0, 5), (0, 6), (1, 5)]
  )
  assert (one.positions == again.positions).all()
  assert all((one.positions != each.positions).any() for each in others)
  # Pinned, so that no later version makes other data under the same name.
  assert one.positions.tolist() == [
    *([50, 29], [59, 40], [30, 31]),
    *([30, 13], [30, 46], [56, 15]),
  ]
  assert one.shapes.tolist() == [0, 1, 1, 0, 1, 1]


def test_questions_are_drawn_evenly():
  counts = collections.Counter()
  for i, scene in enumerate(SCENES):
    drawn = scenes.draw_questions(scene, scenes.make_rng(3, i), 90)
    assert [q.type for q in drawn] == sorted(q.type for q in drawn)
    counts.update(question.text for question in drawn)
  assert len(counts) == 36
  expected = 2 * 90 * len(SCENES) / 36
  assert all(abs(n - expected) < 5 * expected**0.5 for n in counts.values())
  # A bag of words tells all questions apart.
  bags = {tuple(sorted(text.split())) for text in counts}
  assert len(bags) == 36


def test_splits_are_the_published_ones(sort_of_clevr):
  sizes = {
    split: sort_of_clevr.list_scenes(split)
    for split in ("train", "validation", "test")
  }
  assert {split: len(found) for split, found in sizes.items()} == {
    "train": 9_300,
    "validation": 500,
    "test": 200,
  }
  ids = [image for found in sizes.values() for image in found]
  assert sorted(ids) == list(range(10_000))
  assert sorted(sizes["test"]) == list(range(9_800, 10_000))
  # No scene of a split is in another one.
  seen = {
    (scene.positions.tobytes(), scene.shapes.tobytes())
    for found in sizes.values()
    for scene in found.values()
  }
  assert len(seen) == 10_000


def test_records_are_drawn_from_their_numbers(sort_of_clevr):
  for number, record_id in [(9_805, "test/9805/3"), (2, "train/2/19")]:
    record = builder.make_record(number)
    split, _, question = record_id.split("/")
    scene = sort_of_clevr.list_scenes(split)[number]
    np.testing.assert_array_equal(scene.positions, record["positions"])
    np.testing.assert_array_equal(
      sort_of_clevr.load_image(record_id), scenes.render(scene)
    )
    listed = sort_of_clevr.list_examples(split)[record_id]
    asked = record["questions"][int(question)]
    assert listed == {
      **{key: asked[key] for key in ("text", "answer", "type")},
      "image_id": number,
    }


def test_every_test_question_is_answered_by_its_picture(
  sort_of_clevr, sort_of_clevr_assets
):
  batches = sort_of_clevr.eval_batches(
    sort_of_clevr_assets, "test", batch_size=400
  )
  listed, seen = sort_of_clevr.list_examples("test"), []
  kinds = collections.Counter()
  for step, batch in enumerate(batches.iterate()):
    found = [find_objects(image) for image in batch["image"][:2]]
    for place, record_id in enumerate(batches.record_ids(step)):
      example = listed[record_id]
      label = sort_of_clevr_assets["labels"][batch["label"][place]]
      kind = sort_of_clevr_assets["question_types"][
        batch["question_type"][place]
      ]
      assert (label, kind) == (example["answer"], example["type"])
      image = batch["image_index"][place]
      if image < len(found):
        assert answer(found[image], example["text"]) == label
      kinds[kind] += 1
      seen.append(record_id)
  assert len(seen) == len(set(seen)) == 4_000
  assert kinds == {"non-relational": 2_000, "relational": 2_000}


def test_assets(sort_of_clevr_assets):
  assert sort_of_clevr_assets["labels"] == [
    *("1", "2", "3", "4", "5", "6"),
    *("circle", "no", "square", "yes"),
  ]
  assert sort_of_clevr_assets["question_types"] == list(scenes.TYPES)
  assert len(sort_of_clevr_assets["vocabulary"]) == 26
  assert len(sort_of_clevr_assets["question_prior"]) == 36
  assert json.loads(json.dumps(sort_of_clevr_assets)) == sort_of_clevr_assets


def test_objects_and_pixels_are_the_same_batches(
  sort_of_clevr, sort_of_clevr_assets
):
  settings = {"batch_size": 60, "seed": 3}
  of_objects = SortOfClevr(shown="objects")
  pixels = sort_of_clevr.train_batches(sort_of_clevr_assets, **settings)
  states = of_objects.train_batches(sort_of_clevr_assets, **settings)
  seen, described = pixels.batch(4), states.batch(4)
  assert pixels.record_ids(4) == states.record_ids(4)
  assert seen["image"].shape == (3, 75, 75, 3)
  for image, objects in zip(seen["image"], described["objects"], strict=True):
    np.testing.assert_array_equal(
      scenes.describe(scenes.read_scene(image)), objects
    )
  for key in ("text", "text_mask", "label", "question_type", "example_mask"):
    np.testing.assert_array_equal(seen[key], described[key])
  index = np.repeat(np.arange(3), 20)
  np.testing.assert_array_equal(seen["image_index"], index)
  np.testing.assert_array_equal(described["objects_index"], index)


def test_shards_hold_whole_scenes(sort_of_clevr_assets):
  data = SortOfClevr(shown="objects", questions_per_image=5)
  settings = {"seed": 3, "num_shards": 2}
  with pytest.raises(ValueError, match="multiple of 10"):
    data.train_batches(sort_of_clevr_assets, batch_size=15, **settings)
  batches = data.train_batches(sort_of_clevr_assets, batch_size=30, **settings)
  batch = batches.batch(1)
  assert batch["objects"].shape == (2, 3, 6, 10)
  assert batch["text"].shape == (2, 15, 12)
  index = np.repeat(np.arange(3), 5)
  assert (batch["objects_index"] == index).all()


@pytest.mark.parametrize("shown", ["image", "objects"])
def test_one_example_of_the_user(shown, sort_of_clevr_assets, tmp_path):
  path = tmp_path / "scene.png"
  Image.fromarray(scenes.render(SCENES[3])).save(path)
  data = SortOfClevr(shown=shown)
  batch, notes = data.encode_example(
    sort_of_clevr_assets, image=path, text="Is the PINK object on the left?"
  )
  assert "'pink'" in notes[0]
  assert batch["image"].shape == (1, 75, 75, 3)
  blank = data.blank_batch()
  for key, values in blank.items():
    assert batch[key].shape == values.shape
    assert batch[key].dtype == values.dtype
  if shown == "objects":
    np.testing.assert_array_equal(
      batch["objects"][0], scenes.describe(SCENES[3])
    )
    small = transforms.open_image(path).resize((31, 31))
    with pytest.raises(ValueError, match="use a model of pixels"):
      data.encode_example(sort_of_clevr_assets, image=small, text="red?")


def test_bad_settings_are_explained(sort_of_clevr):
  for call, match in [
    (lambda: SortOfClevr(shown="sound"), "data.shown is 'sound'"),
    (lambda: SortOfClevr("objects", image_size=64), "image_size is 64"),
    (lambda: SortOfClevr(questions_per_image=0), "data.questions_per_image"),
    (lambda: SortOfClevr(max_words=11).load_assets(), "to at least 12"),
    (lambda: sort_of_clevr.open_split("dev"), "sort_of_clevr has no split"),
    (lambda: sort_of_clevr.load_image("test/9800/20"), "no record"),
    (lambda: sort_of_clevr.load_image("train/9800/0"), "no record"),
  ]:
    with pytest.raises(ValueError, match=match):
      call()


def test_a_generated_set_needs_no_folder(sort_of_clevr, capsys):
  del sort_of_clevr
  assert prepare.main(["sort_of_clevr"]) == 0
  with pytest.raises(SystemExit) as refused:
    prepare.main(["sort_of_clevr", "--manual-dir", "x"])
  assert refused.value.code == 2
  assert "leave --manual-dir out" in capsys.readouterr().err


def test_is_a_plain_config_object():
  hints = typing.get_type_hints(SortOfClevr)
  for field in dataclasses.fields(SortOfClevr):
    assert isinstance(field.default, hints[field.name])
  assert hash(SortOfClevr()) == hash(SortOfClevr())


def test_objects_lie_where_their_colour_is(sort_of_clevr_assets):
  data = SortOfClevr(shown="objects")
  for scene in SCENES[:5]:
    image = Image.fromarray(scenes.render(scene))
    batch, _ = data.encode_example(
      sort_of_clevr_assets, image=image, text="what is the red object?"
    )
    ((name, (labels, places)),) = data.place_tokens(batch).items()
    assert (name, labels) == ("objects", list(scenes.COLORS))
    for color, (x, y) in zip(labels, places * 75, strict=True):
      assert image.getpixel((int(x), int(y))) == scenes.COLORS[color]
  assert SortOfClevr().place_tokens(batch) == {}
