import collections
import itertools

import numpy as np
import pytest
import scene_readers
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from mmjax.data.synthetic import scene_captions, scene_matching, scenes
from mmjax.data.synthetic.scene_matching import SceneMatching

SMALL = {"num_scenes": 120, "num_eval_scenes": 48}


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_captions_are_true_and_negatives_false_by_one_word(split):
  data = SceneMatching(**SMALL)
  batch = data.arrays(split)
  listed = data.list_examples(split)
  kinds = collections.Counter()
  for row, example in enumerate(listed.values()):
    objects = scene_readers.list_objects(batch, row)
    assert scene_readers.judge_caption(example["text"], objects)
    assert not scene_readers.judge_caption(example["negative"], objects)
    words, other = example["text"].split(), example["negative"].split()
    changed = [
      (a.strip(","), b.strip(","))
      for a, b in zip(words, other, strict=True)
      if a != b
    ]
    assert len(changed) == 1
    group = {
      "colour": set(scenes.COLOURS),
      "shape": set(scenes.SHAPES),
      "relation": {"left", "right", "above", "below"},
    }[example["negative_kind"]]
    assert set(changed[0]) <= group
    kinds[example["type"], example["negative_kind"]] += 1
    for text in (example["text"], example["negative"]):
      names = [part[:2] for part in map(str.split, text.split("the ")[1:])]
      names = [tuple(word.strip(",") for word in name) for name in names]
      assert len(set(names)) == len(names)
    names = {(o["colour"], o["shape"]) for o in objects}
    present = {
      tuple(word.strip(",") for word in part.split()[:2])
      for part in example["negative"].split("the ")[1:]
    } <= names
    assert example["negative_is_present"] == present
  # Lengths and kinds of negatives come equally often, in all combinations.
  assert len(kinds) == 12
  assert set(kinds.values()) == {len(listed) // 12}


def test_words_phrases_and_masks_agree_with_the_text():
  data = SceneMatching(**SMALL)
  batch, assets = data.arrays("test"), data.load_assets()
  vocabulary = assets["vocabulary"]
  for row, example in enumerate(data.list_examples("test").values()):
    words = example["text"].replace(",", "").split()
    ids = batch["text"][row][batch["text_mask"][row]]
    assert [vocabulary[i] for i in ids] == words
    other = batch["negative"][row][batch["text_mask"][row]]
    negative = example["negative"].replace(",", "").split()
    assert [vocabulary[i] for i in other] == negative
    assert not batch["negative"][row][~batch["text_mask"][row]].any()
    spans = batch["phrase_spans"][row][batch["phrase_mask"][row]]
    phrases = [words[start:stop] for start, stop in spans]
    assert list(itertools.chain(*phrases)) == words
    assert all(len(phrase) == 3 for phrase in phrases[::2])
    assert all("is" in phrase for phrase in phrases[1::2])
    assert len(phrases) == 2 * (batch["question_type"][row] + 2) + 1
    assert example["type"] == f"{len(phrases) // 2} relations"
    facts = batch["phrase_facts"][row]
    assert [
      f"the {scenes.COLOURS[fact // 4]} {scenes.SHAPES[fact % 4]}".split()
      for fact in facts[: len(phrases) : 2]
    ] == phrases[::2]
    assert all(
      scenes.RELATIONS[fact] in " ".join(phrase)
      for fact, phrase in zip(
        facts[1 : len(phrases) : 2], phrases[1::2], strict=True
      )
    )
  longest = scene_captions.Caption((0, 1, 2, 3, 4, 5), (0, 1, 0, 1, 0))
  spans = scene_captions.find_spans(longest)
  assert spans[-1][1] == scene_matching.MAX_WORDS
  assert (batch["label"] == 1).all()


def test_other_true_pairs_are_found():
  # Few objects in three colours or so: many captions are true elsewhere too.
  data = SceneMatching(num_scenes=60, max_objects=24, picture_size=150)
  batch = data.arrays("train")
  texts = [e["text"] for e in data.list_examples("train").values()]
  batch["example_mask"][5] = False
  found = scene_matching.find_true_pairs(batch)
  expected = np.array(
    [
      [scene_readers.judge_caption(text, objects) for text in texts]
      for objects in (scene_readers.list_objects(batch, i) for i in range(60))
    ]
  )
  expected[5] = expected[:, 5] = False
  np.testing.assert_array_equal(found, expected)
  assert found.sum() > 65


def test_judgement_shows_one_of_both_captions():
  data = SceneMatching(task="judgement", **SMALL)
  choice = SceneMatching(**SMALL)
  batch, both = data.arrays("train"), choice.arrays("train")
  assert "negative" not in batch
  for row, label in enumerate(batch["label"]):
    key = "text" if label else "negative"
    np.testing.assert_array_equal(batch["text"][row], both[key][row])
  true = scene_matching.find_true_pairs(batch).diagonal()
  np.testing.assert_array_equal(true, batch["label"].astype(bool))
  answers = collections.Counter(
    (e["type"], e["negative_kind"], e["answer"])
    for e in data.list_examples("train").values()
  )
  assert len(answers) == 24
  assert set(answers.values()) == {5}


def test_the_text_alone_does_not_tell():
  # A guesser who counts how often each pair of words is in true captions.
  data = SceneMatching(num_scenes=1_800, num_eval_scenes=1_200)

  def read(split):
    examples = data.list_examples(split).values()
    for key in ("text", "negative"):
      texts = [e[key].replace(",", "").split() for e in examples]
      yield [[*words, *itertools.pairwise(words)] for words in texts]

  true, false = (
    collections.Counter(itertools.chain(*texts)) for texts in read("train")
  )

  def score(words):
    odds = [np.log((true[w] + 1) / (false[w] + 1)) for w in words]
    return sum(odds)

  right = [score(a) > score(b) for a, b in zip(*read("test"), strict=True)]
  assert abs(np.mean(right) - 0.5) < 0.05


def test_a_row_depends_on_seed_split_and_row_only():
  short, long = SceneMatching(num_scenes=5), SceneMatching(num_scenes=9)
  other = SceneMatching(num_scenes=5, seed=3)
  one, two, three = (d.arrays("train") for d in (short, long, other))
  for key, values in one.items():
    np.testing.assert_array_equal(values, two[key][:5])
  assert (one["image"] != three["image"]).any()


def test_batches_hold_every_row_and_fit_the_blank_one():
  data = SceneMatching(num_scenes=11, num_eval_scenes=7)
  assets = data.load_assets()
  blank = data.blank_batch()
  batches = data.eval_batches(assets, "test", batch_size=4)
  ids = [i for n in range(2) for i in batches.record_ids(n)]
  assert (
    ids
    == [f"test/{row}" for row in range(7)]
    == list(data.list_examples("test"))
  )
  train = data.train_batches(assets, batch_size=6, seed=0, num_shards=2)
  for key, values in train.batch(0).items():
    assert values.shape == (2, 3, *blank[key].shape[1:])
    assert values.dtype == blank[key].dtype
    assert batches.batch(1)[key].shape == (4, *blank[key].shape[1:])
  assert batches.batch(1)["example_mask"].tolist() == [True] * 3 + [False]
  np.testing.assert_array_equal(
    data.load_image("test/3"), data.arrays("test")["image"][3]
  )


def test_captions_of_full_scenes_have_negatives_too():
  # With all 24 kinds there, an exchanged colour is always present.
  settings = scenes.SceneSettings(
    picture_size=160, min_objects=24, max_objects=24, margin=3
  )
  rng = np.random.default_rng(0)
  scene = scenes.draw_scene(settings, rng)
  for kind in scene_captions.NEGATIVE_KINDS:
    for length in (1, 5, 20):
      caption = scene_captions.draw_caption(scene, length, rng)
      assert scene_captions.is_true(caption, scene)
      negative = scene_captions.draw_negative(caption, scene, kind, rng)
      assert negative.is_present
      assert not scene_captions.is_true(negative.caption, scene)


@pytest.mark.parametrize(
  ("changes", "match"),
  [
    ({"task": "rank"}, r"data\.task is 'rank'; it is one of choice, judgement"),
    ({"num_scenes": 0}, r"data\.num_scenes is 0"),
    ({"min_objects": 5}, r"data\.min_objects is 5.*at least 6"),
    ({"seed": -1}, r"data\.seed is -1"),
    ({"margin": 0}, r"data\.margin is 0"),
  ],
)
def test_settings_that_make_no_sense_are_refused(changes, match):
  with pytest.raises(ValueError, match=match):
    SceneMatching(**changes)


def test_unknown_splits_and_records_are_refused():
  data = SceneMatching(num_scenes=3, num_eval_scenes=3)
  with pytest.raises(ValueError, match=r"'dev'.*train, validation, test"):
    data.arrays("dev")
  for record in ("test/3", "test/x", "test"):
    with pytest.raises(ValueError, match=f"no record '{record}'"):
      data.load_image(record)


@pytest.mark.slow
def test_what_the_documentation_says_of_captions():
  """The shares that docs/data.md gives, counted at full size."""
  data = SceneMatching(num_scenes=8_000, num_eval_scenes=2_000)
  texts = {
    split: [
      [e[key].replace(",", "") for e in data.list_examples(split).values()]
      for key in ("text", "negative")
    ]
    for split in ("train", "test")
  }
  shares = []
  for longest in (1, 4, 8):
    counter = CountVectorizer(ngram_range=(1, longest), dtype=np.float32)
    true, false = texts["train"]
    counter.fit([*true, *false])
    apart = counter.transform(true) - counter.transform(false)
    model = LogisticRegression(fit_intercept=False, max_iter=200)
    model.fit(sparse.vstack([apart, -apart]), np.repeat([1, 0], len(true)))
    apart = counter.transform(texts["test"][0]) - counter.transform(
      texts["test"][1]
    )
    shares.append((model.decision_function(apart) > 0).mean())
  np.testing.assert_allclose(shares, [0.51, 0.52, 0.50], atol=0.01)
  batch = SceneMatching(num_eval_scenes=500).arrays("test")
  others = scene_matching.find_true_pairs(batch).sum(axis=0) - 1
  short, longer = (others[batch["question_type"] == kind] for kind in (0, 1))
  assert [round(float(n.mean()), 1) for n in (short, longer)] == [2.3, 0.2]
  found = SceneMatching(num_eval_scenes=1_000).list_examples("test").values()
  absent = [
    [not e["negative_is_present"] for e in found if e["type"] == kind]
    for kind in (f"{length} relations" for length in (2, 3, 4, 5))
  ]
  assert [round(100 * np.mean(one)) for one in absent] == [21, 21, 27, 39]
  exchanged = [e for e in found if e["negative_kind"] != "relation"]
  assert 0.55 < np.mean([e["negative_is_present"] for e in exchanged]) < 0.65
