"""What is known of one example: where its nodes lie, and what was sown."""

import types

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mmjax.explanation import explain_batch


class Encoder(nn.Module):
  """An encoder that sows a grid, as that of frames does."""

  @nn.compact
  def __call__(self, edges):
    self.sow("intermediates", "grid", jnp.array([2, 2]))
    self.sow("intermediates", "token_over_token", edges)


class Model(nn.Module):
  """Says nothing about anything, but sows edges."""

  encoders: tuple = ("objects", "video")

  @nn.compact
  def __call__(self, batch, *, train):
    weights = jnp.zeros((1, 1, 3, 3)).at[:, :, 0, 2].set(0.5)
    Encoder(name="encoders_video")(weights)
    self.sow("intermediates", "objects_over_text", jnp.ones((1, 1, 3, 5)) / 5)
    return {"logits": jnp.array([[0.0, 1.0]])}


class Data:
  """Three objects, of which the second is missing."""

  def place_tokens(self, batch):
    del batch
    return {"objects": (["a", "b", "c"], np.array([[0.1, 0.1]] * 3))}


def _explain(video):
  batch = {
    "objects": np.zeros((1, 3, 2), np.float32),
    "objects_mask": np.array([[True, False, True]]),
    "text": np.zeros((1, 5), np.int32),
    "text_mask": np.array([[True, True, False, False, False]]),
    "video": video,
    "video_mask": np.array([True]),
  }
  trained = types.SimpleNamespace(
    experiment=types.SimpleNamespace(model=Model(), data=Data()),
    params={},
    assets={"labels": ["no", "yes"]},
  )
  return explain_batch(trained, batch, text="any red", answer="yes")


def test_nodes_are_found_in_the_data_the_text_and_the_clip():
  view = _explain(np.full((1, 3, 4, 6, 1), 7, np.uint8))
  assert view.predicted == "yes"
  assert view.image is None
  assert view.words == ["any", "red"]
  assert view.frames.shape == (3, 4, 6, 3)
  clip, objects = sorted(view.graphs, key=lambda graph: -graph.num_frames)
  # Frames, although each of them has a grid.
  assert [node.label for node in clip.nodes] == [
    "frame 1",
    "frame 2",
    "frame 3",
  ]
  (edge,) = clip.steps[0].edges
  assert (edge.sender, edge.receiver) == (("video", 2), ("video", 0))
  assert [node.label for node in objects.nodes] == ["a", "c", "any", "red"]
  assert len(objects.steps[0].edges) == 4


def test_clips_of_numbers_become_pictures():
  video = np.linspace(-0.5, 1.5, 3 * 4 * 6 * 3).reshape(1, 3, 4, 6, 3)
  frames = _explain(video.astype(np.float32)).frames
  assert frames.dtype == np.uint8
  assert (frames.min(), frames.max()) == (0, 255)
