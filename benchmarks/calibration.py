"""Let nano choose among four answers, and measure how often it is right and what its probabilities are worth.

    python benchmarks/calibration.py [--count 300] [--seed 1]

The section `calibration` of RESULTS.md is replaced.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from choices.exercises import Choosing, choosings
from choices.figures import BINS, figures, normalised, rights
from questions import questions
from results import circumstances, machine, table, today, versions, write_section
from sweep.hard import hard_questions

from diffutron_ort import Diffutron
from diffutron_ort.choosing.chooser import NORMALISATIONS

HEAD = ("questions", "variant", "divided by", "right", "mean top", "ECE", "nats")
TEXT = """## Choices and their calibration (`benchmarks/calibration.py`)

{where}

Nano chooses with `model.choose` among the right answer and three wrong ones, drawn to be plausible: other forms of the
same noun, other orders of the same words, numbers that differ by 1, 2, 10 or 20, other days, months, capitals,
countries and words with an antonym. Method `policy`, chat template, seed {seed}, {count} questions each: **held-out**
ones of its thirteen kinds, and **harder** ones, which go beyond what it was taught (those of the frontier above). The
log-likelihood of each option is **divided by** nothing, by its tokens or by its bytes. **Top** is the largest of
the four probabilities; **ECE** the expected calibration error over {bins} bins of equal width; **nats** the mean of
-log p of the right answer. The target was 95 % of the held-out questions.

{rows}

Where nano knows the answer, its plain likelihoods are calibrated, and division by a length only flattens them. Where it
does not, it is far too sure with plain likelihoods, and division brings the probabilities closer to the truth. So no
choice of `normalise` is right for both; it is `none` unless told otherwise, and whoever acts on a probability should
measure on questions of their own. {seconds:.0f} s for each {count} questions with fp32 on a busy machine.
"""


def rows(sets: dict[str, list[Choosing]], seconds: list[float]) -> Iterator[list[str]]:
    """Yield the figures of each set, variant and normalisation as a row, and note how long fp32 took."""
    for variant in ("fp32", "int8"):
        model = Diffutron.from_pretrained(variant=variant)
        for name, asked in sets.items():
            begun = time.perf_counter()
            found = [model.choose(one.question, one.options) for one in asked]
            seconds += [time.perf_counter() - begun] * (variant == "fp32")
            for by in NORMALISATIONS:
                worth = figures(normalised(found, by, model.bundle.special.pad), rights(asked))
                shown = (f"{worth.accuracy:.1%}", *(f"{value:.3f}" for value in worth[1:]))
                yield [name, variant, by, *(cell.replace("%", " %") for cell in shown)]


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    drawn = {"held-out": questions(asked.seed, "held-out"), "harder": hard_questions(asked.seed)}
    sets = {name: choosings(exercises, asked.seed, asked.count) for name, exercises in drawn.items()}
    seconds: list[float] = []
    found = table(HEAD, list(rows(sets, seconds)))
    where = circumstances(today(), machine(), versions(["diffutron-ort", "onnxruntime", "numpy", "tokenizers"]))
    shown = {"where": where, "rows": found, "seconds": sum(seconds) / len(seconds), "bins": BINS}
    write_section("calibration", TEXT.format(**shown, seed=asked.seed, count=asked.count))


if __name__ == "__main__":
    main()
