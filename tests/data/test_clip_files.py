"""Clips of a user: what is read, how it is fitted, what is refused."""

import pickle

import numpy as np
import pytest
from PIL import Image

from mmjax.data.clip_files import fit_clip, read_clip


def _frames(number=5):
  """Frames whose grey tells their number, with a bright corner."""
  frames = np.zeros((number, 6, 8, 3), np.uint8)
  frames += (20 * np.arange(number, dtype=np.uint8))[:, None, None, None]
  frames[:, 0, 0] = 250
  return frames


@pytest.mark.parametrize("kind", ["webp", "gif", "png"])
def test_animated_pictures_are_read_frame_by_frame(tmp_path, kind):
  path = tmp_path / f"clip.{kind}"
  first, *others = [Image.fromarray(frame) for frame in _frames()]
  options = {"lossless": True} if kind == "webp" else {}
  first.save(path, save_all=True, append_images=others, **options)
  frames = read_clip(path)
  assert (frames.dtype, frames.shape) == (np.uint8, (5, 6, 8, 3))
  np.testing.assert_allclose(frames.astype(int), _frames(), atol=3)


def test_a_still_picture_is_a_clip_of_one_frame(tmp_path):
  Image.fromarray(_frames()[2]).save(tmp_path / "still.png")
  np.testing.assert_array_equal(
    read_clip(tmp_path / "still.png"), _frames()[2:3]
  )


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_arrays_of_any_channels_become_colour(tmp_path, channels):
  frames = _frames()
  given = frames[..., 0] if channels is None else frames[..., :channels]
  if channels == 4:
    given = np.concatenate([frames, np.full_like(frames[..., :1], 255)], -1)
  np.save(tmp_path / "clip.npy", given)
  np.testing.assert_array_equal(read_clip(tmp_path / "clip.npy"), frames)


@pytest.mark.parametrize(
  "array",
  [
    np.zeros((5, 6, 8), np.float32),
    np.zeros((5, 6), np.uint8),
    np.zeros((5, 6, 8, 2), np.uint8),
    np.zeros((0, 6, 8), np.uint8),
  ],
)
def test_other_arrays_are_refused(tmp_path, array):
  np.save(tmp_path / "clip.npy", array)
  with pytest.raises(ValueError, match=r"uint8 \[T, h, w\] or \[T, h, w, c\]"):
    read_clip(tmp_path / "clip.npy")


class _Hostile:
  def __reduce__(self):
    return (_Hostile.strike, ())

  @staticmethod
  def strike():
    raise AssertionError("code of a file was run")


@pytest.mark.parametrize("kind", ["object", "pickle", "text", "cut", "missing"])
def test_files_that_are_no_array_are_refused_and_never_run(tmp_path, kind):
  path = tmp_path / "clip.npy"
  if kind == "object":
    np.save(path, np.array([_Hostile()], object), allow_pickle=True)
  elif kind == "pickle":
    path.write_bytes(pickle.dumps(_Hostile()))
  elif kind == "text":
    path.write_text("frames")
  elif kind == "cut":
    np.save(path, _frames())
    path.write_bytes(path.read_bytes()[:200])
  with pytest.raises(ValueError, match=r"clip\.npy"):
    read_clip(path)


def test_a_folder_and_a_broken_picture_are_refused(tmp_path):
  (tmp_path / "clip.npy").mkdir()
  with pytest.raises(ValueError, match="is a folder"):
    read_clip(tmp_path / "clip.npy")
  (tmp_path / "clip.gif").write_text("no picture")
  with pytest.raises(ValueError, match="is no picture"):
    read_clip(tmp_path / "clip.gif")


def test_long_clips_are_thinned_and_short_ones_padded():
  frames, mask, notes = fit_clip(_frames(8), (4, 6, 8, 3))
  np.testing.assert_array_equal(frames, _frames(8)[::2])
  assert mask.all()
  assert "8 frames, of which 4" in notes[0]
  frames, mask, notes = fit_clip(_frames(3), (5, 6, 8, 3))
  np.testing.assert_array_equal(frames[:3], _frames(3))
  assert not frames[3:].any()
  assert mask.tolist() == [True, True, True, False, False]
  assert "has 3 frames" in notes[0]


def test_frames_take_the_size_and_the_channels_of_training():
  frames, mask, notes = fit_clip(_frames(), (5, 3, 4, 1))
  assert frames.shape == (5, 3, 4, 1)
  assert frames[:, 2, 3, 0].tolist() == [0, 20, 40, 60, 80]
  assert mask.all()
  assert not notes
  with pytest.raises(ValueError, match="1 or 3 channels"):
    fit_clip(_frames(), (5, 3, 4, 2))


@pytest.mark.parametrize("name", ["clip.webp", "clip.npy"])
def test_what_is_no_file_is_told_as_a_clip(tmp_path, name):
  with pytest.raises(ValueError, match=r"no file .* an animated WebP"):
    read_clip(tmp_path / name)
  (tmp_path / name).mkdir()
  with pytest.raises(ValueError, match=r"is a folder; .* an animated WebP"):
    read_clip(tmp_path / name)
