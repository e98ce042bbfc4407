"""What a work directory holds, by name.

lock           held while a trainer is at work
checkpoints/   one folder a step, see `mmjax/checkpoint.py`
metrics.jsonl  one line for each log or evaluation event
tensorboard/   the same scalars for TensorBoard
evaluations/   scores of a checkpoint on a split, as JSON
report.html    the page for people
"""

LOCK_FILE = "lock"
CHECKPOINTS_DIR = "checkpoints"
METRICS_FILE = "metrics.jsonl"
TENSORBOARD_DIR = "tensorboard"
EVALUATIONS_DIR = "evaluations"
REPORT_FILE = "report.html"
