"""How many tokens a slot has: the model tells it in one pass for all lengths, or one for each.

In the answer to a prompt, the model has learnt where things end. So with masks from the slot on to the end of the
canvas, the length is the one after which the text that follows the slot is likely, while the masks before are likely
to be what the slot can hold. In other text it is the length at which the model is surest of what it puts into the
masks, which is the mean first-step confidence of CAL (arXiv:2602.00476). There it is divided by what lengths have on
average. Here only tokens that the slot can hold are counted, with their probabilities among all: of a slot that is too
long, the model wants to see the end, so confidence does not grow with the length, and the division made it worse.

How often each finds the right length with nano is told in docs/slots.md, and measured by `tests.slots.lengths`.
"""

from collections.abc import Mapping

import numpy as np

from diffutron_ort.runtime.contract import Forward
from diffutron_ort.scoring.probe import Answer, probed
from diffutron_ort.scoring.work import Work
from diffutron_ort.slots.kinds import Gap
from diffutron_ort.slots.layout import masks
from diffutron_ort.slots.menu import UNLIKELY, Menu
from diffutron_ort.slots.reach import Reach


def by_end(forward: Forward, gap: Gap, menu: Menu, lengths: Mapping[int, Reach], context: int, mask: int) -> Work[int]:
    """Return the length after which the given token that follows the slot is likely.

    Args:
        forward: The model.
        gap: The place of the slot; a token must follow it.
        menu: What it can hold.
        lengths: What is allowed at each length, at least one.
        context: The most tokens that the model sees.
        mask: The id of `<mask>`.
    """
    follows, begin = gap.follows, len(gap.before)
    assert follows is not None, "a text that follows tells where a slot ends"
    most = max(lengths)
    canvas = np.concatenate([gap.before, masks(min(most + len(gap.after), context - begin), mask)])
    probe = menu.probe(canvas, begin + np.arange(most + 1), follows)
    (answer,) = yield from probed(forward, [probe])
    scores = {length: _ending(answer, menu, reach, follows) for length, reach in lengths.items()}
    return max(scores, key=scores.__getitem__)


def _ending(answer: Answer, menu: Menu, reach: Reach, follows: int) -> float:
    """Return how likely a slot of a length is, the text after it included."""
    inside = sum(menu.chance(answer, row, reach.allowed(row), follows) for row in range(reach.length))
    return inside + max(float(answer.logprobs[reach.length, -1]), UNLIKELY)


def by_confidence(forward: Forward, gap: Gap, menu: Menu, lengths: Mapping[int, Reach], mask: int) -> Work[int]:
    """Return the length at which the model is surest of what it would put into the masks.

    Arguments are those of `by_end`; nothing needs to follow the slot.
    """
    begin = len(gap.before)
    probes = [menu.probe(gap.canvas(masks(length, mask)), begin + np.arange(length)) for length in lengths]
    answers = yield from probed(forward, probes)
    scores = {
        length: np.mean([menu.chance(answer, row, reach.allowed(row)) for row in range(length)])
        for answer, (length, reach) in zip(answers, lengths.items(), strict=True)
    }
    return max(scores, key=scores.__getitem__)
