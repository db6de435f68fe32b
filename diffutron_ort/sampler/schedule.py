"""How many masks each step commits by the clock."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from diffutron_ort.sampler.random import Stream, uniform

# alpha(t): the share of tokens that are not masked any more at time t (1 is all noise, 0 is text), in float32.
ALPHAS: Mapping[str, Callable[[np.float32], np.float32]] = MappingProxyType(
    {
        "linear": lambda t: np.float32(1) - t,
        "cosine": lambda t: np.float32(1) - np.cos(np.float32(math.pi / 2) * (np.float32(1) - t)),
    }
)


def commit_counts(masks: int, steps: int, schedule: str = "linear") -> list[int]:
    """Return how many of `masks` masks each step commits: positive integers whose sum is `masks`.

    Steps that would commit none are left out, so there are at most `steps` counts. This is dllm's
    `get_num_transfer_tokens`: a float32 ratio, multiplied in float64, rounded half to even. The obvious formula
    in float64 gives other counts for a third of all pairs.
    """
    counts = []
    for step in range(steps):
        if count := min(round(masks * transfer_probability(step, steps, schedule)), masks):
            counts.append(count)
            masks -= count
        if not masks:
            break
    return counts


def drawn_counts(masks: int, steps: int, schedule: str, *, seed: int, block: int) -> list[int]:
    """Return counts as `commit_counts` does, but each drawn from a binomial distribution instead of rounded.

    Step j draws with the uniform of `Stream.TRANSFER` at (`seed`, `block`, j, position 0); the last takes what is left.
    """
    counts = []
    uniforms = uniform(seed, Stream.TRANSFER, block, np.arange(steps), np.zeros(steps, np.int64))
    for step, u in enumerate(uniforms.tolist()):
        if count := binomial_quantile(masks, transfer_probability(step, steps, schedule), u):
            counts.append(count)
            masks -= count
        if not masks:
            break
    return counts


def transfer_probability(step: int, steps: int, schedule: str) -> float:
    """Return the probability that a mask is committed in `step`, given that it still is one; 1 in the last step."""
    alpha = ALPHAS[schedule]
    now, then = (np.float32((steps - step - passed) / steps) for passed in (0, 1))
    one = np.float32(1)
    return 1.0 - float((one - alpha(then)) / (one - alpha(now)))


def binomial_quantile(trials: int, probability: float, u: float) -> int:
    """Return the least k with P(X <= k) > u, for X ~ Binomial(trials, probability) and u in [0, 1)."""
    if probability in (0.0, 1.0):
        return round(trials * probability)
    log_p, log_q = math.log(probability), math.log1p(-probability)
    below = 0.0
    for k in range(trials):
        log_choose = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        below += math.exp(log_choose + k * log_p + (trials - k) * log_q)
        if below > u:
            return k
    return trials
