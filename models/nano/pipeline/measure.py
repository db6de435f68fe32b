"""Exports a stage and measures the bundle with the shipped runtime: nothing here runs torch."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

from evaluate import answers, exact_match
from questions import questions
from texts import held_out

from diffutron_ort import Diffutron
from diffutron_ort.bundle.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stages import Stage

    from diffutron_ort.scoring.score import Score

CARD = ("kl", "top1_agreement", "top1_agreement_clear")
"""What is shown of a variant's card: how far it is from the checkpoint run in numpy."""
BATCH = 26
"""Questions that are answered together: two of each kind."""


def diffutron(*arguments: str | Path) -> None:
    """Run a command of the package, and stop if it fails, which it explains itself."""
    if code := subprocess.run([sys.executable, "-m", "diffutron_ort", *map(str, arguments)]).returncode:  # noqa: S603
        sys.exit(code)


def export(stage: Stage, run: Path, variants: Sequence[str]) -> dict[str, Any]:
    """Export and verify a stage, of an adapter with its base, and return the cards of its variants."""
    folder = run / stage.name
    bundle = folder / "bundle"
    base, adapter = folder, []
    if stage.learns == "adapter":
        base, adapter = run / str(stage.after), ["--adapter", folder / "adapter"]
    if not (bundle / MANIFEST).exists():
        diffutron("export", base / "checkpoint", bundle, "--variant", *variants, *adapter)
    diffutron("verify", bundle)
    written = json.loads((bundle / MANIFEST).read_text())["variants"]
    return {"fidelity": {name: {figure: written[name]["fidelity"][figure] for figure in CARD} for name in variants}}


def perplexity(scores: Sequence[Score], kinds: Sequence[str]) -> dict[str, Any]:
    """Return the perplexity of all tokens together, and of each kind's."""

    def over(some: list[Score]) -> float:
        return math.exp(-sum(score.logprob for score in some) / sum(score.tokens for score in some))

    pairs = list(zip(kinds, scores, strict=True))
    by_kind = {name: over([score for kind, score in pairs if kind == name]) for name in dict.fromkeys(kinds)}
    return {"overall": over(list(scores)), "tokens": sum(score.tokens for score in scores), "by_kind": by_kind}


def measure(bundle: Path, count: int, seed: int) -> dict[str, Any]:
    """Measure a bundle's float32 variant on `count` held-out sentences and as many held-out questions.

    A sentence's perplexity is of its pseudo-likelihood (arXiv 1910.14659): each token given all others. An answer's is
    of the probability with which the sampler writes it after its question (arXiv 2603.01367).
    """
    model = Diffutron.from_pretrained(bundle, variant="fp32")
    kinds, texts = zip(*held_out(count, seed), strict=True)
    exercises = list(islice(questions(seed, "held-out"), count))
    asked, right = [each.question for each in exercises], [each.answer for each in exercises]
    given = model.score(right, asked, method="policy", template=True)
    return {
        "sentences": perplexity(model.score(list(texts), method="pll"), kinds),
        "answers": perplexity(given, [each.kind for each in exercises]),
        "exact_match": exact_match(exercises, answers(model, exercises, BATCH)),
    }
