r"""Answers one question about one image, or one example of the data.

  python -m experiments.predict --workdir runs/easy_vqa --image F.png \
    --text "what is the blue shape?" --attention where.png
  python -m experiments.predict --workdir runs/matching --record test/0 \
    --attention where.png

A question about a picture needs the work directory only, `--record` the data as
well. Prints the best answers with probabilities.
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
    "--record", metavar="ID", help="an example of the data, such as test/0"
  )
  parser.add_argument(
    "--attention", metavar="OUT.png", help="draw where the model looked"
  )
  parser.add_argument("--json", action="store_true", help="print JSON instead")
  args = parser.parse_args()
  if cli.has_answered(parser, args):
    return 0
  asked = [args.image is not None, args.text is not None]
  if any(asked) if args.record is not None else not all(asked):
    parser.error("--image and --text are needed, or --record: what to answer")

  from mmjax.evaluation import load_trained
  from mmjax.explanation import explain_example, explain_record
  from mmjax.report.drawing import draw_attention, picture_kind
  from mmjax.training.progress import make_progress

  if args.attention is not None:
    picture_kind(args.attention)  # refused before anything is loaded
  with make_progress() as progress, progress.phase("loading and answering"):
    trained = load_trained(
      args.workdir, args.step, trust=args.trust, overrides=args.overrides
    )
    if args.record is not None:
      view, notes = explain_record(trained, args.record), []
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
  width = max(12, *(len(answer) for answer, _ in view.top))
  for answer, probability in view.top:
    print(f"{answer:<{width}} {100 * probability:6.2f} %")
  return 0


if __name__ == "__main__":
  cli.run_main(main)
