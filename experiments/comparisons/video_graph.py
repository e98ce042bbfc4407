"""Clips whose label is a motion: frames in a graph, in a sequence, in a bag.

Settings: `direction` of a digit; `collisions`, how often it turns back at the
borders; `order` of two events. Frames without their order, pooled by mean or
maximum, leave two directions and both orders: of these, half are right at most.

  python -m experiments.compare video_graph --seeds 3 --workdir runs/motion
"""

from fiddle.experimental.auto_config import auto_config

from experiments.comparisons.video_encoders import make_models
from mmjax.comparison.cells import Comparison
from mmjax.comparison.methods import make_method
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
    data=DigitMotion(target=setting, max_speed=MAX_SPEED[setting], seed=seed),
    loss=loss,
    optimizer=AdamW(learning_rate=3e-3, weight_decay=1e-2),
    training=Training(
      num_steps=800, batch_size=64, eval_every=100, checkpoint_every=800
    ),
    evaluation=Evaluation(metrics=ClassificationMetrics(num_classes=8)),
    seed=seed,
  )


METHODS = {
  name: make_method(experiment, model)
  for name, model in make_models(NUM_CLASSES, (16,)).items()
}

COMPARISON = Comparison(
  name="video_graph",
  claim="frames as a graph over time, against bag, sequence and 3-D CNN",
  methods=METHODS,
  settings=("direction", "collisions", "order"),
  baseline="mean pooling",
)
