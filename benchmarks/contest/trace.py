"""The passes that the preset `fast` makes on nano's held-out questions, to be replayed at full size.

    python -m contest.trace OUT [--count N]

Random weights are never sure of anything, so an answer of the full-size stand-in cannot show what adaptive commits
save; a trained model's passes can. An answer's passes end where its text is settled, as they do for a user.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

TRACES = "fast.json"
NANO = Path(__file__).parents[2] / "models" / "nano"


class Pass(NamedTuple):
    """One pass: whether it computed the whole canvas, how many tokens that were, and how many it predicted."""

    full: bool
    computed: int
    asked: int


def record(count: int, seed: int = 1) -> dict[str, Any]:
    """Let nano answer `count` held-out questions, and return the passes of each answer and who was asked for what."""
    sys.path.append(str(NANO))
    from questions import questions

    from diffutron_ort import Diffutron

    model = Diffutron.from_pretrained(NANO)
    traces = []
    for exercise in islice(questions(seed, "held-out"), count):
        steps = model.stream(exercise.question, preset="fast")
        traces.append([Pass(step.is_full, step.num_computed, step.num_predicted) for step in steps])
    config = model.config("fast")
    names = ("cache", "refresh_steps", "refresh_entropy", "commit", "commit_factor", "commit_entropy")
    return {"seed": seed, "options": {name: getattr(config, name) for name in names}, "traces": traces}


def summary(traces: Sequence[Sequence[Sequence[int]]]) -> Mapping[str, float]:
    """Return what an answer took on average: full and cached passes, and tokens and rows of a cached one and a full."""
    answers = [[Pass(*made) for made in trace] for trace in traces]
    result: dict[str, float] = {}
    for name, full in (("full", True), ("cached", False)):
        made = [one for answer in answers for one in answer if one.full == full]
        result[f"{name} passes"] = len(made) / len(answers)
        result[f"rows of a {name} pass"] = fmean([one.asked for one in made]) if made else 0.0
    return result


def main() -> None:
    """Write the traces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=52)
    options = parser.parse_args()
    options.out.write_text(json.dumps(record(options.count)), encoding="utf-8")


if __name__ == "__main__":
    main()
