"""Which candidates a step commits: in what order, and how many beyond the schedule's number.

To add a rule, add a function to `RULES` and its name, with its own option, to `GenerationConfig`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.config import GenerationConfig
from diffutron_ort.sampler.predict import Candidates
from diffutron_ort.sampler.random import Stream, uniform
from diffutron_ort.types import Floats

Order = NDArray[np.intp]
Rule = Callable[[NDArray[np.float64], Floats, GenerationConfig], int]


def chosen(candidates: Candidates, scheduled: int, config: GenerationConfig, seed: int, block: int, step: int) -> Order:
    """Return the indices [m] of the candidates to commit, the most certain first.

    Args:
        candidates: What the pass predicts.
        scheduled: How many the schedule commits; a rule only ever adds to them.
        config: The options.
        seed: Of the sequence.
        block: Number of the active block.
        step: Number of the step in it.
    """
    order = commit_order(candidates, config.remasking, seed, block, step)
    sure = RULES[config.commit](candidates.deciding[order], candidates.entropies[order], config)
    withheld = candidates.withheld[order]
    known_first = np.concatenate([order[~withheld], order[withheld]])
    return known_first[: max(scheduled, sure - int(withheld[:sure].sum()))]


def commit_order(candidates: Candidates, remasking: str, seed: int, block: int, step: int) -> Order:
    """Return the order [n] in which a sampler that knows every token commits them; ties go to the lowest position."""
    odds = candidates.deciding
    if remasking == "random":
        odds = -uniform(seed, Stream.REMASKING, block, step, candidates.positions)
    return np.argsort(odds, kind="stable")


def factor_count(odds: NDArray[np.float64], factor: float) -> int:
    """Return the largest m with (m + 1)(1 - c) < `factor`, where c is the confidence of the m-th of `odds` [n].

    The odds are ascending. With a factor of 1 the best tokens one by one are the best tokens together (Fast-dLLM,
    arXiv:2505.22618).
    """
    finite = np.minimum(odds, np.finfo(np.float64).max)  # an infinite one would be inf / inf
    wrong = finite / (1 + finite)  # 1 - c, and precise where c is almost 1
    number = np.arange(1, len(wrong) + 1)
    return int(((number + 1) * wrong < factor).sum())  # the left side never falls


def entropy_count(entropies: Floats, bound: float) -> int:
    """Return the largest m for which the first m of `entropies` [n], in nats, less the largest sum to at most `bound`.

    That sum bounds what the tokens tell of one another (EB-Sampler, arXiv:2505.24857).
    """
    nats = entropies.astype(np.float64)
    dependence = np.cumsum(nats) - np.maximum.accumulate(nats)  # never falls
    return int((dependence <= bound).sum())


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "schedule": lambda odds, entropies, config: 0,  # noqa: ARG005 - commits the scheduled number alone
        "factor": lambda odds, entropies, config: factor_count(odds, config.commit_factor),  # noqa: ARG005
        "entropy": lambda odds, entropies, config: entropy_count(entropies, config.commit_entropy),  # noqa: ARG005
    }
)
"""How many candidates, in commit order, are certain enough to be committed together.

A rule is given the odds against them [n], their entropies [n] in nats, and the options.
"""
_CHOICES = GenerationConfig.__dataclass_fields__["commit"].metadata["choices"]
assert tuple(RULES) == _CHOICES, "the rules are the choices of the option `commit`"
