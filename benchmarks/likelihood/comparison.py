"""Figures of a setting on some texts, and how they differ from another's on the same tokens."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffutron_ort import Diffutron
from diffutron_ort.perplexity.measuring import measured
from diffutron_ort.perplexity.ratio import Ratio
from diffutron_ort.perplexity.result import Result
from diffutron_ort.perplexity.summary import summarised

HEAD = (
    "setting",
    "nats a token",
    "difference, nats a token",
    "bits a byte",
    "perplexity",
    "not written",
    "passes",
    "s",
)


class Measured(NamedTuple):
    """What a setting came to, in how many seconds."""

    results: list[Result]
    seconds: float


def measure(bundle: Path, variant: str, texts: Sequence[str], how: Mapping[str, Any]) -> Measured:
    """Score texts."""
    model = Diffutron.from_pretrained(bundle, variant=variant)
    list(measured(model, texts[:1], **how))
    begun = time.perf_counter()
    results = list(measured(model, texts, **how))
    return Measured(results, time.perf_counter() - begun)


def difference(one: Sequence[Result], other: Sequence[Result]) -> Ratio:
    """Return how much more nats a token the first takes than the second, over the tokens that both can write."""
    ratio = Ratio()
    for a, b in zip(one, other, strict=True):
        assert a.score is not None, a
        assert b.score is not None, b
        both = a.possible & b.possible
        ratio.add(float((b.score.logprobs - a.score.logprobs)[both].sum()), float(both.sum()))
    return ratio


def row(label: str, found: Measured, against: Measured) -> list[str]:
    """Return the figures of a setting as a row."""
    summary = summarised(found.results)
    assert summary.nats_per_token is not None, label
    assert summary.perplexity is not None, label
    paired = "–" if against is found else _signed(difference(found.results, against.results))
    return [
        label,
        f"{summary.nats_per_token:.4f} ± {summary.standard_error or 0:.4f}",
        paired,
        f"{summary.bits_per_byte:.4f}",
        f"{summary.perplexity:,.4g}" if summary.perplexity < 1e4 else f"{summary.perplexity:.2g}",
        f"{summary.impossible_tokens}",
        f"{summary.passes:,}",
        f"{found.seconds:.1f}",
    ]


def _signed(ratio: Ratio) -> str:
    return f"{ratio.value or 0:+.4f} ± {ratio.standard_error or 0:.4f}"
