"""Cards of examples that are no question about a picture."""

import base64
import html
import io
import re

import numpy as np
import pytest
from PIL import Image

from mmjax.report.examples import ExampleView
from mmjax.report.intervals import Interval
from mmjax.report.page import Report, render_page


def _render(**fields):
  """The page of one example, and its text."""
  view = ExampleView(**{"image": None, "words": [], "text": "", **fields})
  page = render_page(
    Report(
      experiment="tiny",
      split="test",
      step=1,
      accuracy=Interval(0.5, 0.4, 0.6, 10),
      baselines={},
      num_images=1,
      by_type={},
      by_answer={},
      labels=["no", "yes"],
      confusion=[[1, 0], [0, 1]],
      calibration=[{"count": 2, "confidence": 0.9, "accuracy": 1.0}],
      ece=0.1,
      examples=[view],
    )
  )
  (card,) = re.findall("<article.*?</article>", page, re.DOTALL)
  text = html.unescape(re.sub("<[^>]*>", " ", card))
  return card, " ".join(text.split())


@pytest.mark.parametrize("is_right", [True, False])
def test_captions_are_told_apart(is_right):
  true, false = "the red box is left", "the red box is <right>"
  top = [(true, 0.75), (false, 0.25)]
  if not is_right:
    top = [(false, 0.75), (true, 0.25)]
  card, text = _render(
    text="which caption is true?", answer=true, top=top, choices="captions"
  )
  assert "True: the red box is left" in text
  assert "False: the red box is <right>" in text
  assert re.findall("<mark>(.*?)</mark>", card) == [
    html.escape(caption.split()[-1]) for caption, _ in top
  ]
  assert ("Right , the true caption" in text) == is_right
  assert ("Wrong , the false caption" in text) != is_right
  # A sentence takes the width of the card.
  assert 'class="bars captions"' in card


def test_a_clip_shows_its_frames_even_without_a_graph():
  frames = np.arange(4, dtype=np.uint8)[:, None, None, None]
  frames = np.broadcast_to(50 * frames, (4, 5, 5, 3))
  mask = np.array([True, True, False, True])
  card, text = _render(
    answer="up", top=[("up", 1.0)], frames=frames, frame_mask=mask
  )
  assert re.findall('alt="frame (.)"', card) == ["1", "2", "4"]
  addresses = re.findall('src="data:image/png;base64,(.*?)"', card)
  pixels = [
    np.asarray(Image.open(io.BytesIO(base64.b64decode(address))))
    for address in addresses
  ]
  assert [one.max() for one in pixels] == [0, 50, 150]
  assert 'class="question"' not in card
  assert "Frames" in text
  card, _ = _render(answer="up", top=[("up", 1.0)])
  assert 'class="strip"' not in card
