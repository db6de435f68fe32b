"""Figures of a setting on some texts, and how they differ from another's on the same tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from diffutron_ort import Diffutron
from diffutron_ort.perplexity.measuring import measured
from diffutron_ort.perplexity.ratio import Ratio
from diffutron_ort.perplexity.result import Result
from diffutron_ort.perplexity.summary import Summary, summarised

HEAD = ("nats a token", "difference, nats a token", "bits a byte", "perplexity", "never written", "passes")
SPREAD_HEAD = ("mean, nats a token", "spread", "told from the masks", "told over documents")
SEEDS = 6


class Corpus(NamedTuple):
    """Texts to score.

    Attributes:
        name: What to call them.
        texts: The texts.
        questions: What they answer, in the chat template; None for plain texts.
    """

    name: str
    texts: Sequence[str]
    questions: Sequence[str] | None = None


def scored(bundle: Path, variant: str, corpus: Corpus, how: Mapping[str, Any]) -> list[Result]:
    """Score texts."""
    model = Diffutron.from_pretrained(bundle, variant=variant)
    if corpus.questions is None:
        return list(measured(model, corpus.texts, **how))
    return [Result(corpus.name, one) for one in model.score(corpus.texts, corpus.questions, template=True, **how)]


def difference(one: Sequence[Result], other: Sequence[Result]) -> Ratio:
    """Return how much more nats a token the first takes than the second, over the tokens that both can write."""
    ratio = Ratio()
    for a, b in zip(one, other, strict=True):
        assert a.score is not None, a
        assert b.score is not None, b
        both = a.possible & b.possible
        ratio.add(float((b.score.logprobs - a.score.logprobs)[both].sum()), float(both.sum()))
    return ratio


def row(found: Sequence[Result], against: Sequence[Result] | None) -> list[str]:
    """Return the figures of a setting, and how they differ from another's."""
    summary = summarised(found)
    perplexity = _known(summary.perplexity)
    return [
        f"{_known(summary.nats_per_token):.4f} ± {_known(summary.standard_error):.4f}",
        "–" if against is None else _signed(difference(found, against)),
        f"{_known(summary.bits_per_byte):.4f}",
        f"{perplexity:,.1f}" if perplexity < 1e4 else f"{perplexity:.2g}",
        f"{summary.impossible_tokens}",
        f"{summary.passes:,}",
    ]


def spread(model: Diffutron, texts: Sequence[str], samples: int) -> list[str]:
    """Return how much the bound's estimate changes with the seed, and the errors that are told of it."""
    found = [summarised(measured(model, texts, samples=samples, seed=1000 * seed)) for seed in range(SEEDS)]
    values = [_known(one.nats_per_token) for one in found]
    errors = [mean(_known(error) for error in each) for each in zip(*map(_errors, found), strict=True)]
    return [f"{mean(values):.3f}", f"{stdev(values):.3f}", *(f"{error:.3f}" for error in errors)]


def _errors(summary: Summary) -> tuple[float | None, float | None]:
    return summary.sampling_error, summary.standard_error


def _known(value: float | None) -> float:
    assert value is not None, "every text has tokens"
    return value


def _signed(ratio: Ratio) -> str:
    return f"{_known(ratio.value):+.4f} ± {_known(ratio.standard_error):.4f}"
