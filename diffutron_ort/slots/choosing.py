"""Choose among the options of a slot, by the likelihood of each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.runtime.contract import Forward
from diffutron_ort.scoring.probe import Answer, Probe, probed
from diffutron_ort.scoring.work import Work, part
from diffutron_ort.types import Ids


def likelihoods(
    forward: Forward, options: Sequence[Ids], before: Ids, after: Ids, mask: int
) -> Work[NDArray[np.float64]]:
    """Return the logarithm of the likelihood of each option between the tokens before and after it, [options].

    It is the exact one under the order in which the model is surest of its own predictions: each pass reveals one
    token, and counts with what the model gave to the option's (DUEL, arXiv:2603.01367). All options that are not yet
    whole share the passes.

    Args:
        forward: The model.
        options: The tokens [n] of each, at least one.
        before: The tokens before them.
        after: Those after them.
        mask: The id of `<mask>`.
    """
    hidden = [np.ones(len(option), bool) for option in options]
    logprobs = np.zeros(len(options))
    longest = max(map(len, options))
    for step in range(longest):
        left = [number for number, masks in enumerate(hidden) if masks.any()]
        probes = [_probe(options[number], hidden[number], before, after, mask) for number in left]
        answers = yield from part(probed(forward, probes), step / longest, (step + 1) / longest)
        for number, answer in zip(left, answers, strict=True):
            logprobs[number] += _reveal(answer, hidden[number])
    return logprobs


def _probe(option: Ids, hidden: NDArray[np.bool_], before: Ids, after: Ids, mask: int) -> Probe:
    """Return the question about the tokens of an option that are hidden."""
    canvas = np.concatenate([before, np.where(hidden, mask, option), after])
    return Probe(canvas, len(before) + np.flatnonzero(hidden), option[hidden][:, None])


def _reveal(answer: Answer, hidden: NDArray[np.bool_]) -> float:
    """Reveal the token of which the model is surest, and return the logarithm of what it gave to the option's."""
    row = int(np.argmax(answer.best.logprobs[:, 0]))
    hidden[np.flatnonzero(hidden)[row]] = False
    return float(answer.logprobs[row, 0])
