import collections
import dataclasses

import numpy as np
import pytest
import scene_readers
from PIL import Image

from mmjax.data.synthetic import scene_graph_vqa, scene_questions, scenes
from mmjax.data.synthetic.scene_graph_vqa import SceneGraphVqa

SMALL = {"num_scenes": 60, "num_eval_scenes": 30}


@pytest.fixture(scope="module")
def data():
  return SceneGraphVqa(**SMALL)


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_answers_are_those_of_a_reader_of_the_text(data, split):
  batch = data.arrays(split)
  labels = data.load_assets()["labels"]
  for row, example in enumerate(data.list_examples(split).values()):
    image = batch["objects_index"][row]
    assert example["image_id"] == image == batch["image_index"][row]
    objects = scene_readers.list_objects(batch, image)
    what, query, be, *phrase = example["text"].removesuffix("?").split()
    assert (what, be) == ("what", "is")
    path, crowds = scene_readers.read_phrase(phrase, objects)
    assert path[-1][query] == example["answer"] == labels[batch["label"][row]]
    names = [f"{o['colour']} {o['shape']}" for o in path]
    assert example["path"] == names
    assert len(set(names)) == len(names)
    # No hop could be left out: its noun alone would fit several objects.
    assert all(len(crowd) >= 2 for crowd in crowds)
    hops = len(path) - 1
    assert batch["question_type"][row] == hops - 1
    assert example["type"] == ("1 hop" if hops == 1 else f"{hops} hops")
    places = batch["path"][row][batch["path_mask"][row]]
    assert [objects[place] for place in places] == path
    if query == "colour":
      assert phrase[1] not in scenes.COLOURS
    else:
      assert phrase[1] not in scenes.SHAPES


def test_each_scene_has_every_kind_of_question_once(data):
  kinds = collections.Counter(
    (e["image_id"], e["type"], e["text"].split()[1])
    for e in data.list_examples("train").values()
  )
  assert len(kinds) == 60 * 8
  assert set(kinds.values()) == {1}


def test_words_are_those_of_the_text(data):
  batch, assets = data.arrays("test"), data.load_assets()
  for row, example in enumerate(data.list_examples("test").values()):
    ids = batch["text"][row][batch["text_mask"][row]]
    words = [assets["vocabulary"][i] for i in ids]
    assert words == example["text"].removesuffix("?").split()
  assert 1 not in batch["text"]


def test_moves_are_all_that_a_loop_finds():
  settings = scenes.SceneSettings(
    picture_size=61, min_objects=5, max_objects=7, margin=3
  )
  for row in range(20):
    scene = scenes.draw_scene(
      settings, scenes.make_row_rng(0, "train", "x", row)
    )
    number = len(scene.colours)
    objects = [
      {
        "colour": scenes.COLOURS[scene.colours[i]],
        "shape": scenes.SHAPES[scene.shapes[i]],
        "x": scene.centres[i][0] / 64,
        "y": scene.centres[i][1] / 64,
      }
      for i in range(number)
    ]
    found = scene_questions.find_moves(scene)
    assert len(found) == number
    for start in range(number):
      expected = set()
      for r, relation in enumerate(scene_questions.RELATIONS):
        for n, noun in enumerate(scene_questions.NOUNS):
          which = "" if relation == "nearest" else "first "
          words = f"the {which}{noun} {relation} the".split()
          words += scenes.name_object(scene, start).split()
          try:
            path, crowds = scene_readers.read_phrase(words, objects)
          except (AssertionError, IndexError):
            continue
          if len(crowds[0]) >= 2:
            goal = next(i for i in range(number) if objects[i] is path[1])
            expected.add((r, n, goal))
      assert set(found[start]) == expected


def test_answers_are_balanced_and_guessers_are_poor():
  data = SceneGraphVqa(num_scenes=1_500, num_eval_scenes=400)
  train, test = data.arrays("train"), data.arrays("test")
  shares = np.bincount(train["label"], minlength=10) / len(train["label"])
  np.testing.assert_allclose(shares[:6], 1 / 12, atol=0.01)
  np.testing.assert_allclose(shares[6:], 1 / 8, atol=0.01)
  labels = data.load_assets()["labels"]
  majority = labels.index(data.load_assets()["majority_answer"])
  assert shares[majority] == shares.max()
  # One who knows the first nouns of the question, and what is asked.
  guesses = collections.defaultdict(collections.Counter)
  for text, label in zip(train["text"], train["label"], strict=True):
    guesses[tuple(text[:9])][label] += 1
  right = [
    guesses[tuple(text[:9])].most_common(1)[0][0] == label
    if tuple(text[:9]) in guesses
    else label == majority
    for text, label in zip(test["text"], test["label"], strict=True)
  ]
  assert np.mean(right) < 0.25


