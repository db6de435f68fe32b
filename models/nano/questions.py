"""Write exercises as JSON lines: kind, question, answer.

    python models/nano/questions.py --seed 1 --count 500 --split held-out

The kinds take turns. No question is repeated, in either capitalisation, until its kind has no other left; then that
kind starts over, and standard error says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import cycle, islice
from random import Random
from typing import TYPE_CHECKING

from exercises import KINDS, SPLITS, Exercise, draw_from
from turkish import lower

if TYPE_CHECKING:
    from collections.abc import Iterator

TRIES = 2000
"""The number of draws without anything new after which a kind counts as used up."""


def questions(seed: int, split: str) -> Iterator[Exercise]:
    """Draw exercises without end, the kinds in turn."""
    rng = Random(f"{seed}/{split}")  # a string seeds the same in every process
    seen: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for kind in cycle(KINDS):
        yield _new(kind, split, rng, seen[kind])


def _new(kind: str, split: str, rng: Random, seen: set[str]) -> Exercise:
    for _ in range(TRIES):
        exercise = draw_from(split, kind, rng)
        if lower(exercise.question) not in seen:
            seen.add(lower(exercise.question))
            return exercise
    print(f"{kind}: all {len(seen)} {split} questions are used up, starting over", file=sys.stderr)
    seen.clear()
    return _new(kind, split, rng, seen)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Write Turkish exercises as JSON lines.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--split", choices=SPLITS, default="held-out")
    options = parser.parse_args()
    if options.count < 0:
        parser.error(f"--count must be 0 or more, not {options.count}")
    for exercise in islice(questions(options.seed, options.split), options.count):
        line = {"kind": exercise.kind, "question": exercise.question, "answer": exercise.answer}
        print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    main()
