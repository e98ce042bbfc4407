"""Animated emoji in skin tones held out of training: frames in a graph or not.

Settings: `emoji medium` and `emoji dark`, which of 58 emoji is it, in a tone
between those of training and in one beyond them; `arrow dark`, does it run
forwards or backwards, of which a bag of frames tells nothing.

  python -m experiments.compare emoji_clips --seeds 3 --workdir runs/emoji
"""

from fiddle.experimental.auto_config import auto_config

from experiments.comparisons.video_encoders import make_methods
from mmjax.comparison.cells import Comparison
from mmjax.data.emoji_clips import EmojiClips
from mmjax.experiment import Evaluation, Experiment, Training
from mmjax.metrics.classification import ClassificationMetrics
from mmjax.training.optimizer import AdamW

NUM_CLASSES = 58  # emoji; of the arrow there are two
# By setting: what is asked, the tone of the test, the tone of validation.
HELD_OUT = {
  "emoji medium": ("emoji", "medium", "medium light"),
  "emoji dark": ("emoji", "dark", "medium dark"),
  "arrow dark": ("arrow", "dark", "medium dark"),
}


@auto_config
def experiment(model, loss, setting: str, seed: int):
  """One method on one question and tone."""
  return Experiment(
    name="emoji_clips",
    model=model,
    data=EmojiClips(
      target=HELD_OUT[setting][0],
      test_tone=HELD_OUT[setting][1],
      validation_tone=HELD_OUT[setting][2],
      seed=seed,
    ),
    loss=loss,
    optimizer=AdamW(weight_decay=1e-2),
    training=Training(
      num_steps=400, batch_size=64, eval_every=100, checkpoint_every=400
    ),
    evaluation=Evaluation(metrics=ClassificationMetrics(num_classes=58)),
    seed=seed,
  )


METHODS = make_methods(experiment, NUM_CLASSES, (16, 32))

COMPARISON = Comparison(
  name="emoji_clips",
  claim="animated emoji in skin tones held out: graph, bag, sequence, 3-D CNN",
  methods=METHODS,
  settings=tuple(HELD_OUT),
  baseline="mean pooling",
)
