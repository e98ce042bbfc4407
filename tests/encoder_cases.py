"""Encoders of sound, records, features and bags of words, for their contract.

A case is a module, its input, the shape of its tokens, its parameters and the
mask that comes out.
"""

import numpy as np

from mmjax.encoders.audio import ConvTransformerEncoder, FrameEncoder
from mmjax.encoders.bag_of_words import BagOfWords
from mmjax.encoders.features import FeatureEncoder
from mmjax.encoders.front_end import FrontEnd
from mmjax.encoders.records import RecordMlp, RecordTransformer
from mmjax.encoders.spectrogram import SpectrogramEncoder

_RNG = np.random.default_rng(2)
_NAN = np.nan

# 16 samples under a window, 8 from one to the next.
LOG_MEL = FrontEnd(800, window_seconds=0.02, num_mels=5)
MFCC = FrontEnd(
  800, "mfcc", window_seconds=0.02, num_mels=5, num_coefficients=3
)
WAVES = _RNG.uniform(-1, 1, (3, 53)).astype(np.float32)
WAVES_MASK = np.arange(53) < np.array([[37], [0], [53]])
HEARD = np.arange(7) < np.array([[5], [0], [7]])  # its frames

FRAMES = _RNG.normal(size=(3, 11, 7)).astype(np.float32)
FRAMES_MASK = np.array(
  [[1] * 8 + [0] * 3, [0] * 11, [1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1]], bool
)

CARDINALITIES = (0, 3, 0, 5, 2)
RECORDS = np.array(
  [
    [1.3, _NAN, _NAN, 4, 1],
    [2.1, 99, _NAN, -1, 0],
    [_NAN, 2, -0.7, _NAN, _NAN],
  ],
  np.float32,
)
ROWS_MASK = np.array([True, False, True])

WORDS = _RNG.integers(0, 11, (3, 7)).astype(np.int32)
WORDS_MASK = np.array(
  [[1, 1, 1, 1, 0, 0, 0], [0] * 7, [1, 0, 1, 0, 1, 1, 1]], bool
)


def _any_of(mask, size):
  """Whether any of each `size` steps is present."""
  starts = range(0, mask.shape[1], size)
  return np.stack([mask[:, i : i + size].any(1) for i in starts], axis=1)


def _lstm(inputs, width):
  return inputs * 4 * width + 4 * width + 4 * width * width


_BLOCK = 24 + 162 + 149  # of width 6, hidden layer 11
_OUT_7 = (7 * 7 + 7) + 14

# name: module, (values, mask), tokens, parameters, mask of the tokens
CASES = {
  "spectrogram": (
    SpectrogramEncoder(7, features=(3, 5)),
    (FRAMES, FRAMES_MASK),
    (3, 3 * 2, 7),
    (9 * 3 + 6) + (27 * 5 + 10) + (5 * 7 + 7) + 14,
    np.repeat(_any_of(FRAMES_MASK, 4), 2, axis=1),
  ),
  "spectrogram_wave": (
    SpectrogramEncoder(7, LOG_MEL, features=(5,), norm="layer"),
    (WAVES, WAVES_MASK),
    (3, 4 * 3, 7),
    (9 * 5 + 5 + 10) + (5 * 7 + 7) + 14,
    np.repeat(_any_of(HEARD, 2), 3, axis=1),
  ),
  "frames_lstm": (
    FrameEncoder(7, stack_size=3),  # 4 for each direction
    (FRAMES, FRAMES_MASK),
    (3, 4, 7),
    2 * _lstm(21, 4) + (8 * 7 + 7) + 14,
    _any_of(FRAMES_MASK, 3),
  ),
  "frames_gru_wave": (
    FrameEncoder(7, MFCC, cell="gru", bidirectional=False),
    (WAVES, ROWS_MASK),
    (3, 7, 7),
    (3 * 21 + 21 + 7 * 21 + 7) + _OUT_7,
    np.repeat(ROWS_MASK[:, None], 7, axis=1),
  ),
  "conv_transformer": (
    ConvTransformerEncoder(6, num_layers=1, num_heads=3, mlp_dim=11),
    (FRAMES, FRAMES_MASK),
    (3, 6, 6),
    (21 * 6 + 6 + 12) + (18 * 6 + 6 + 12) + _BLOCK + 12,
    _any_of(FRAMES_MASK, 2),
  ),
  "record_transformer": (
    RecordTransformer(
      6,
      CARDINALITIES,
      num_layers=1,
      num_heads=3,
      mlp_dim=11,
      means=(0.5, 0.2),
      scales=(2.0, 0.3),
    ),
    (RECORDS, ROWS_MASK),
    (3, 5, 6),
    (10 + 2 + 2 + 5) * 6 + _BLOCK + 12,
    np.repeat(ROWS_MASK[:, None], 5, axis=1),
  ),
  "record_mlp": (
    RecordMlp(7, CARDINALITIES, hidden=(11,), embedding_dim=3),
    (RECORDS, ROWS_MASK),
    (3, 1, 7),
    (10 + 2 + 2 + 5) * 3 + (15 * 11 + 11) + (11 * 7 + 7) + 14,
    ROWS_MASK[:, None],
  ),
  "features_vector": (
    FeatureEncoder(7),
    (FRAMES[:, 0], ROWS_MASK),
    (3, 1, 7),
    _OUT_7,
    ROWS_MASK[:, None],
  ),
  "features_lstm": (
    FeatureEncoder(7, body="lstm"),
    (FRAMES, FRAMES_MASK),
    (3, 11, 7),
    _OUT_7 + 2 * _lstm(7, 4) + (8 * 7 + 7) + 14,
    FRAMES_MASK,
  ),
  "features_transformer": (
    FeatureEncoder(
      6, body="transformer", positions=True, num_heads=3, mlp_dim=11
    ),
    (FRAMES, FRAMES_MASK),
    (3, 11, 6),
    (7 * 6 + 6 + 12) + _BLOCK + 12,
    FRAMES_MASK,
  ),
  "features_mlp_without_norm": (
    FeatureEncoder(6, body="mlp", norm=False, mlp_dim=11),
    (FRAMES, FRAMES_MASK),
    (3, 11, 6),
    (7 * 6 + 6) + 149 + 12,
    FRAMES_MASK,
  ),
  "bag_of_words": (
    BagOfWords(11, 7, counting="log", idf=tuple(np.linspace(1, 3, 11))),
    (WORDS, WORDS_MASK),
    (3, 1, 7),
    (11 * 7 + 7) + 14,
    WORDS_MASK.any(1, keepdims=True),
  ),
}

# Matrix products that stay in float32 whatever the dtype: those of front ends.
FLOAT32_PRODUCTS = {"spectrogram_wave": 1, "frames_gru_wave": 2}
