"""Video encoder: what things look like and how they move, in two streams.

Simonyan and Zisserman 2014, "Two-Stream Convolutional Networks for Action
Recognition in Videos", https://arxiv.org/abs/1406.2199. A clip is cut into
snippets of L frames; of each, one frame is what the first network sees, and the
motion of all L, stacked in the channels, what the second one sees.

Differs from the paper: the motion is the difference of neighbouring frames, or
optical flow that the data bring along; the streams are any two image encoders;
their tokens are put side by side, or added as in Feichtenhofer et al. 2016,
https://arxiv.org/abs/1604.06573, instead of averaging the scores of two
classifiers; the snippets cover the clip instead of being drawn from it.
"""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.array_types import Array, Tokens
from mmjax.encoders.staged import Stage, StagedEncoder
from mmjax.encoders.video import expand_frame_mask, fold_steps
from mmjax.nn.positions import sinusoidal_positions


def frame_differences(frames: Array, mask: Array) -> Array:
  """Subtracts from each frame the one before it.

  Args:
    frames: [R, T, h, w, channels], floating point.
    mask: bool [R, T], True = present.

  Returns:
    [R, T, h, w, channels]; zeros where the frame or the one before it is
    masked, and for the first.
  """
  both = jnp.pad(mask[:, 1:] & mask[:, :-1], ((0, 0), (1, 0)))
  before = jnp.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
  return jnp.where(both[:, :, None, None, None], frames - before, 0)


def center_flow(flow: Array, mask: Array) -> Array:
  """Subtracts from each displacement the mean of its frame: the camera's.

  Args:
    flow: [R, T, h, w, channels], floating point.
    mask: bool [R, T], True = present.

  Returns:
    [R, T, h, w, channels], zeros where masked.
  """
  flow = jnp.where(mask[:, :, None, None, None], flow, 0)
  return flow - flow.mean(axis=(2, 3), keepdims=True)


def cut_snippets(values: Array, size: int) -> Array:
  """Cuts [R, T, ...] into [R, ceil(T / size), size, ...], zeros at the end."""
  pads = [(0, 0)] * values.ndim
  pads[1] = (0, -values.shape[1] % size)
  values = jnp.pad(values, pads)
  return values.reshape(values.shape[0], -1, size, *values.shape[2:])


def pick_middle(snippets: Array, mask: Array) -> Array:
  """Picks of each snippet the present frame that is nearest to its middle.

  Args:
    snippets: [R, S, L, ...].
    mask: bool [R, S, L], True = present.

  Returns:
    [R, S, ...]. Of two frames equally near it is the first; of a snippet
    without a present frame it is any.
  """
  size = mask.shape[-1]
  distance = jnp.abs(jnp.arange(size) - (size - 1) / 2)
  index = jnp.argmin(jnp.where(mask, distance, size), axis=-1)
  index = index.reshape(*index.shape, *[1] * (snippets.ndim - 2))
  return jnp.take_along_axis(snippets, index, axis=2)[:, :, 0]


