"""Answer held-out questions with the shipped runtime and count the right ones.

    python models/nano/evaluate.py --seed 1 --count 520

An answer is right if it equals the expected text, apart from surrounding spaces.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from exercises import KINDS, SPLITS, SUM, Exercise
from questions import questions
from turkish import number

from diffutron_ort import Diffutron

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def sums() -> Iterator[Exercise]:
    """Yield all ten thousand sums of numbers from 0 to 99, in the wording of the README."""
    for a in range(100):
        for b in range(100):
            question = SUM.format(a=number(a), b=number(b))
            yield Exercise("sum", question, number(a + b), question)


def answers(model: Diffutron, exercises: Sequence[Exercise], batch: int, **settings: int | str) -> list[str]:
    """Answer in batches of questions of about one length."""
    order = sorted(range(len(exercises)), key=lambda i: len(exercises[i].question))
    texts = [""] * len(exercises)
    for chunk in (order[i : i + batch] for i in range(0, len(order), batch)):
        given = model.generate([exercises[i].question for i in chunk], **settings)
        for i, text in zip(chunk, given, strict=True):
            texts[i] = text.strip()
    return texts


def exact_match(exercises: Sequence[Exercise], texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Count right answers, overall and by kind, and their shares."""
    table = {}
    for name in ("overall", *KINDS):
        marks = [
            text == exercise.answer
            for exercise, text in zip(exercises, texts, strict=True)
            if name in ("overall", exercise.kind)
        ]
        if marks:
            table[name] = {"right": sum(marks), "count": len(marks), "share": sum(marks) / len(marks)}
    return table


def show(table: dict[str, dict[str, float]], wrong: Sequence[dict[str, str]], seconds: float) -> None:
    """Print the table and the mistakes for people."""
    for name, row in table.items():
        print(f"{name:12} {row['right']:5} of {row['count']:5}  {row['share']:7.1%}")
    print(f"{seconds:.1f} s")
    for row in wrong:
        print(f"wrong: {row['question']} -> {row['text']} (right: {row['answer']})")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Exact match of the shipped runtime.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=520)
    parser.add_argument("--split", choices=SPLITS, default="held-out")
    parser.add_argument("--sums", action="store_true", help="instead: all 10,000 sums from 0 to 99")
    parser.add_argument("--model", default=Path(__file__).parent)
    parser.add_argument("--variant", help="variant of the bundle (default: the bundle's)")
    parser.add_argument("--steps", type=int, help="fewer steps commit several tokens at once")
    parser.add_argument("--batch", type=int, default=26)
    parser.add_argument("--json", action="store_true", help="print one object")
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    options = arguments()
    chosen = sums() if options.sums else islice(questions(options.seed, options.split), options.count)
    exercises = list(chosen)
    model = Diffutron.from_pretrained(options.model, **({"variant": options.variant} if options.variant else {}))
    start = time.perf_counter()
    texts = answers(model, exercises, options.batch, **({"steps": options.steps} if options.steps else {}))
    seconds = time.perf_counter() - start
    table = exact_match(exercises, texts)
    wrong = [
        {"kind": exercise.kind, "question": exercise.question, "answer": exercise.answer, "text": text}
        for exercise, text in zip(exercises, texts, strict=True)
        if text != exercise.answer
    ]
    if options.json:
        print(json.dumps({"exact_match": table, "seconds": seconds, "wrong": wrong}, ensure_ascii=False, indent=1))
    else:
        show(table, wrong, seconds)


if __name__ == "__main__":
    main()
