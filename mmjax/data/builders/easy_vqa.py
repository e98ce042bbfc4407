"""easy-VQA: questions about one coloured shape in a picture of 64 x 64.

Victor Zhou, "Easy Visual Question Answering", 2019,
https://github.com/vzhou842/easy-VQA, MIT licence. One record is an image with
all of its questions. The official training images are split further: the tenth
of them whose ids hash lowest is `validation`, so that no image is in both.
"""

import collections
import hashlib
import io
import json
import pathlib
from collections.abc import Collection, Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data import packages

PACKAGE = packages.DataPackage(
  registry="pip",
  name="easy-vqa",
  version="1.0",
  sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
  filename="easy_vqa-1.0-py3-none-any.whl",
  content="easy_vqa/data",
  content_sha256="9b5abf4e70713058370254dbb3ca3f2974f48a3d9eef96488dcf112647cd8fc7",
)
_TYPES = {
  **dict.fromkeys(("no", "yes"), "yes/no"),
  **dict.fromkeys(("circle", "rectangle", "triangle"), "shape"),
  **dict.fromkeys(
    ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow"),
    "color",
  ),
}
_CITATION = """@misc{zhou2019easyvqa,
  author = {Victor Zhou},
  title = {Easy Visual Question Answering},
  year = {2019},
  url = {https://github.com/vzhou842/easy-VQA},
}"""


def split_images(
  image_ids: Collection[int],
) -> tuple[set[int], set[int]]:
  """Splits the official training images into training and validation.

  Args:
    image_ids: ids of images; their order plays no part.

  Returns:
    The ids for training and the tenth, rounded down, for validation: those
    with the lowest SHA-256 of the id in decimal digits.
  """
  order = sorted(
    image_ids, key=lambda i: hashlib.sha256(str(i).encode()).digest()
  )
  num_validation = len(order) // 10
  return set(order[num_validation:]), set(order[:num_validation])


class EasyVqaBuilder(tfds.core.GeneratorBasedBuilder):
  """Writes easy-VQA as records; `manual_dir` is the package's data folder."""

  name = "easy_vqa"
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
  MANUAL_DOWNLOAD_INSTRUCTIONS = "The data folder of the package easy-vqa."

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="Questions about one coloured shape in a small picture.",
      features=tfds.features.FeaturesDict(
        {
          "image_id": np.int32,
          "image": tfds.features.Image(
            shape=(64, 64, 3), encoding_format="png"
          ),
          "questions": tfds.features.Sequence(
            {
              # Its place in the official list of questions of its folder.
              "question_id": np.int32,
              "text": tfds.features.Text(),
              "answer": tfds.features.Text(),
              "type": tfds.features.Text(),
            }
          ),
        }
      ),
      homepage="https://github.com/vzhou842/easy-VQA",
      citation=_CITATION,
      license="MIT",
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    folder = pathlib.Path(dl_manager.manual_dir)
    train, test = (_read_questions(folder / name) for name in ("train", "test"))
    kept, held_out = split_images(train)
    return {
      "train": self._generate_examples(
        folder / "train", {i: train[i] for i in sorted(kept)}
      ),
      "validation": self._generate_examples(
        folder / "train", {i: train[i] for i in sorted(held_out)}
      ),
      "test": self._generate_examples(folder / "test", test),
    }

  def _generate_examples(
    self, folder: pathlib.Path, questions: dict[int, list[dict[str, Any]]]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for image_id, of_image in questions.items():
      png = (folder / "images" / f"{image_id}.png").read_bytes()
      yield (
        image_id,
        {
          "image_id": image_id,
          "image": io.BytesIO(png),
          "questions": of_image,
        },
      )


def _read_questions(folder: pathlib.Path) -> dict[int, list[dict[str, Any]]]:
  """Reads questions.json, a list of [text, answer, image], by image."""
  rows = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
  by_image = collections.defaultdict(list)
  for number, (text, answer, image_id) in enumerate(rows):
    by_image[image_id].append(
      {
        "question_id": number,
        "text": text,
        "answer": answer,
        "type": _TYPES[answer],
      }
    )
  return by_image
