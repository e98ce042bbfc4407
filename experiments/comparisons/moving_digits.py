"""A moving digit and a spoken one: labels that need one, either, or both.

Settings: `seen`, the digit of the clip, while another is spoken; `either`, both
are the same digit; `sum`, of the two.

  python -m experiments.compare moving_digits --seeds 3 --workdir runs/moving
"""

from fiddle.experimental.auto_config import auto_config

from experiments.comparisons.fusions import WIDTH, bottleneck, gate
from mmjax.comparison.cells import Comparison
from mmjax.comparison.methods import make_method
from mmjax.data.moving_digits import MovingDigits
from mmjax.encoders.features import FeatureEncoder
from mmjax.encoders.video_conv3d import Conv3dEncoder
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.fusion.concat import Concat
from mmjax.heads.classifier import Classifier
from mmjax.metrics.classification import ClassificationMetrics
from mmjax.models.hybrid import HybridModel
from mmjax.models.multimodal import MultimodalModel
from mmjax.training.optimizer import AdamW

# Updates of each setting, chosen with concat on the validation split.
STEPS = {"seen": 500, "either": 500, "sum": 1500}


@auto_config
def video_encoder():
  """3-D convolutions, a token a time step, then an LSTM: the classic."""
  return Conv3dEncoder(
    width=WIDTH,
    features=(16, 32),
    time_pools=(1, 1),
    stem_size=2,
    tokens="frames",
    pooling="attention",
    num_lstm_layers=1,
  )


@auto_config
def audio_encoder():
  """An LSTM over the frames of the speech, from both ends."""
  return FeatureEncoder(width=WIDTH, body="lstm")


@auto_config
def classifier():
  """A perceptron over the pooled tokens; 19 sums, of which digits are ten."""
  return Classifier(num_classes=19, hidden=4 * WIDTH)


@auto_config
def concat():
  """3-D CNN + LSTM on the video, LSTM on the speech, put side by side."""
  return MultimodalModel(
    encoders={"audio": audio_encoder(), "video": video_encoder()},
    fusion=Concat(width=WIDTH),
    head=classifier(),
  )


@auto_config
def video_only():
  """The moving digit alone."""
  return MultimodalModel(
    encoders={"video": video_encoder()},
    fusion=Concat(width=WIDTH),
    head=classifier(),
  )


@auto_config
def audio_only():
  """The spoken digit alone."""
  return MultimodalModel(
    encoders={"audio": audio_encoder()},
    fusion=Concat(width=WIDTH),
    head=classifier(),
  )


@auto_config
def hybrid():
  """The same encoders with exchanges between their layers.

  Depth 2 is behind the second convolution, where a gate lets each modality
  through as the other decides; the speech has passed its LSTM by then. Depth 3
  is behind the LSTM of the video.
  """
  return HybridModel(
    encoders={"audio": audio_encoder(), "video": video_encoder()},
    exchanges=(None, None, gate(), bottleneck()),
    fusion=Concat(width=WIDTH),
    head=classifier(),
  )


@auto_config
def experiment(model, loss, setting: str, seed: int):
  """One method on one label."""
  return Experiment(
    name="moving_digits",
    model=model,
    data=MovingDigits(
      target=setting,
      num_clips=20_000,
      num_frames=6,
      frame_size=24,
      max_frames=37,
      seed=seed,
    ),
    loss=loss,
    optimizer=AdamW(learning_rate=2e-3, weight_decay=1e-2),
    training=Training(
      num_steps=STEPS[setting],
      batch_size=64,
      eval_every=STEPS[setting] // 5,
      checkpoint_every=STEPS[setting],
    ),
    evaluation=Evaluation(metrics=ClassificationMetrics(num_classes=19)),
    seed=seed,
  )


METHODS = {
  "video only": make_method(experiment, video_only.as_buildable()),
  "audio only": make_method(experiment, audio_only.as_buildable()),
  "concat": make_method(experiment, concat.as_buildable()),
  "hybrid": make_method(experiment, hybrid.as_buildable()),
}

COMPARISON = Comparison(
  name="moving_digits",
  claim="3-D CNN + LSTM and hybrid fusion on video with speech",
  methods=METHODS,
  settings=("seen", "either", "sum"),
  baseline="concat",
  single=("video only", "audio only"),
)
