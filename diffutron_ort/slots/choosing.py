"""Choose among the options of a slot, by the likelihood of each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.runtime.contract import Forward
from diffutron_ort.scoring.probe import Answer, Probe, probed
from diffutron_ort.scoring.work import Work, part
from diffutron_ort.slots.kinds import Gap
from diffutron_ort.slots.layout import masks
from diffutron_ort.types import Ids


def likelihoods(
    forward: Forward, options: Sequence[Ids], gap: Gap, mask: int, *, by_end: bool = False
) -> Work[NDArray[np.float64]]:
    """Return the logarithm of the likelihood of each option between the tokens before and after it, [options].

    It is the exact one under the order in which the model is surest of its own predictions: each pass reveals one
    token, and counts with what the model gave to the option's (DUEL, arXiv:2603.01367). All options that are not yet
    whole share the passes.

    Args:
        forward: The model.
        options: The tokens [n] of each, at least one.
        gap: Their place.
        mask: The id of `<mask>`.
        by_end: Whether what follows is masked as well, and its first token counts to each option. So all canvases have
            one length, and none gives away how long its option is: of 200 answers of nano, compared with a short word
            that it has made up, the answer is likelier 200 times, else 183 times. A token must follow.
    """
    ids = [np.append(option, gap.after[:1]) for option in options] if by_end else list(options)
    longest, beyond = max(map(len, ids)), len(gap.after) - 1
    afters = [masks(longest - len(one) + beyond, mask) if by_end else gap.after for one in ids]
    hidden = [np.ones(len(one), bool) for one in ids]
    logprobs = np.zeros(len(ids))
    for step in range(longest):
        left = [number for number, hides in enumerate(hidden) if hides.any()]
        probes = [_probe(ids[number], hidden[number], gap.before, afters[number], mask) for number in left]
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
