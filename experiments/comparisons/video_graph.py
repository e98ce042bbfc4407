"""Clips whose label is a motion: frames in a graph, in a sequence, in a bag.

Settings: `direction` of a digit; `collisions`, how often it turns back at the
borders; `order` of two events. Frames without their order, pooled by mean or
maximum, leave two directions and both orders: of these, half are right at most.

  python -m experiments.compare video_graph --seeds 3 --workdir runs/motion
"""

from fiddle.experimental.auto_config import auto_config

from experiments.comparisons.video_encoders import make_methods
from mmjax.comparison.cells import Comparison
from mmjax.data.digit_motion import DigitMotion
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.metrics.classification import ClassificationMetrics
from mmjax.training.optimizer import AdamW

MAX_SPEED = {"direction": 2, "collisions": 3, "order": 2}  # pixels a frame
NUM_CLASSES = 8  # directions; collisions have 5 labels, order has 2


@auto_config
def experiment(model, loss, setting: str, seed: int):
  """One method on one label."""
  return Experiment(
    name="video_graph",
    model=model,
    data=DigitMotion(
      target=setting,
      num_clips=10_000,
      num_frames=8,
      max_speed=MAX_SPEED[setting],
      seed=seed,
    ),
    loss=loss,
    optimizer=AdamW(weight_decay=1e-2),  # each method has a rate of its own
    training=Training(
      num_steps=1000, batch_size=32, eval_every=200, checkpoint_every=1000
    ),
    evaluation=Evaluation(metrics=ClassificationMetrics(num_classes=8)),
    seed=seed,
  )


METHODS = make_methods(experiment, NUM_CLASSES, (16,))

COMPARISON = Comparison(
  name="video_graph",
  claim="frames as a graph over time, against bag, sequence and 3-D CNN",
  methods=METHODS,
  settings=("direction", "collisions", "order"),
  baseline="mean pooling",
)
