import json

import numpy as np
import pytest

from mmjax.data.tokenizers import WordTokenizer, split_words


def test_words_are_lower_case_without_punctuation():
  text = "What's THE blue-ish Größe, (no. 3)?"
  expected = ["what's", "the", "blue", "ish", "größe", "no", "3"]
  assert split_words(text) == expected
  assert split_words(" ?! ") == []


def test_build_encode_and_json_round_trip():
  built = WordTokenizer.build(["b a?", "C a"])
  tokenizer = WordTokenizer(json.loads(json.dumps(list(built.vocabulary))))
  assert list(tokenizer.vocabulary) == ["<pad>", "<unk>", "a", "b", "c"]
  encoded = tokenizer.encode("c zebra A zebra lion b", 5)
  np.testing.assert_array_equal(encoded.ids, [4, 1, 2, 1, 1])
  assert encoded.ids.dtype == np.int32
  assert encoded.mask.all()
  assert encoded.unknown == ["zebra", "lion"]
  assert encoded.num_words == 6
  short = tokenizer.encode("b", 3)
  np.testing.assert_array_equal(short.ids, [3, 0, 0])
  np.testing.assert_array_equal(short.mask, [True, False, False])


def test_special_words_cannot_be_typed():
  tokenizer = WordTokenizer.build(["a <pad> <unk>"])
  assert len(tokenizer.vocabulary) == 5
  assert tokenizer.encode("<pad>", 1).ids[0] == 3


@pytest.mark.parametrize(
  "words", [[], ["a", "b"], ["<unk>", "<pad>"], ["<pad>", "<unk>", "a", "a"]]
)
def test_bad_vocabularies_are_refused(words):
  with pytest.raises(ValueError, match="vocabulary"):
    WordTokenizer(words)