class TwoStreamEncoder(StagedEncoder):
  """Two image encoders: one of frames, one of stacked motion.

  A clip of T frames has ceil(T / stack_size) snippets. A snippet is present if
  one of its frames is. Each stream gives the tokens of its snippets, with waves
  for the place of the snippet added. It has no parameters and no dtype besides
  those of its streams.

  Attributes:
    appearance: image encoder of the frame in the middle of each snippet.
    motion: another image encoder, of `stack_size` times as many channels as one
      frame has of motion. They come as pixels do: 0.5 is no motion. One module
      for both would share its parameters.
    stack_size: L, frames of a snippet.
    flow_channels: how many of the last channels of a frame are optical flow
      with 0.5 (uint8: 127.5) for none; its mean over a frame is subtracted. 0
      takes the differences of frames for the motion.
    merge: "concat" gives the tokens of appearance, then those of motion, in two
      groups; "add" their sums, token by token, for encoders of equal grids.
  """

  appearance: nn.Module
  motion: nn.Module
  stack_size: int = 5
  flow_channels: int = 0
  merge: str = "concat"

  def begin(self, values: Array, mask: Array, *, train: bool) -> Stage:
    """Encodes clips; there are no stages of both streams.

    Args:
      values: [R, T, h, w, channels], uint8 or floating point in [0, 1].
      mask: bool [R] or [R, T], True = present.
      train: whether dropout is on.

    Returns:
      The tokens, [R, N, width], snippet by snippet in each stream.

    Raises:
      ValueError: see `expand_frame_mask`; attributes that do not fit the clip;
        streams whose tokens do not fit together.
    """
    if self.merge not in ("concat", "add") or self.stack_size < 1:
      raise ValueError(
        "a two-stream encoder needs merge 'concat' or 'add' and a stack_size of"
        f" at least 1, got {self.merge!r} and {self.stack_size}"
      )
    mask = expand_frame_mask(values, mask)
    channels = values.shape[-1] - self.flow_channels
    if self.flow_channels < 0 or channels < 1:
      raise ValueError(
        "frames need channels besides those of their flow, got clips"
        f" {list(values.shape)} and {self.flow_channels} flow_channels"
      )
    present = cut_snippets(mask, self.stack_size)
    frames = cut_snippets(values[..., :channels], self.stack_size)
    streams = [
      self.appearance(
        fold_steps(pick_middle(frames, present)),
        present.any(axis=-1).reshape(-1),
        train=train,
      ),
      self.motion(
        fold_steps(self._stack_motion(values, mask)),
        present.any(axis=-1).reshape(-1),
        train=train,
      ),
    ]
    streams = [_join_snippets(tokens, len(mask)) for tokens in streams]
    return Stage.from_tokens(_merge(*streams, self.merge))

  def _stack_motion(self, values: Array, mask: Array) -> Array:
    """Makes [R, S, h, w, L * channels] in [0, 1], 0.5 without motion."""
    pixels = values.astype(jnp.float32)
    if values.dtype == jnp.uint8:
      pixels = pixels / 255
    if self.flow_channels:
      motion = center_flow(pixels[..., -self.flow_channels :], mask)
    else:
      motion = frame_differences(pixels, mask) / 2
    stacks = 0.5 + cut_snippets(motion, self.stack_size)
    stacks = jnp.moveaxis(stacks, 2, -2)  # [R, S, h, w, L, channels]
    return stacks.reshape(*stacks.shape[:-2], -1)


def _join_snippets(tokens: Tokens, rows: int) -> Tokens:
  """Makes tokens [R * S, N, D] of snippets [R, S * N, D] of clips."""
  _, number, width = tokens.values.shape
  values = tokens.values.reshape(rows, -1, number, width)
  places = sinusoidal_positions(values.shape[1], width)
  values = values + jnp.asarray(places, values.dtype)[:, None]
  mask = tokens.mask.reshape(rows, -1)
  values = values.reshape(rows, -1, width)
  return Tokens(jnp.where(mask[..., None], values, 0), mask)


def _merge(appearance: Tokens, motion: Tokens, merge: str) -> Tokens:
  """Puts the tokens of two streams side by side, or adds them."""
  shapes = [list(tokens.values.shape) for tokens in (appearance, motion)]
  if shapes[0][2] != shapes[1][2] or (
    merge == "add" and shapes[0] != shapes[1]
  ):
    raise ValueError(
      f"the streams of a two-stream encoder need tokens of one width, and with"
      f" merge 'add' equally many, got appearance {shapes[0]} and motion"
      f" {shapes[1]}; set both encoders alike"
    )
  if merge == "add":
    return appearance.replace(values=appearance.values + motion.values)
  return Tokens(
    jnp.concatenate([appearance.values, motion.values], axis=1),
    jnp.concatenate([appearance.mask, motion.mask], axis=1),
    group_sizes=(shapes[0][1], shapes[1][1]),
  )
