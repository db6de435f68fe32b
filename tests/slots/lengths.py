"""Measure how often the length of a slot is found, on nano's held-out questions and its plain sentences.

python -m tests.slots.lengths --count 260
"""

import argparse
import sys
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np

from diffutron_ort import Diffutron
from diffutron_ort.scoring.probe import Probe, probed
from diffutron_ort.scoring.work import finished
from diffutron_ort.slots.layout import masks
from diffutron_ort.slots.length import by_confidence, by_end

NANO = Path(__file__).parents[2] / "models" / "nano"
MOST = 8


def tasks(count):
    """Yield kinds of tasks, templates with one slot, its value, and prompts."""
    sys.path.insert(0, str(NANO))
    from exercises import sentence
    from questions import questions

    for exercise in islice(questions(1, "held-out"), count):
        if exercise.kind in ("order", "reverse"):
            first, *others = exercise.answer.split(", ")
            yield "first of a list", "{{x}}, " + ", ".join(others), first, exercise.question
        yield "answer", "{{x}}", exercise.answer, exercise.question
    rng = Random(5)
    for _ in range(count // 2):
        words = sentence(rng).rstrip(".").split(" ")
        place = rng.randrange(len(words))
        stem = words[place].partition("'")[0]
        words[place] = "{{x}}" + words[place][len(stem) :]
        yield "plain sentence", " ".join(words) + ".", stem, None


def found(model, template, prompt):
    """Return the length that each method finds."""
    filling = model.templates.filling(template, {"x": {"pattern": "text", "most": MOST}}, prompt, model.config())
    gap, slot, mask = filling.layout.gap(0), filling.slots[0], filling.mask
    lengths = slot.lengths(MOST)

    def asked(length):
        canvas = gap.canvas(masks(length, mask))
        return Probe(canvas, len(gap.before) + np.arange(length), np.zeros((length, 0), np.int64))

    answers = finished(probed(model.forward, [asked(length) for length in lengths]))
    holds = slot.menu.table.kinds[answers[-1].best.ids[:, 0]] >= 0
    return {
        "end": finished(by_end(model.forward, gap, slot.menu, lengths, filling.context, mask)),
        "confidence": finished(by_confidence(model.forward, gap, slot.menu, lengths, mask)),
        "pad": max(1, int(np.argmin(np.append(holds, False)))),
        "cal": [float(np.exp(answer.best.logprobs[:, 0]).mean()) for answer in answers],
    }


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=260)
    model, rows = Diffutron.from_pretrained(), []
    for kind, template, value, prompt in tasks(parser.parse_args().count):
        right = len(model.tokenizer.encode(value))
        if right <= MOST:
            rows.append((kind, right, found(model, template, prompt)))
    phi = np.array([each["cal"] for _, _, each in rows])
    apart = np.array([right for _, right, _ in rows])[:, None] != np.arange(1, MOST + 1)
    bias = np.where(apart, phi, 0).sum(axis=0) / apart.sum(axis=0)  # of all lengths but the right ones
    for (_, _, each), confidence in zip(rows, phi, strict=True):
        each["cal"], each["cal / bias"] = int(confidence.argmax()) + 1, int((confidence / bias).argmax()) + 1
    for kind in dict.fromkeys(kind for kind, _, _ in rows):
        own = [(right, each) for name, right, each in rows if name == kind]
        shares = {method: np.mean([each[method] == right for right, each in own]) for method in own[0][1]}
        print(f"{kind} ({len(own)}):", ", ".join(f"{method} {share:.1%}" for method, share in shares.items()))


if __name__ == "__main__":
    main()
