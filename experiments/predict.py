r"""Answers a question about an image, or tells what a clip or a record is.

  python -m experiments.predict --workdir runs/easy_vqa --image F.png \
    --text "what is the blue shape?" --attention where.png
  python -m experiments.predict --workdir runs/motion --clip F.webp
  python -m experiments.predict --workdir runs/matching --record test/0 \
    --attention where.png

Pictures and clips need the work directory only, `--record` the data as well.
Prints the best answers with probabilities; `--attention` draws what was looked
at, and the graph if there is one.
"""

import argparse
import sys

from experiments import cli


def main() -> int:
  """Parses the flags and predicts."""
  parser = argparse.ArgumentParser(
    prog="python -m experiments.predict",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  cli.add_checkpoint_flags(parser)
  parser.add_argument("--image", help="an image file")
  parser.add_argument("--text", help="the question")
  parser.add_argument(
    "--clip",
    metavar="FILE",
    help="an animated WebP, GIF or PNG, or frames as .npy, uint8 [T, h, w] or "
    "[T, h, w, c]",
  )
  parser.add_argument(
    "--record", metavar="ID", help="an example of the data, such as test/0"
  )
  parser.add_argument(
    "--attention", metavar="OUT.png", help="draw where the model looked"
  )
  parser.add_argument("--json", action="store_true", help="print JSON instead")
  args = parser.parse_args()
  if cli.has_answered(parser, args):
    return 0
  _check_asked(parser, args)

  from mmjax.evaluation import load_trained
  from mmjax.explanation import explain_clip, explain_example, explain_record
  from mmjax.report.drawing import draw_attention, picture_kind
  from mmjax.report.examples import star_differences
  from mmjax.training.progress import make_progress

  if args.attention is not None:
    picture_kind(args.attention)  # refused before anything is loaded
  with make_progress() as progress, progress.phase("loading and answering"):
    trained = load_trained(
      args.workdir, args.step, trust=args.trust, overrides=args.overrides
    )
    if args.record is not None:
      view = explain_record(trained, args.record)
      notes = [f"true is: {view.answer}"]
    elif args.clip is not None:
      view, notes = explain_clip(trained, args.clip)
    else:
      view, notes = explain_example(trained, image=args.image, text=args.text)
  for note in notes:
    print(f"note: {note}", file=sys.stderr)
  if args.attention is not None:
    draw_attention(args.attention, view)
    print(f"attention: {args.attention}", file=sys.stderr)
  if args.json:
    cli.print_json({"answers": dict(view.top), "notes": notes})
    return 0
  answers = [answer for answer, _ in view.top]
  if view.choices == "captions":  # two sentences that differ in a word
    answers = star_differences(answers)
  width = max(12, *map(len, answers))
  for answer, (_, probability) in zip(answers, view.top, strict=True):
    print(f"{answer:<{width}} {100 * probability:6.2f} %")
  return 0


def _check_asked(
  parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
  """Ends with a message unless one thing is asked for, and all of it."""
  question = args.image is not None or args.text is not None
  ways = [question, args.clip is not None, args.record is not None]
  if sum(ways) != 1 or (question and None in (args.image, args.text)):
    parser.error(
      "--image and --text are needed, or --clip, or --record: what to answer"
    )


if __name__ == "__main__":
  cli.run_main(main)
