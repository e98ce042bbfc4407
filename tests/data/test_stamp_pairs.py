"""Phrases, lengths and false captions of the stamps, and how many there are."""

import numpy as np
import pytest

from mmjax.data import stamp_pairs, tokenizers
from mmjax.data.stamps import SPLITS, Stamps


def test_phrases_begin_at_prepositions():
  for text, expected in (
    ("pigeon", ["pigeon"]),
    ("of mice and men", ["of mice", "and men"]),
    (
      "the sign for the letter u in sign language",
      ["the sign", "for the letter u", "in sign language"],
    ),
    ("x " + "of x " * 9, ["x", *["of x"] * 6, "of x of x of x"]),
  ):
    words = text.split()
    spans = stamp_pairs.find_phrases(words)
    assert [" ".join(words[i:j]) for i, j in spans] == expected
  padded, mask = stamp_pairs.encode_phrases([[(0, 2)], [(0, 1), (1, 4)]])
  assert padded.shape == (2, 8, 2)
  assert mask.sum(axis=1).tolist() == [1, 2]
  assert padded[mask].tolist() == [[0, 2], [0, 1], [1, 4]]
  assert not padded[~mask].any()


def test_false_captions_are_of_the_same_category_if_one_is():
  captions = ["a", "a", "b", "c", "d"]
  others = stamp_pairs.list_others(captions, ["x", "x", "x", "x", "y"])
  expected = [[2, 3], [2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2, 3]]
  assert [each.tolist() for each in others] == expected
  chosen = stamp_pairs.choose_others(others)
  assert all(one in each for one, each in zip(chosen, others, strict=True))
  equal = stamp_pairs.list_others(["a", "a"], ["x", "x"])
  assert stamp_pairs.choose_others(equal).tolist() == [0, 1]


def test_classes_of_length():
  classes = [stamp_pairs.classify_length(number) for number in (1, 2, 3, 4, 32)]
  short, three, long = stamp_pairs.LENGTHS
  assert classes == [short, short, three, long, long]


@pytest.mark.slow
def test_the_published_package_is_what_the_documentation_says():
  # Fetches 161 MB.
  Stamps().prepare()
  vocabulary = set(Stamps().load_assets()["vocabulary"])
  sizes, lengths, whole, unknown = {}, {}, {}, {}
  for split in SPLITS:
    types = Stamps().arrays(split)["question_type"]
    listed = Stamps().list_examples(split).values()
    words = [tokenizers.split_words(example["text"]) for example in listed]
    sizes[split] = len(words)
    lengths[split] = np.bincount(types).tolist()
    whole[split] = sum(len(stamp_pairs.find_phrases(w)) == 1 for w in words)
    unknown[split] = sum(not vocabulary.issuperset(w) for w in words)
  assert sizes == {"train": 549, "validation": 118, "test": 118}
  assert lengths == {
    "train": [179, 209, 161],
    "validation": [49, 35, 34],
    "test": [39, 40, 39],
  }
  assert whole == {"train": 427, "validation": 96, "test": 89}
  assert unknown == {"train": 0, "validation": 88, "test": 86}


@pytest.mark.slow
def test_lengths_and_phrases_of_the_test_captions():
  """What the results say of them, each by class of length."""
  Stamps().prepare()
  batch = Stamps(task="matching").arrays("test")
  types, true = batch["question_type"], batch["phrase_mask"].sum(axis=1)
  false = batch["negative_phrase_mask"].sum(axis=1)
  words, others = (batch[f"{n}_mask"].sum(axis=1) for n in ("text", "negative"))

  def count(rows):
    return np.bincount(types[rows], minlength=3).tolist()

  assert count(true == 1) == [39, 40, 10]
  assert count((true == 1) & (false == 1)) == [31, 29, 6]
  assert count(others > words) == [36, 13, 5]
  assert count(others < words) == [0, 18, 30]
  unknown = Stamps().load_assets()["vocabulary"].index(tokenizers.UNKNOWN)
  assert count((batch["text"] == unknown).any(axis=1)) == [33, 21, 32]
  alike = (batch["text"][:, None] == batch["text"]).all(axis=-1)
  equal = batch["caption_id"][:, None] == batch["caption_id"]
  assert (alike & ~equal).any(axis=1).sum() == 35
