"""A checkpoint's scores on a split, from its work directory alone.

The configuration, the vocabulary and the names of the answers come out of the
checkpoint, so nothing but the work directory and the prepared data is needed,
and no code of the experiment's function is run.
"""

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import fiddle as fdl
import jax
import numpy as np

from mmjax import config as config_lib
from mmjax.checkpoint import CheckpointError, Checkpoints, Restored
from mmjax.experiment import Experiment, make_init_fn
from mmjax.report.baselines import score_baselines
from mmjax.report.intervals import Interval, accuracy_interval
from mmjax.training.progress import make_progress
from mmjax.workdir import CHECKPOINTS_DIR, EVALUATIONS_DIR


@dataclasses.dataclass(frozen=True)
class TrainedModel:
  """A checkpoint, ready to be applied.

  Attributes:
    experiment: built from the configuration in the checkpoint.
    config: that configuration.
    params: the parameters.
    assets: vocabulary, labels and what else was fitted to training data.
    step: number of updates made.
  """

  experiment: Experiment
  config: fdl.Buildable
  params: Any
  assets: Mapping[str, Any]
  step: int

  @property
  def num_parameters(self) -> int:
    """How many numbers a checkpoint has, running statistics among them."""
    return sum(leaf.size for leaf in jax.tree.leaves(self.params))


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What the model said of each of n examples of a split, in order.

  Attributes:
    record_ids: n ids that `data.list_examples` lists.
    logits: float32 [n, C].
    batch: the per-example arrays of the batches, each [n].
    counts: the sum of what the experiment's metrics counted of each batch, of
      all outputs of the model.
  """

  record_ids: Sequence[str]
  logits: np.ndarray
  batch: Mapping[str, np.ndarray]
  counts: Mapping[str, Any]

  @property
  def correct(self) -> np.ndarray:
    """Bool [n], whether the largest logit is that of the label."""
    return self.logits.argmax(axis=-1) == self.batch["label"]


@dataclasses.dataclass(frozen=True)
class Evaluated:
  """A model's scores on a split, and what they were computed from.

  Attributes:
    trained: the model.
    split: the split.
    predictions: what the model said of each example.
    examples: text, answer, type and image of each, for people.
    scores: what `ClassificationMetrics.compute` returned.
    accuracy: with a 95 % interval over resampled images.
    baselines: `{name: interval}` on the same examples.
    seconds: time that loading and scoring took.
  """

  trained: TrainedModel
  split: str
  predictions: Predictions
  examples: Sequence[Mapping[str, Any]]
  scores: Mapping[str, Any]
  accuracy: Interval
  baselines: Mapping[str, Interval]
  seconds: float

  def summary(self) -> dict[str, Any]:
    """Returns the scores as JSON values, accuracies between 0 and 1."""
    # What a page needs rather than a table, and what is named already.
    apart = ("num_examples", "accuracy", "confusion", "calibration")
    return {
      "experiment": self.trained.experiment.name,
      "step": self.trained.step,
      "split": self.split,
      "num_examples": self.scores["num_examples"],
      "parameters": self.trained.num_parameters,
      "accuracy": self.scores["accuracy"],
      "accuracy_interval": [self.accuracy.low, self.accuracy.high],
      **{n: score for n, score in self.scores.items() if n not in apart},
      "baselines": {
        name: each.estimate for name, each in self.baselines.items()
      },
      "seconds": round(self.seconds, 2),
    }


def load_trained(
  workdir: str | os.PathLike[str],
  step: str | int = "best",
  *,
  trust: Sequence[str] = (),
  overrides: Sequence[str] = (),
) -> TrainedModel:
  """Loads a trained model from its work directory.

  Args:
    workdir: where `mmjax.trainer.train` worked.
    step: "best" on the watched split, "latest", or a number.
    trust: packages whose dataclasses the configuration may name.
    overrides: `path=value` changes of the checkpoint's configuration, for
      instance `evaluation.batch_size=64`.

  Raises:
    CheckpointError: there is no checkpoint, no such step, or it is damaged,
      or its parameters do not fit the changed configuration.
    ConfigError: the configuration names what is not trusted, or a change that
      it does not admit.
  """
  directory = pathlib.Path(workdir) / CHECKPOINTS_DIR
  if not directory.is_dir():
    raise CheckpointError(
      f"{os.fspath(workdir)!r} is no work directory with checkpoints; train "
      "one first: python -m experiments.train NAME --workdir "
      f"{os.fspath(workdir)}"
    )
  if isinstance(step, str) and step not in ("best", "latest"):
    if not step.isdecimal():
      raise ValueError(
        f"--step is {step!r}; it must be best, latest or the number of a step"
      )
    step = int(step)
  with Checkpoints(directory) as checkpoints:
    number = _find_best(checkpoints) if step == "best" else step
    try:
      config, restored = _restore(checkpoints, number, trust, overrides)
    except CheckpointError:
      # A trainer at work may have replaced the best step in between.
      if step != "best" or _find_best(checkpoints) == number:
        raise
      number = _find_best(checkpoints)
      config, restored = _restore(checkpoints, number, trust, overrides)
  return TrainedModel(
    experiment=fdl.build(config),
    config=config,
    params=restored.params,
    assets=restored.assets,
    step=restored.step,
  )


def _find_best(checkpoints: Checkpoints) -> str | int:
  """Returns the best step; "latest" where no step has a score."""
  best = checkpoints.best_step()
  return "latest" if best is None else best


def _restore(
  checkpoints: Checkpoints,
  step: str | int,
  trust: Sequence[str],
  overrides: Sequence[str],
) -> tuple[fdl.Buildable, Restored]:
  """Restores configuration and parameters of one and the same step."""
  config = config_lib.load(checkpoints.load_config(step), trust=trust)
  config = config_lib.apply_overrides(config, overrides)
  init_fn = make_init_fn(fdl.build(config))
  target = jax.eval_shape(init_fn, jax.random.key(0))
  return config, checkpoints.restore(step, params_target=target["params"])


def collect_predictions(trained: TrainedModel, split: str) -> Predictions:
  """Applies a model to all examples of a split, padding left out."""
  experiment = trained.experiment
  batches = experiment.data.eval_batches(
    trained.assets, split, batch_size=experiment.evaluation.batch_size
  )

  @jax.jit
  def apply(params: Any, batch: Mapping[str, Any]) -> tuple[jax.Array, Any]:
    outputs = experiment.model.apply({"params": params}, batch, train=False)
    counts = experiment.evaluation.metrics.update(outputs, batch)
    return outputs["logits"], counts

  params = jax.device_put(trained.params)
  logits, columns, record_ids, total = [], {}, [], None
  for number, batch in enumerate(batches.iterate()):
    mask = batch["example_mask"]
    found, counts = jax.device_get(apply(params, batch))
    total = counts if total is None else jax.tree.map(np.add, total, counts)
    logits.append(found[mask])
    for name in _per_example(batch):
      columns.setdefault(name, []).append(batch[name][mask])
    record_ids += batches.record_ids(number)
  return Predictions(
    record_ids=record_ids,
    logits=np.concatenate(logits),
    batch={name: np.concatenate(parts) for name, parts in columns.items()},
    counts=total,
  )


def evaluate(
  workdir: str | os.PathLike[str],
  *,
  step: str | int = "best",
  split: str = "test",
  trust: Sequence[str] = (),
  overrides: Sequence[str] = (),
) -> Evaluated:
  """Scores a checkpoint and writes the scores into its work directory.

  Args:
    workdir: where `mmjax.trainer.train` worked.
    step: "best", "latest" or a number.
    split: the split to score.
    trust: packages whose dataclasses the configuration may name.
    overrides: see `load_trained`.

  Returns:
    The scores and what they were computed from; `summary()` is also written
    to `evaluations/SPLIT-STEP.json`.

  Raises:
    CheckpointError, ConfigError: see `load_trained`.
    ValueError: there is no such split.
  """
  begin = time.perf_counter()
  with make_progress() as progress:
    trained = load_trained(workdir, step, trust=trust, overrides=overrides)
    data = trained.experiment.data
    with progress.phase(
      f"evaluating step {trained.step} of {trained.experiment.name} on {split}"
    ):
      data.prepare()
      listed = data.list_examples(split)
      predictions = collect_predictions(trained, split)
  examples = [listed[record_id] for record_id in predictions.record_ids]
  images = [example["image_id"] for example in examples]
  evaluated = Evaluated(
    trained=trained,
    split=split,
    predictions=predictions,
    examples=examples,
    scores=compute_scores(trained, predictions),
    accuracy=accuracy_interval(predictions.correct, images),
    baselines=score_baselines(trained.assets, examples, images),
    seconds=time.perf_counter() - begin,
  )
  folder = pathlib.Path(workdir) / EVALUATIONS_DIR
  _write_json(folder / f"{split}-{trained.step}.json", evaluated.summary())
  return evaluated


def compute_scores(
  trained: TrainedModel, predictions: Predictions
) -> dict[str, Any]:
  """Computes the experiment's metrics of what was counted."""
  return trained.experiment.evaluation.metrics.compute(
    predictions.counts,
    labels=trained.assets["labels"],
    types=trained.assets["question_types"],
  )


def _per_example(batch: Mapping[str, np.ndarray]) -> list[str]:
  """Names the entries with one number for each example."""
  shape = batch["example_mask"].shape
  return [
    name
    for name, value in batch.items()
    if value.shape == shape and not name.endswith("_index")
  ]


def _write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
  """Writes a file whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  new = path.with_name(path.name + ".new")
  new.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
  os.replace(new, path)
