"""Animated emoji: 477 clips of Microsoft's Fluent Emoji.

Microsoft, "Fluent Emoji", 2022, https://github.com/microsoft/fluentui-emoji, as
packed by LobeHub, https://github.com/lobehub/fluent-emoji, MIT licence. The
name of a file is the code points of its emoji; of its 999 files 477 are
animated, of 28 to 97 frames of 256 x 256 pixels, and the others are left out.
One record is a clip: frames at equal distances, laid on white and made small,
as one picture with a frame below the other. There is no split.
"""

import io
import pathlib
import unicodedata
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mmjax.data import emoji_clips, packages, transforms

PACKAGE = packages.DataPackage(
  registry="npm",
  name="@lobehub/fluent-emoji-anim-1",
  version="1.0.0",
  sha256="4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea",
  filename="lobehub-fluent-emoji-anim-1-1.0.0.tgz",
  content="package/assets",
  content_sha256="612ccaba54df7f8ab5d6e8dee6f4b29e001e8c00d510d7abd9820f4d08bbeb74",
)
# Five modifiers of skin tone, from light to dark.
_MODIFIERS = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")
_JOINERS = ("200d", "fe0f")  # zero-width joiner, "as a picture"
_CITATION = """@misc{microsoft2022fluent,
  author = {Microsoft},
  title = {Fluent Emoji},
  year = {2022},
  url = {https://github.com/microsoft/fluentui-emoji},
}"""


class Sequence(NamedTuple):
  """What the code points of an emoji say.

  Attributes:
    emoji: its code points but those of skin and "as a picture", with hyphens.
    tone: one of `emoji_clips.TONES`, or `"mixed"`, of two people.
    name: the Unicode names of its code points, in small letters.
  """

  emoji: str
  tone: str
  name: str


def read_sequence(code_points: str) -> Sequence:
  """Takes the code points of an emoji apart.

  Args:
    code_points: hexadecimal, with hyphens, for instance `1f44b-1f3fd`.

  Raises:
    ValueError: they are no code points, or one of them has no name.
  """
  points = code_points.split("-")
  tones = {_MODIFIERS.index(point) + 1 for point in points if _is_skin(point)}
  kept = [p for p in points if not _is_skin(p) and p != "fe0f"]
  try:
    names = [unicodedata.name(chr(int(p, 16))) for p in kept if p != "200d"]
  except ValueError as error:
    raise ValueError(
      f"{code_points!r} is no emoji ({error}); name it by its code points in "
      "hexadecimal, with hyphens between"
    ) from error
  tone = "mixed"
  if len(tones) < 2:
    tone = emoji_clips.TONES[max(tones, default=0)]
  return Sequence("-".join(kept), tone, ", ".join(names).lower())


def read_frames(
  path: pathlib.Path, num_frames: int, size: int
) -> np.ndarray | None:
  """Reads frames of an animation at equal distances.

  Args:
    path: a picture that Pillow can read.
    num_frames: T. Frame t of them is number `t * n // T` of n.
    size: height and width to shrink to.

  Returns:
    uint8 [T, size, size, 3], transparent parts are white; None if the picture
    does not move.

  Raises:
    ValueError: it cannot be read as a picture.
  """
  image = transforms.open_image(path)
  number = getattr(image, "n_frames", 1)
  if number == 1:
    return None
  frames = []
  for place in range(num_frames):
    image.seek(place * number // num_frames)
    frames.append(transforms.to_array(image, size))
  return np.stack(frames)


class FluentEmojiBuilder(tfds.core.GeneratorBasedBuilder):
  """Writes clips as records; `manual_dir` is the package's folder of clips."""

  name = "fluent_emoji"
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
  MANUAL_DOWNLOAD_INSTRUCTIONS = "The assets of @lobehub/fluent-emoji-anim-1."

  def _info(self) -> tfds.core.DatasetInfo:
    size, number = emoji_clips.SIZE, emoji_clips.NUM_STORED
    return tfds.core.DatasetInfo(
      builder=self,
      description="Animated emoji, many of them in six skin tones.",
      features=tfds.features.FeaturesDict(
        {
          # The name of its file: all of its code points.
          "clip": tfds.features.Text(),
          "emoji": tfds.features.Text(),
          "tone": tfds.features.Text(),
          "name": tfds.features.Text(),
          # Its frames, one below the other.
          "image": tfds.features.Image(
            shape=(number * size, size, 3), encoding_format="png"
          ),
        }
      ),
      homepage="https://github.com/lobehub/fluent-emoji",
      citation=_CITATION,
      license="MIT",
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    folder = pathlib.Path(dl_manager.manual_dir)
    return {"clips": self._generate_examples(sorted(folder.glob("*.webp")))}

  def _generate_examples(
    self, paths: list[pathlib.Path]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in paths:
      frames = read_frames(path, emoji_clips.NUM_STORED, emoji_clips.SIZE)
      if frames is None:
        continue
      png = io.BytesIO()
      strip = frames.reshape(-1, *frames.shape[2:])
      Image.fromarray(strip).save(png, format="png")
      png.seek(0)
      record = {"clip": path.stem, "image": png}
      yield path.stem, record | read_sequence(path.stem)._asdict()


def _is_skin(point: str) -> bool:
  return point in _MODIFIERS