def test_the_last_noun_is_no_shortcut():
  """Neither what it fits, nor where among these the object stands, tells it."""
  data = SceneGraphVqa(num_scenes=300)
  batch = data.arrays("train")
  objects = [scene_readers.list_objects(batch, row) for row in range(300)]
  places, num_questions = collections.Counter(), collections.Counter()
  for row, example in enumerate(data.list_examples("train").values()):
    scene = objects[example["image_id"]]
    _, _, _, *phrase = example["text"].removesuffix("?").split()
    path, _ = scene_readers.read_phrase(phrase, scene)
    noun, relation = scene_readers.read_outermost(phrase)
    if relation == "nearest":
      continue
    axis = "x" if relation in ("left of", "right of") else "y"
    crowd = sorted(scene_readers.fit(noun, scene), key=lambda o: o[axis])
    if relation in ("right of", "below"):
      crowd.reverse()
    # The outermost on this side, and the other ones as seen from there.
    places[crowd.index(path[-1])] += 1
    num_questions.update(range(len(crowd)))
    assert batch["question_type"][row] == len(path) - 2
  shares = [places[i] / num_questions[i] for i in range(3)]
  assert num_questions[0] > 1_000
  assert max(shares) < 0.4, shares
  for but_named in (False, True):
    accuracy = scene_readers.last_noun_accuracy(
      data.list_examples("train").values(), objects, but_named=but_named
    )
    assert len(accuracy) == 5
    assert max(accuracy.values()) < 0.5, accuracy


def test_readers_of_the_last_noun_by_hand():
  objects = [
    {"colour": colour, "shape": shape}
    for colour, shape in (
      *(("red", "circle"), ("red", "cross"), ("blue", "circle")),
      *(("blue", "square"), ("green", "circle")),
    )
  ]
  colour = "what colour is the first {} left of the red {}?"
  shape = "what shape is the {} nearest the red cross?"
  for text, among_all, among_others in (
    (colour.format("object", "circle"), "blue", "blue"),
    (colour.format("circle", "cross"), "blue", "blue"),
    (colour.format("circle", "circle"), "blue", "blue"),
    (shape.format("object"), "circle", "circle"),
    (shape.format("red object"), "circle", "circle"),
    (shape.format("blue object"), "circle", "circle"),
    ("what colour is the cross nearest the red cross?", "red", "blue"),
  ):
    said = [
      scene_readers.answer_by_last_noun(text, objects, but_named=but_named)
      for but_named in (False, True)
    ]
    assert said == [among_all, among_others], text


