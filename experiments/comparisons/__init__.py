"""Every comparison; adding one is a line in `ALL`."""

from experiments.comparisons import (
  av_digits,
  emoji_clips,
  moving_digits,
  pid,
  video_graph,
)

ALL = (
  pid.COMPARISON,
  av_digits.COMPARISON,
  moving_digits.COMPARISON,
  video_graph.COMPARISON,
  emoji_clips.COMPARISON,
)

COMPARISONS = {comparison.name: comparison for comparison in ALL}
