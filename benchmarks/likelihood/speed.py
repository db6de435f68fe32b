"""What scoring costs beyond the passes that it makes, and what the methods cost, at the real size."""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort import Diffutron
from diffutron_ort.runtime.contract import Forward, PassInput, Predictions

TOKENS = 128
HEAD = ("variant", "pll, s", "passes", "over its passes", "over plain ones", "ms a token", "elbo of 16, s", "policy, s")


class Clock:
    """A model that times its passes, and after each the same pass without targets: what the sampler would ask."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.own: list[float] = []
        self.plain: list[float] = []

    @property
    def batch_invariant(self) -> bool:
        """That of the model."""
        return self._forward.batch_invariant

    def __call__(self, given: PassInput, /) -> Predictions:
        """Run a pass."""
        begun = time.perf_counter()
        found = self._forward(given)
        ended = time.perf_counter()
        self._forward(replace(given, target_ids=given.target_ids[:, :0]))
        self.own.append(ended - begun)
        self.plain.append(time.perf_counter() - ended)
        return found


class Times(NamedTuple):
    """Medians of rounds.

    Attributes:
        pll: Seconds of the method.
        passes: How many it made.
        over_own: What it took, over what its passes took.
        over_plain: What it took, over what the same passes take without targets.
        elbo: Seconds of that method, with 16 samples.
        policy: Seconds of that method, with a step for each token.
    """

    pll: float
    passes: int
    over_own: float
    over_plain: float
    elbo: float
    policy: float


def times(model: Diffutron, rounds: int) -> Times:
    """Time a text of 128 tokens."""
    ids = np.random.default_rng(0).integers(2000, model.bundle.vocab_size, TOKENS)
    model.score(ids[:8], method="pll")
    found = [_round(model, ids) for _ in range(rounds)]
    return Times(*(median(column) for column in zip(*found, strict=True)))


def row(found: Times) -> list[str]:
    """Return times as a row, without the name of the variant."""
    return [
        f"{found.pll:.2f}",
        f"{found.passes}",
        f"{found.over_own:.3f}",
        f"{found.over_plain:.3f}",
        f"{found.pll / TOKENS * 1000:.0f}",
        f"{found.elbo:.2f}",
        f"{found.policy:.2f}",
    ]


def _round(model: Diffutron, ids: Any) -> tuple[float, int, float, float, float, float]:
    clock = Clock(model.forward)
    watched = Diffutron(model.bundle, model.tokenizer, clock)
    whole = _seconds(lambda: watched.score(ids, method="pll")) - sum(clock.plain)
    elbo = _seconds(lambda: model.score(ids, method="elbo", samples=16))
    policy = _seconds(lambda: model.score(ids, method="policy", steps=TOKENS))
    return whole, len(clock.own), whole / sum(clock.own), whole / sum(clock.plain), elbo, policy


def _seconds(do: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun
