"""What scoring costs beyond the passes that it makes, and what methods cost, at the real size."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort import Diffutron
from diffutron_ort.runtime.contract import Forward, PassInput, Predictions

HEAD = (
    "128 tokens, full size",
    "pll, s",
    "passes alone, s",
    "pll over passes",
    "a pass, ms",
    "elbo of 16, s",
    "policy, s",
)


class Recorder:
    """A model that remembers its passes."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.passes: list[PassInput] = []

    @property
    def batch_invariant(self) -> bool:
        """That of the model."""
        return self._forward.batch_invariant

    def __call__(self, given: PassInput, /) -> Predictions:
        """Run a pass, and remember it."""
        self.passes.append(replace(given, past=None))
        return self._forward(given)


class Times(NamedTuple):
    """Medians of rounds, in seconds, and the number of passes of `pll`."""

    pll: float
    alone: float
    ratio: float
    passes: int
    elbo: float
    policy: float


def times(model: Diffutron, rounds: int) -> Times:
    """Time a text of 128 tokens, and the same passes by themselves, by turns."""
    ids = np.random.default_rng(0).integers(2000, model.bundle.vocab_size, 128)
    recorder = Recorder(model.forward)
    watched = Diffutron(model.bundle, model.tokenizer, recorder)
    watched.score(ids, method="pll")
    passes = list(recorder.passes)

    def alone() -> None:
        for given in passes:
            model.forward(given)

    ways: Sequence[Callable[[], Any]] = (
        lambda: model.score(ids, method="pll"),
        alone,
        lambda: model.score(ids, method="elbo", samples=16),
        lambda: model.score(ids, method="policy", steps=128),
    )
    rows = [[_seconds(way) for way in ways] for _ in range(rounds)]
    ratio = median(row[0] / row[1] for row in rows)
    pll, bare, elbo, policy = (median(column) for column in zip(*rows, strict=True))
    return Times(pll, bare, ratio, len(passes), elbo, policy)


def row(label: str, found: Times) -> list[str]:
    """Return times as a row."""
    each = found.alone / found.passes * 1000
    return [
        label,
        f"{found.pll:.2f}",
        f"{found.alone:.2f}",
        f"{found.ratio:.3f}",
        f"{each:.0f}",
        f"{found.elbo:.2f}",
        f"{found.policy:.2f}",
    ]


def _seconds(do: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun
