"""How many masks each step commits: by the clock, and by how sure the predictions are."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.config import GenerationConfig
from diffutron_ort.sampler.random import Stream, uniform
from diffutron_ort.types import Floats

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
    for step in range(steps):
        [u] = uniform(seed, Stream.TRANSFER, block, step, np.zeros(1, np.int64))
        if count := binomial_quantile(masks, transfer_probability(step, steps, schedule), float(u)):
            counts.append(count)
            masks -= count
        if not masks:
            break
    return counts


def sure_count(doubts: NDArray[np.float64], entropies: Floats, config: GenerationConfig) -> int:
    """Return how many candidates [n], in commit order, are sure enough by the rule `config.commit` to go together."""
    if config.commit == "factor":
        return factor_count(doubts, config.commit_factor)
    if config.commit == "entropy":
        return entropy_count(entropies, config.commit_entropy)
    return 0


def factor_count(doubts: NDArray[np.float64], factor: float) -> int:
    """Return the largest m with (m + 1)(1 - c) < `factor`, c the confidence of the m-th of `doubts` [n], ascending.

    With a factor of 1 the best tokens one by one are the best tokens together (Fast-dLLM, arXiv:2505.22618).
    """
    odds = np.minimum(doubts, np.finfo(np.float64).max)  # an infinite one would be inf / inf
    wrong = odds / (1 + odds)  # 1 - c, and precise where c is almost 1
    number = np.arange(1, len(wrong) + 1)
    return int(((number + 1) * wrong < factor).sum())  # the left side never falls


def entropy_count(entropies: Floats, bound: float) -> int:
    """Return the largest m for which the first m of `entropies` [n], in nats, less the largest sum to `bound` at most.

    That sum bounds what the tokens know of one another (EB-Sampler, arXiv:2505.24857).
    """
    nats = entropies.astype(np.float64)
    dependence = np.cumsum(nats) - np.maximum.accumulate(nats)  # never falls
    return int((dependence <= bound).sum())


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
