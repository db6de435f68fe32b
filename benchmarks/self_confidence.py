"""Does a confidence tell right answers from wrong ones? Nano's held-out questions and harder ones.

    python benchmarks/self_confidence.py [--count 200]

Prints, for each confidence, the probability that a right answer has a higher one than a wrong answer (the area under
the ROC curve), its correlation with being right, and how often the best of several answers by it is right.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from diffutron_ort import Completion, Diffutron

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "models" / "nano")]

from questions import questions
from sweep.hard import hard_questions

Pair = tuple[str, str]
Answered = tuple[Completion, float, bool]
"""An answer, its likelihood under the sampler in nats, and whether it is right."""

CONFIDENCES: dict[str, Callable[[Answered], float]] = {
    "`self_confidence` (DiSE)": lambda one: one[0].self_confidence or 0.0,
    "`mean_confidence`": lambda one: one[0].mean_confidence or 0.0,
    "`least_confidence`": lambda one: one[0].least_confidence or 0.0,
    '`score(method="policy")`': lambda one: one[1],
}


def answered(model: Diffutron, pairs: Sequence[Pair], temperature: float, seed: int = 0) -> list[Answered]:
    """Return the answers to questions, each with its likelihood, and whether it is right."""
    asked = [question for question, _ in pairs]
    found = model.complete(asked, temperature=temperature, seed=seed, self_confidence=True)
    scores = [
        model.score(one.text, question, template=True, repetition_penalty=1.0).logprob
        for one, question in zip(found, asked, strict=True)
    ]
    right = [one.text == answer for one, (_, answer) in zip(found, pairs, strict=True)]
    return list(zip(found, scores, right, strict=True))


def area(values: Sequence[float], right: Sequence[bool]) -> float:
    """Return the probability that a right answer has a higher value than a wrong one; equal values count half."""
    higher = np.array([v for v, r in zip(values, right, strict=True) if r])[:, None]
    lower = np.array([v for v, r in zip(values, right, strict=True) if not r])[None]
    return float((higher > lower).mean() + (higher == lower).mean() / 2) if higher.size and lower.size else float("nan")


def correlation(values: Sequence[float], right: Sequence[bool]) -> float:
    """Return the rank correlation of a confidence with being right."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return float(np.corrcoef(ranks, np.array(right, float))[0, 1]) if len(set(right)) == 2 else float("nan")


def kept(tries: Sequence[Sequence[Answered]], value: Callable[[Answered], float]) -> float:
    """Return how often the best of several answers to a question, by a confidence, is right."""
    return float(np.mean([max(several, key=value)[2] for several in zip(*tries, strict=True)]))


def report(name: str, model: Diffutron, pairs: Sequence[Pair], temperature: float, tries: int) -> None:
    """Print a table for one set of questions."""
    runs = [answered(model, pairs, temperature, seed=1000 * i) for i in range(tries)]
    whole = [one for run in runs for one in run]
    right = [one[2] for one in whole]
    print(f"\n{name}, temperature {temperature}: {np.mean(right):.1%} of {len(whole)} answers are right\n")
    print(f"| confidence | area under the curve | rank correlation | right, best of {tries} |\n|---|---|---|---|")
    for label, value in CONFIDENCES.items():
        values = [value(one) for one in whole]
        print(f"| {label} | {area(values, right):.3f} | {correlation(values, right):.2f} | {kept(runs, value):.1%} |")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="questions of each set")
    parser.add_argument("--tries", type=int, default=4, help="answers to each, of which the best is kept")
    options = parser.parse_args()
    model = Diffutron.from_pretrained(variant="fp32")
    known = [(one.question, one.answer) for one in islice(questions(7, "held-out"), options.count)]
    hard = [(one.question, one.answer) for one in islice(hard_questions(7), options.count)]
    report("held-out questions", model, known, 1.0, options.tries)
    report("harder questions", model, hard, 1.0, options.tries)


if __name__ == "__main__":
    main()