def test_batches_hold_whole_scenes(data):
  assets, whole = data.load_assets(), data.arrays("train")
  batches = data.train_batches(assets, batch_size=32, seed=3)
  blank = data.blank_batch()
  ids = data.record_ids("train", 480)
  for step in (0, 17):
    batch = batches.batch(step)
    for row, record_id in enumerate(batches.record_ids(step)):
      source = ids.index(record_id)
      for key in scene_graph_vqa._QUESTION_KEYS:
        np.testing.assert_array_equal(batch[key][row], whole[key][source])
      scene = batch["objects_index"][row]
      for key in ("image", "objects", "graph_senders", "object_boxes"):
        np.testing.assert_array_equal(
          batch[key][scene], whole[key][source // 8]
        )
    assert len(batches.record_ids(step)) == 32
    for key, values in batch.items():
      assert values.shape[1:] == blank[key].shape[1:]
      assert values.dtype == blank[key].dtype
  assert len({*batches.record_ids(0), *batches.record_ids(1)}) == 64


def test_shards_hold_the_same_batch_in_parts(data):
  assets = data.load_assets()
  one = data.train_batches(assets, batch_size=48, seed=0)
  three = data.train_batches(assets, batch_size=48, seed=0, num_shards=3)
  assert one.record_ids(2) == three.record_ids(2)
  for key, values in three.batch(2).items():
    together = one.batch(2)[key]
    if key.endswith("_index"):
      assert values.tolist() == [np.repeat([0, 1], 8).tolist()] * 3
      continue
    np.testing.assert_array_equal(values.reshape(together.shape), together)


def test_evaluation_holds_every_question_once(data):
  assets = data.load_assets()
  batches = data.eval_batches(assets, "test", batch_size=64, num_shards=2)
  seen, count = [], 0
  for number, batch in enumerate(batches.iterate()):
    assert batch["label"].shape == (2, 32)
    assert batch["objects"].shape[:2] == (2, 4)
    seen += batches.record_ids(number)
    count += batch["example_mask"].sum()
  assert (
    seen == data.record_ids("test", 240) == list(data.list_examples("test"))
  )
  assert count == 240
  np.testing.assert_array_equal(
    data.load_image("test/7/3"), data.arrays("test")["image"][7]
  )


def test_a_row_depends_on_seed_split_and_row_only(data):
  longer = SceneGraphVqa(num_scenes=70).arrays("train")
  for key, values in data.arrays("train").items():
    np.testing.assert_array_equal(values, longer[key][: len(values)])
  other = SceneGraphVqa(seed=2, **SMALL)
  assert (other.arrays("train")["text"] != data.arrays("train")["text"]).any()
  for key, values in data.arrays("validation").items():
    np.testing.assert_array_equal(values, other.arrays("validation")[key])


def test_mistakes_are_explained(data):
  for changes, match in (
    ({"min_objects": 4}, r"data\.min_objects is 4.*at least 5"),
    ({"num_eval_scenes": 0}, r"data\.num_eval_scenes is 0"),
    ({"margin": 0}, r"data\.margin is 0"),
  ):
    with pytest.raises(ValueError, match=match):
      SceneGraphVqa(**changes)
  assets = data.load_assets()
  with pytest.raises(ValueError, match=r"training\.batch_size is 24.*of 16"):
    data.train_batches(assets, batch_size=24, seed=0, num_shards=2)
  with pytest.raises(ValueError, match=r"evaluation\.batch_size is 4.*of 8"):
    data.eval_batches(assets, "test", batch_size=4)
  for record in ("test/30/0", "test/0/8", "test/0", "test/x/0"):
    with pytest.raises(ValueError, match=f"no record '{record}'"):
      data.load_image(record)


def test_a_user_s_picture_is_read_as_those_of_the_data(data):
  batch, assets = data.arrays("test"), data.load_assets()
  text = data.list_examples("test")["test/3/5"]["text"]
  image = Image.fromarray(data.load_image("test/3/5"))
  one, notes = data.encode_example(assets, image=image, text=text)
  blank = data.blank_batch()
  assert notes == []
  assert set(one) == set(batch)
  for key, values in one.items():
    assert values.dtype == batch[key].dtype, key
    assert values.shape[1:] == batch[key].shape[1:] == blank[key].shape[1:]
    assert len(values) == 1
  row = 3 * 8 + 5
  for key in ("text", "text_mask"):
    np.testing.assert_array_equal(one[key][0], batch[key][row])
  expected = scene_readers.list_objects(batch, 3)
  found = scene_readers.list_objects(one, 0)
  assert len(found) == len(expected)
  assert all(each in expected for each in found)
  assert one["graph_mask"].sum() == batch["graph_mask"][3].sum()
  assert one["objects_index"].tolist() == [0] == one["image_index"].tolist()

  _, notes = data.encode_example(assets, image=image, text="a pink object?")
  assert "pink" in "".join(notes)
  with pytest.raises(ValueError, match="has no words"):
    data.encode_example(assets, image=image, text="?")
  photo = Image.new("RGB", (50, 40), "red")
  with pytest.raises(ValueError, match="cannot be read off this picture"):
    data.encode_example(assets, image=photo, text=text)
  fewer = dataclasses.replace(data, max_objects=6, read_objects=True)
  crowds = [
    f"test/{i}/0" for i, n in enumerate(batch["objects_mask"].sum(1)) if n > 6
  ]
  crowd = Image.fromarray(data.load_image(crowds[0]))
  with pytest.raises(ValueError, match="trained on at most 6"):
    fewer.encode_example(assets, image=crowd, text=text)
  pixels = dataclasses.replace(data, read_objects=False)
  one, _ = pixels.encode_example(assets, image=photo, text=text)
  assert one["image"].shape == (1, 64, 64, 3)
  assert not one["objects_mask"].any()
  assert not one["graph_mask"].any()


def test_two_hops_in_nine_are_nearest():
  """The figure of the documentation."""
  data = SceneGraphVqa(num_scenes=400)
  words = collections.Counter()
  for example in data.list_examples("train").values():
    for word in ("left", "right", "above", "below", "nearest"):
      words[word] += example["text"].split().count(word)
  assert words.total() == 400 * 20
  assert 0.2 < words["nearest"] / words.total() < 0.24


@pytest.mark.slow
def test_what_the_last_noun_is_worth():
  """In percent of the test split: in all, and by hops."""
  data = SceneGraphVqa()
  batch = data.arrays("test")
  number = data.num_eval_scenes
  objects = [scene_readers.list_objects(batch, row) for row in range(number)]
  listed = data.list_examples("test").values()
  found = []
  for but_named in (False, True):
    accuracy = scene_readers.last_noun_accuracy(
      listed, objects, but_named=but_named
    )
    kinds = ("all", "1 hop", "2 hops", "3 hops", "4 hops")
    found.append([round(100 * accuracy[kind], 1) for kind in kinds])
  assert found == [
    [41.6, 41.5, 41.9, 42.1, 40.9],
    [45.7, 43.3, 45.9, 47.5, 46.1],  # but for the object that is named
  ]
