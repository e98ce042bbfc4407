"""Digits in motion: which of eight ways does it move?

One experiment, whose report shows clips with the graph that was drawn over
them; `python -m experiments.compare video_graph` compares it with others.
"""

from fiddle.experimental.auto_config import auto_config

from mmjax.data.digit_motion import DigitMotion
from mmjax.encoders.image import GridEncoder
from mmjax.encoders.video_graph import VideoGraphEncoder
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.fusion.concat import Concat
from mmjax.heads.classifier import Classifier
from mmjax.losses.cross_entropy import CrossEntropy
from mmjax.metrics.classification import ClassificationMetrics
from mmjax.models.multimodal import MultimodalModel
from mmjax.training.optimizer import AdamW


@auto_config
def digit_motion_graph(
  width: int = 32,
  num_steps: int = 1000,
  batch_size: int = 32,
  dtype: str = "float32",
  seed: int = 0,
):
  """Cells of frames are nodes, tied over time and to the most similar one.

  The graph of patches of the comparison. About 97 % in a few minutes; half
  could be had without the order of the frames.

  python -m experiments.train digit_motion_graph --workdir runs/motion
  """
  return Experiment(
    name="digit_motion_graph",
    model=MultimodalModel(
      encoders={
        "video": VideoGraphEncoder(
          width=width,
          frame_encoder=GridEncoder(
            width=8, features=(16,), stem_size=2, norm="layer", dtype=dtype
          ),
          nodes="tokens",
          skips=(1, 2),
          num_similar=1,
          num_rounds=1,
          messages="attention",
          num_heads=4,
          mlp_dim=2 * width,
          dtype=dtype,
        )
      },
      fusion=Concat(width=width, dtype=dtype),
      head=Classifier(
        num_classes=8, hidden=4 * width, pooling="max", dtype=dtype
      ),
    ),
    data=DigitMotion(
      target="direction",
      num_clips=10_000,
      num_frames=8,
      max_speed=2,
    ),
    loss=CrossEntropy(label_smoothing=0.0),
    optimizer=AdamW(learning_rate=2e-3, weight_decay=1e-2),
    training=Training(
      num_steps=num_steps,
      batch_size=batch_size,
      log_every=20,
      eval_every=200,
      checkpoint_every=200,
    ),
    evaluation=Evaluation(
      metrics=ClassificationMetrics(num_classes=8),
      split="validation",
      batch_size=400,
    ),
    seed=seed,
  )
