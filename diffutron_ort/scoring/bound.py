"""The lower bound of a text's likelihood that masked diffusion is trained on (MDLM, arXiv:2406.07524), by sampling.

For n tokens of which k are masked, k uniform in 1..n and each choice of k tokens equally likely, it is the expectation
of n / k times the sum of the masked tokens' log-probabilities. It equals the mean, over all orders in which the tokens
can be written one by one, of the logarithm of the text's probability in that order.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.runtime.contract import Forward
from diffutron_ort.sampler.random import Stream, uniform
from diffutron_ort.scoring.passage import Found, Stretch
from diffutron_ort.scoring.probe import Answer, Probe, probed
from diffutron_ort.scoring.work import Work
from diffutron_ort.types import Ids


def bound(forward: Forward, mask: int, stretches: Sequence[Stretch], samples: int) -> Work[list[Found]]:
    """Return an estimate of the bound for each stretch, and its variance.

    Args:
        forward: The model.
        mask: The id of `<mask>`.
        stretches: Their tokens.
        samples: For each; at least 2. Samples that mask the same positions, as many do of a short text, share a pass.

    Raises:
        DiffutronError: As for `probed`.
    """
    drawn = [list(masks(stretch, samples)) if stretch.positions.size else [] for stretch in stretches]
    different = [{hidden.tobytes(): hidden for hidden in choices} for choices in drawn]
    probes = [
        Probe(stretch.with_masks(hidden, mask), hidden, stretch.ids[hidden, None])
        for stretch, choices in zip(stretches, different, strict=True)
        for hidden in choices.values()
    ]
    answers = iter((yield from probed(forward, probes)))
    known = [{key: next(answers) for key in choices} for choices in different]
    return [_estimate(*each) for each in zip(stretches, drawn, known, strict=True)]


def masks(stretch: Stretch, samples: int) -> Iterator[Ids]:
    """Yield the positions [k], ascending, that each sample masks.

    In each sample every choice of k of n positions is equally likely, but the samples depend on one another, so that
    their mean varies less. The k are stratified over 1..n: the j-th of m samples draws its own from the j-th of m equal
    parts. And n samples in a row go round one random order of the positions, each from where the one before it ended,
    so that they mask all positions equally often. (Masking complements in pairs was measured not to help.)
    """
    count = len(stretch.positions)
    order, begin = stretch.positions, 0
    for sample in range(samples):
        drawn = uniform(stretch.seed, Stream.SCORING, stretch.number, sample, np.arange(count + 1))
        if sample % count == 0:
            order, begin = stretch.positions[np.argsort(drawn[:count], kind="stable")], 0
        end = begin + 1 + int((sample + drawn[count]) / samples * count)
        yield np.sort(order[np.arange(begin, end) % count])
        begin = end % count


def _estimate(stretch: Stretch, choices: Sequence[Ids], answers: Mapping[bytes, Answer]) -> Found:
    """Return the mean of the samples' estimates, position by position, and the variance of its sum.

    Args:
        stretch: What they are of.
        choices: The positions [k] that each sample masks.
        answers: The model's, by the positions as bytes.
    """
    if not choices:
        return Found(np.zeros(0), 0.0, 0)
    values = np.zeros((len(choices), len(stretch.ids)), np.float64)
    for row, hidden in zip(values, choices, strict=True):
        row[hidden] = len(stretch.positions) / len(hidden) * answers[hidden.tobytes()].logprobs[:, 0]
    return Found(values.mean(axis=0)[stretch.positions], _variance(values.sum(axis=1)), len(answers))


def _variance(samples: NDArray[np.float64]) -> float:
    """Return the variance of the mean of `samples` [m], one from each stratum.

    It is estimated from the differences between successive samples. These include the differences between strata, and
    that samples share an order is left out, so the estimate errs on the large side.
    """
    if not np.isfinite(samples).all():  # a token that the model cannot write
        return math.inf
    return float((np.diff(samples) ** 2).mean() / 2 / len(samples))
