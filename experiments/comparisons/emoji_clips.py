"""Animated emoji in skin tones held out of training: frames in a graph or not.

Which of 58 emoji is it? The frames tell it without their order. Settings, by
the tone of the test: `medium` lies between those of training, `dark` beyond.

  python -m experiments.compare emoji_clips --seeds 3 --workdir runs/emoji
"""

from fiddle.experimental.auto_config import auto_config

from experiments.comparisons.video_encoders import make_methods
from mmjax.comparison.cells import Comparison
from mmjax.data.emoji_clips import EmojiClips
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.metrics.classification import ClassificationMetrics
from mmjax.training.optimizer import AdamW

NUM_CLASSES = 58
VALIDATION_TONE = {"medium": "medium light", "dark": "medium dark"}


@auto_config
def experiment(model, loss, setting: str, seed: int):
  """One method on one tone."""
  return Experiment(
    name="emoji_clips",
    model=model,
    data=EmojiClips(
      test_tone=setting, validation_tone=VALIDATION_TONE[setting], seed=seed
    ),
    loss=loss,
    optimizer=AdamW(weight_decay=1e-2),  # each method has a rate of its own
    training=Training(
      num_steps=300, batch_size=32, eval_every=100, checkpoint_every=300
    ),
    evaluation=Evaluation(metrics=ClassificationMetrics(num_classes=58)),
    seed=seed,
  )


METHODS = make_methods(experiment, NUM_CLASSES, (16, 32))

COMPARISON = Comparison(
  name="emoji_clips",
  claim="animated emoji in skin tones held out: graph, bag, sequence, 3-D CNN",
  methods=METHODS,
  settings=tuple(VALIDATION_TONE),
  baseline="mean pooling",
)
