"""The pseudo-log-likelihood of a text: each token given all others (Salazar et al., arXiv:1910.14659).

It is no likelihood: a masked model sees the second half of a rare word while it predicts the first. `pll_word_l2r`
hides that half as well (Kauf and Ivanova, arXiv:2305.10588).
"""

from collections.abc import Sequence

import numpy as np

from diffutron_ort.runtime.contract import Forward
from diffutron_ort.scoring.passage import Found, Stretch
from diffutron_ort.scoring.probe import Probe, probed
from diffutron_ort.scoring.work import Work
from diffutron_ort.types import Ids


def pseudo(forward: Forward, mask: int, stretches: Sequence[Stretch], *, by_word: bool) -> Work[list[Found]]:
    """Return the pseudo-log-likelihood of each stretch, one masked token after the other.

    Args:
        forward: The model.
        mask: The id of `<mask>`.
        stretches: Their tokens.
        by_word: Whether the tokens of the same word that follow a masked one are masked as well.

    Raises:
        DiffutronError: As for `probed`.
    """
    probes = [
        _without(stretch, hidden, mask)
        for stretch in stretches
        for hidden in (_following(stretch, at) if by_word else np.array([at]) for at in stretch.positions.tolist())
    ]
    answers = yield from probed(forward, probes)
    each = iter(answers)
    return [
        Found(np.array([next(each).logprobs.item() for _ in stretch.positions]), None, len(stretch.positions))
        for stretch in stretches
    ]


def _without(stretch: Stretch, hidden: Ids, mask: int) -> Probe:
    """Return the question for the first of the tokens that are hidden."""
    return Probe(stretch.with_masks(hidden, mask), hidden[:1], stretch.ids[hidden[:1], None])


def _following(stretch: Stretch, at: int) -> Ids:
    """Return a position and those after it that belong to the same word."""
    return at + np.flatnonzero(stretch.words[at:] == stretch.words[at])
