r"""Rules that make one decision of those of several modalities.

Each modality m that is present says :math:`p_m`, a distribution over classes.

  ==========  ===============================================================
  mean        the mean of the :math:`p_m`
  weighted    their mean with learned weights, shared among those present
  vote        the share of votes for each class; see `vote`
  product     the normed product of the :math:`p_m`: a product of experts
  stacking    a learned linear classifier of all :math:`\log p_m`, which starts
              as the product
  ==========  ===============================================================

Mean, product and vote: Kittler et al. 1998, "On Combining Classifiers",
https://doi.org/10.1109/34.667881; products of experts: Hinton 2002,
https://doi.org/10.1162/089976602760128018; stacking: Ting and Witten 1999,
"Issues in Stacked Generalization", https://arxiv.org/abs/1105.5466.

Differs from the papers: only modalities that are present take part; the
product has no prior; votes are smoothed and their ties broken; the classifier
sees logarithms, since one of probabilities has to grow weights of several units
before it can be sure of anything; and it is trained on the same examples as
what it stacks, so hold some out yourself.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.array_types import Array

RULES = ("mean", "weighted", "vote", "product", "stacking")


def mix(log_probs: Array, weights: Array) -> Array:
  """Logarithm of a weighted mean of distributions.

  Args:
    log_probs: [B, M, C], finite.
    weights: [B, M], not negative, with a sum of 1 over M.

  Returns:
    [B, C].
  """
  return jax.nn.logsumexp(log_probs, axis=1, b=weights[..., None])


def multiply_experts(log_probs: Array, mask: Array) -> Array:
  """Logarithm of the product of distributions, not normed.

  Args:
    log_probs: [B, M, C].
    mask: bool [B, M], True = takes part.

  Returns:
    [B, C].
  """
  return jnp.where(mask[..., None], log_probs, 0).sum(axis=1)


def vote(log_probs: Array, mask: Array) -> Array:
  r"""Logarithm of the smoothed share of votes.

  .. math:: \log \frac{n_c + \bar p_c}{M + 1}

  with n votes for class c of M voters, each for its likeliest class, and one
  vote more that is spread as the mean of their distributions. That breaks
  ties and never overrules a majority. Votes have no gradient and the tie-break
  little: train the voters by losses of their own.

  Args:
    log_probs: [B, M, C], finite.
    mask: bool [B, M], True = may vote, at least one an example.

  Returns:
    [B, C], the logarithm of a distribution.
  """
  votes = jax.nn.one_hot(log_probs.argmax(axis=-1), log_probs.shape[-1])
  counts = jnp.where(mask[..., None], votes, 0).sum(axis=1)
  voters = mask.sum(axis=1, keepdims=True)
  last = mix(log_probs, mask / voters)
  return jnp.logaddexp(jnp.log(counts), last) - jnp.log(voters + 1.0)


class Combination(nn.Module):
  """Combines the logits of all modalities by one rule.

  Attributes:
    rule: "mean", "weighted", "vote", "product" or "stacking". The weights of
      "weighted" start equal; they are sown, float32 [B, M] in sorted order
      of the modalities, as `weights`.
    param_dtype: dtype of the parameters; the computation is in float32.
  """

  rule: str = "mean"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(
    self,
    logits: Mapping[str, Array],
    present: Mapping[str, Array],
    *,
    train: bool,
  ) -> Array:
    """Combines decisions.

    Args:
      logits: [B, C] of each modality.
      present: bool [B] of each modality, whether it takes part.
      train: not used, nothing here is random.

    Returns:
      float32 [B, C]: logarithms of probabilities, up to a constant for
      "product" and "stacking"; zeros where no modality is present.

    Raises:
      ValueError: an unknown rule, or logits of different shapes.
    """
    del train
    if self.rule not in RULES:
      raise ValueError(
        f"late fusion needs one of the rules {', '.join(RULES)}, got"
        f" {self.rule!r}"
      )
    modalities = sorted(logits)
    shapes = {m: list(logits[m].shape) for m in modalities}
    if len({tuple(shape) for shape in shapes.values()}) > 1:
      found = ", ".join(f"{m} {shape}" for m, shape in shapes.items())
      raise ValueError(
        f"late fusion needs logits [B, C] of one shape, got {found}"
      )
    stacked = jnp.stack([logits[m] for m in modalities], axis=1)
    mask = jnp.stack([present[m] for m in modalities], axis=1)
    stacked = jnp.where(mask[..., None], stacked.astype(jnp.float32), 0)
    log_probs = jax.nn.log_softmax(stacked)
    # Where nobody is present everybody is asked, and the answer dropped.
    anybody = mask.any(axis=1, keepdims=True)
    mask = mask | ~anybody
    combined = self._combine(log_probs, mask, modalities)
    return jnp.where(anybody, combined, 0)

  def _combine(
    self, log_probs: Array, mask: Array, modalities: list[str]
  ) -> Array:
    """Combines [B, M, C], where bool [B, M] has a True in each row."""
    if self.rule == "product":
      return multiply_experts(log_probs, mask)
    if self.rule == "vote":
      return vote(log_probs, mask)
    if self.rule == "stacking":
      return self._stack(log_probs, mask, modalities)
    weights = mask / mask.sum(axis=1, keepdims=True)
    if self.rule == "weighted":
      weights = self._weigh(mask, modalities)
      self.sow("intermediates", "weights", weights)
    return mix(log_probs, weights)

  def _weigh(self, mask: Array, modalities: list[str]) -> Array:
    """Shares a weight of 1 among the modalities that are present."""
    if len(modalities) == 1:  # Its weight is 1: a score would never learn.
      return mask.astype(jnp.float32)
    scores = jnp.stack(
      [
        self.param(f"score_{m}", nn.initializers.zeros, (), self.param_dtype)
        for m in modalities
      ]
    ).astype(jnp.float32)
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    return jnp.where(mask, jax.nn.softmax(scores), 0.0)

  def _stack(
    self, log_probs: Array, mask: Array, modalities: list[str]
  ) -> Array:
    """Classifies the log-probabilities of all modalities."""
    log_probs = jnp.where(mask[..., None], log_probs, 0)
    num_classes = log_probs.shape[-1]
    total = self.param(
      "bias", nn.initializers.zeros, (num_classes,), self.param_dtype
    ).astype(jnp.float32)
    for number, m in enumerate(modalities):
      total = total + nn.Dense(
        num_classes,
        use_bias=False,
        kernel_init=_identity,
        param_dtype=self.param_dtype,
        name=f"from_{m}",
      )(log_probs[:, number])
    return total


def _identity(rng: Array, shape: tuple[int, int], dtype: str) -> Array:
  """Initialises a square kernel."""
  del rng
  return jnp.eye(*shape, dtype=dtype)
