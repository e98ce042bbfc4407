"""Stamps: 785 small pictures with an English caption, in 16 categories.

Bill Kendrick and others, "Tux Paint Stamps", 2002-2022, https://tuxpaint.org,
GPL-2: rubber stamps of a drawing program for children, many of them photographs
cut out. One record is a picture in PNG form with the first line of its text
file. The package has no split; ours is random, 70/15/15 %, by groups: pictures
that look alike or have the same caption are in one split.

The package holds 164 more as drawings in SVG form only, which are left out, and
captions in other languages and sounds, which are not read.
"""

import hashlib
import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mmjax.data import packages, transforms

PACKAGE = packages.DataPackage(
  registry="apt",
  name="tuxpaint-stamps-default",
  version="2022.06.04-1",
  sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
  filename="tuxpaint-stamps-default_2022.06.04-1_all.deb",
  content="usr/share/tuxpaint/stamps",
)
IMAGE_SIZE = 64
# Pictures of 32 x 32 pixels that differ by less, root mean square of 255.
ALIKE = 20.0
_CITATION = """@misc{kendrick2022stamps,
  author = {Bill Kendrick and others},
  title = {Tux Paint Stamps},
  year = {2022},
  url = {https://tuxpaint.org},
}"""


def read_caption(path: pathlib.Path) -> str:
  """Reads the English caption, the first line of a text file.

  Raises:
    ValueError: it is empty or not UTF-8; the message names the file.
  """
  try:
    lines = path.read_text(encoding="utf-8").splitlines()
  except UnicodeDecodeError as error:
    raise ValueError(f"{path} is not UTF-8 ({error})") from error
  caption = " ".join(lines[0].split()) if lines else ""
  if not caption:
    raise ValueError(f"{path} starts without a caption")
  return caption


def fit_picture(image: Image.Image, size: int) -> Image.Image:
  """Shrinks or enlarges a picture to fit a white square, in its proportions.

  Args:
    image: any mode; transparency becomes white.
    size: height and width of the square in pixels.
  """
  image = transforms.convert_to_rgb(image)
  scale = size / max(image.size)
  shape = tuple(max(1, round(side * scale)) for side in image.size)
  image = image.resize(shape, Image.Resampling.BILINEAR)
  square = Image.new("RGB", (size, size), "white")
  square.paste(image, ((size - shape[0]) // 2, (size - shape[1]) // 2))
  return square


def group_pictures(pictures: np.ndarray, captions: Sequence[str]) -> np.ndarray:
  """Groups pictures that must not be in different splits.

  Two are in one group if they differ by less than `ALIKE`, if their captions
  are the same but for case and punctuation, or if a third is in one group with
  both.

  Args:
    pictures: uint8 [n, h, w, 3].
    captions: n.

  Returns:
    int [n], for each the first picture of its group.
  """
  values = pictures.reshape(len(pictures), -1).astype(np.float64)
  squares = np.square(values).sum(axis=1)
  distances = squares[:, None] + squares - 2 * values @ values.T
  alike = distances < ALIKE**2 * values.shape[1]
  words = np.array(
    ["".join(filter(str.isalnum, one.lower())) for one in captions]
  )
  linked = alike | (words[:, None] == words)
  groups = np.arange(len(pictures))
  while True:  # each takes the smallest number among those that it is linked to
    smallest = np.where(linked, groups, len(groups)).min(axis=1)
    if (smallest == groups).all():
      return groups
    groups = smallest


def split_groups(groups: np.ndarray, names: Sequence[str]) -> list[str]:
  """Splits groups at random: 70, 15 and 15 % of the pictures, about.

  The order is a fixed permutation that no version of numpy changes: the groups
  by the SHA-256 of the name of their first picture. A group goes where its
  last picture would.

  Args:
    groups: what `group_pictures` gave.
    names: n names of pictures.

  Returns:
    The split of each picture.
  """

  def digest(group: int) -> bytes:
    return hashlib.sha256(names[group].encode()).digest()

  splits, used = {}, 0
  for group in sorted(set(groups.tolist()), key=digest):
    used += int((groups == group).sum())
    bounds = ((70, "train"), (85, "validation"), (100, "test"))
    splits[group] = next(
      split for bound, split in bounds if 100 * used <= bound * len(groups)
    )
  return [splits[group] for group in groups.tolist()]


class StampsBuilder(tfds.core.GeneratorBasedBuilder):
  """Writes pictures with captions; `manual_dir` is the folder of the stamps."""

  name = "stamps"
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
  MANUAL_DOWNLOAD_INSTRUCTIONS = "The stamps of tuxpaint-stamps-default."

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="Small pictures with an English caption.",
      features=tfds.features.FeaturesDict(
        {
          # Its path in the package, without suffix.
          "name": tfds.features.Text(),
          "image": tfds.features.Image(
            shape=(IMAGE_SIZE, IMAGE_SIZE, 3), encoding_format="png"
          ),
          "caption": tfds.features.Text(),
          "category": tfds.features.Text(),
          "group": tfds.features.Text(),
        }
      ),
      homepage="https://tuxpaint.org",
      citation=_CITATION,
      license="GPL-2",
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    folder = pathlib.Path(dl_manager.manual_dir)
    paths = sorted(
      path for path in folder.rglob("*.png") if _text_of(path).is_file()
    )
    if not paths:
      raise ValueError(f"{folder} holds no picture NAME.png with a NAME.txt")
    names = [
      path.relative_to(folder).with_suffix("").as_posix() for path in paths
    ]
    captions = [read_caption(_text_of(path)) for path in paths]
    images = [fit_picture(transforms.open_image(p), IMAGE_SIZE) for p in paths]
    small = np.stack([np.asarray(image.resize((32, 32))) for image in images])
    groups = group_pictures(small, captions)
    splits = split_groups(groups, names)
    records = [
      {
        "name": name,
        "image": _to_png(image),
        "caption": caption,
        "category": name.partition("/")[0],
        "group": names[group],
      }
      for name, image, caption, group in zip(
        names, images, captions, groups.tolist(), strict=True
      )
    ]
    return {
      split: self._generate_examples(
        [r for r, s in zip(records, splits, strict=True) if s == split]
      )
      for split in ("train", "validation", "test")
    }

  def _generate_examples(
    self, records: Sequence[dict[str, Any]]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    for record in records:
      yield record["name"], record


def _text_of(path: pathlib.Path) -> pathlib.Path:
  return path.with_suffix(".txt")


def _to_png(image: Image.Image) -> io.BytesIO:
  png = io.BytesIO()
  image.save(png, format="png")
  png.seek(0)
  return png
