"""Write a value into the masks of a slot, one commit or more in each pass."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.config import GenerationConfig
from diffutron_ort.runtime.contract import Forward
from diffutron_ort.sampler import random
from diffutron_ort.scoring.probe import Answer, probed
from diffutron_ort.scoring.work import Work, part
from diffutron_ort.slots.menu import Menu
from diffutron_ort.slots.reach import Reach
from diffutron_ort.types import Ids


class Pick(NamedTuple):
    """A token that a pass would commit.

    Attributes:
        logprob: The logarithm of its probability among the tokens that are allowed at its place.
        place: Of the slot.
        token: Its id.
    """

    logprob: float
    place: int
    token: int


class Writing:
    """A slot of known length on its way from masks to tokens.

    Attributes:
        logprob: The logarithm of the product of the probabilities that its tokens had when they were committed, each
            among the tokens that were allowed at its place.
    """

    def __init__(self, menu: Menu, reach: Reach, number: int, config: GenerationConfig) -> None:
        """Set up the slot.

        Args:
            menu: What it can hold.
            reach: What is allowed where.
            number: Of the slot in its template, which gives it uniforms of its own.
            config: `steps`, `temperature` and `seed` have a meaning.
        """
        self._menu, self._reach, self._number, self._config = menu, reach, number, config
        self._passes = 0
        self.logprob = 0.0

    def write(self, forward: Forward, before: Ids, after: Ids, mask: int) -> Work[list[int]]:
        """Return the tokens, given those before and after the slot.

        Raises:
            DiffutronError: As for `probed`.
        """
        reach, begin = self._reach, len(before)
        self._commit_forced()
        a_pass = -(-len(reach.masked()) // self._config.steps)
        while masked := reach.masked():
            canvas = np.concatenate([before, reach.ids(mask), after])
            probe = self._menu.strict_probe(canvas, begin + np.array(masked))
            (answer,) = yield from self._part(probed(forward, [probe]), len(masked))
            if not self._commit(answer, masked, begin, a_pass):
                # None of the best tokens is allowed anywhere. So ask for those that are, at the first place.
                place = masked[0]
                probe = self._menu.strict_probe(canvas, np.array([begin + place]), reach.allowed(place))
                (answer,) = yield from self._part(probed(forward, [probe]), len(masked) - 1)
                self._commit(answer, [place], begin, 1)
            self._passes += 1
        return [token for token in reach.tokens if token is not None]

    def _part(self, work: Work[list[Answer]], masks: int) -> Work[list[Answer]]:
        done = 1 - masks / self._reach.length
        return (yield from part(work, done, done))

    def _commit(self, answer: Answer, masked: Sequence[int], begin: int, most: int) -> bool:
        """Commit up to `most` tokens, the most certain first; return whether there was any.

        Args:
            answer: What the model says about the masks.
            masked: Their places in the slot.
            begin: Where the slot begins on the canvas.
            most: How many.
        """
        rows = {place: row for row, place in enumerate(masked)}
        for count in range(most):
            left = [place for place in self._reach.masked() if place in rows]
            picks = [pick for place in left if (pick := self._pick(answer, rows[place], place, begin))]
            if not picks:
                return count > 0
            best = min(picks, key=lambda pick: (-pick.logprob, pick.place))
            self._reach.commit(best.place, best.token)
            self.logprob += best.logprob
            self._commit_forced()
        return True

    def _commit_forced(self) -> None:
        """Commit the tokens of all places where only one is allowed."""
        for place in self._reach.masked():
            if (token := self._reach.only(place)) is not None:
                self._reach.commit(place, token)

    def _pick(self, answer: Answer, row: int, place: int, begin: int) -> Pick | None:
        """Return what to commit at a place: the best token, or one that is drawn; None if none is known."""
        ids, logprobs = self._menu.allowed(answer, row, self._reach.allowed(place))
        if not len(ids):
            return None
        choice = drawn(logprobs, self._config, self._number, self._passes, begin + place)
        return Pick(float(logprobs[choice]), place, int(ids[choice]))


def drawn(logprobs: NDArray[np.float64], config: GenerationConfig, block: int, step: int, position: int) -> int:
    """Return which of several choices is taken, from the logarithms of their probabilities [n], best first.

    At temperature 0 it is the best; else the one that the uniform of this block, step and position falls on.
    """
    if not config.temperature:
        return 0
    weights = np.cumsum(np.exp((logprobs - logprobs[0]) / config.temperature))
    u = random.uniform(config.seed, random.Stream.TOKEN, block, step, np.array([position]))[0]
    return min(int(np.searchsorted(weights, u * weights[-1], side="right")), len(weights) - 1)
