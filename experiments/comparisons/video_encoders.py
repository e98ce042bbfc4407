"""Encoders of clips that comparisons of video hold against each other.

All but the 3-D CNN see each frame by the same convolutions. The graph of
patches has their cells as its nodes; for all others the cells of a frame are
put side by side, and make one vector.
"""

from typing import Any

import fiddle as fdl
from fiddle.experimental.auto_config import auto_config

from experiments.comparisons.fusions import HEADS, WIDTH
from mmjax.comparison.methods import Method, make_method
from mmjax.encoders.image import GridEncoder
from mmjax.encoders.video_conv3d import Conv3dEncoder
from mmjax.encoders.video_frames import FrameSequenceEncoder
from mmjax.encoders.video_graph import VideoGraphEncoder
from mmjax.fusion.concat import Concat
from mmjax.heads.classifier import Classifier
from mmjax.models.multimodal import MultimodalModel

# Chosen on the validation split of digits in motion, for the direction, from a
# few trials of one seed: at the higher rate LSTM and graph of frames, which
# read vectors of frames, were slower. The Transformer was not tried at it.
HIGH_RATE, LOW_RATE = 2e-3, 1e-3
HIGH_RATED = ("3-D CNN", "graph of patches")


@auto_config
def frame_encoder(features):
  """Convolutions, and a short token for each cell."""
  return GridEncoder(width=8, features=features, stem_size=2, norm="layer")


@auto_config
def read_frames(features, sequence: str, num_layers: int):
  """Frames as a sequence; with no layer they are a bag."""
  return FrameSequenceEncoder(
    width=WIDTH,
    frame_encoder=frame_encoder(features),
    pooling="concat",
    sequence=sequence,
    num_layers=num_layers,
    **HEADS,
  )


@auto_config
def tie_frames(features):
  """Frames as nodes: edges over 1, 2 and 4 frames and to similar frames."""
  return VideoGraphEncoder(
    width=WIDTH,
    frame_encoder=frame_encoder(features),
    pooling="concat",
    skips=(1, 2, 4),
    num_similar=2,
    num_rounds=2,
    messages="perceptron",
    **HEADS,
  )


@auto_config
def tie_patches(features):
  """Cells as nodes: edges over 1 and 2 frames and to a similar cell."""
  return VideoGraphEncoder(
    width=WIDTH,
    frame_encoder=frame_encoder(features),
    nodes="tokens",
    skips=(1, 2),
    num_similar=1,
    num_rounds=1,
    messages="attention",
    **HEADS,
  )


@auto_config
def convolve():
  """3-D convolutions over all frames at once."""
  return Conv3dEncoder(
    width=WIDTH,
    features=(16, 32),
    time_pools=(2, 2),
    stem_size=2,
    norm="layer",
  )


@auto_config
def classify(encoder, pooling: str, num_classes: int):
  """A perceptron over the pooled tokens."""
  return MultimodalModel(
    encoders={"video": encoder},
    fusion=Concat(width=WIDTH),
    head=Classifier(num_classes=num_classes, hidden=4 * WIDTH, pooling=pooling),
  )


def make_models(
  num_classes: int, features: tuple[int, ...]
) -> dict[str, fdl.Buildable]:
  """Returns the configuration of a model with each encoder, by name.

  Args:
    num_classes: classes C.
    features: of each convolution of the encoder of frames.
  """
  encoders = {
    "mean pooling": read_frames.as_buildable(features, "lstm", 0),
    "max pooling": read_frames.as_buildable(features, "lstm", 0),
    "3-D CNN": convolve.as_buildable(),
    "LSTM": read_frames.as_buildable(features, "lstm", 1),
    "Transformer": read_frames.as_buildable(features, "transformer", 2),
    "graph of frames": tie_frames.as_buildable(features),
    "graph of patches": tie_patches.as_buildable(features),
  }
  # The maximum finds the one frame that tells; a mean over all drowns it, and
  # hundreds of steps pass before anything is learned.
  return {
    name: classify.as_buildable(
      encoder, "mean" if name == "mean pooling" else "max", num_classes
    )
    for name, encoder in encoders.items()
  }


def make_methods(
  experiment_fn: Any, num_classes: int, features: tuple[int, ...]
) -> dict[str, Method]:
  """Returns a method of each model, by name, with its learning rate.

  Args:
    experiment_fn: see `make_method`.
    num_classes: see `make_models`.
    features: see `make_models`.
  """

  def rate(name: str, plain: Method) -> Method:
    def configure(setting: str, seed: int) -> fdl.Buildable:
      config = plain(setting=setting, seed=seed)
      high = name in HIGH_RATED
      config.optimizer.learning_rate = HIGH_RATE if high else LOW_RATE
      return config

    return configure

  return {
    name: rate(name, make_method(experiment_fn, model))
    for name, model in make_models(num_classes, features).items()
  }
