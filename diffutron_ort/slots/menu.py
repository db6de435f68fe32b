"""What the model finds likely among the tokens that a slot can hold."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.scoring.probe import Answer, Probe
from diffutron_ort.slots.vocabulary import Table
from diffutron_ort.types import Ids

FEW = 1024  # tokens that are asked about one by one; of more, the best are looked at
MOST_SUPPRESSED = 16_384  # ids left out of a pass without need: 100,000 took 0.3 s of one with a vocabulary of 256,000
UNLIKELY = -50.0
"""The logarithm of a probability that stands for anything less."""


class Dishes(NamedTuple):
    """Tokens that may stand at a place.

    Attributes:
        ids: int64 [n].
        logprobs: float64 [n], the logarithms of their probabilities.
    """

    ids: Ids
    logprobs: NDArray[np.float64]


class Menu:
    """The tokens that a slot can hold at all, and how the model is asked about them.

    Attributes:
        table: What each of them does.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._ids = np.flatnonzero(table.kinds >= 0)
        self._is_short = len(self._ids) <= FEW

    def probe(self, canvas: Ids, positions: Ids, follows: int | None = None) -> Probe:
        """Return the question about positions [m] of a canvas, and about the token `follows` at each of them."""
        targets = np.append(self._ids if self._is_short else [], [] if follows is None else [follows])
        return Probe(canvas, positions, np.tile(targets.astype(np.int64), (len(positions), 1)))

    def strict_probe(self, canvas: Ids, positions: Ids, kinds: NDArray[np.bool_] | None = None) -> Probe:
        """Return the question that leaves out tokens which cannot stand there.

        Args:
            canvas: Where it is asked, int64 [length].
            positions: The positions, int64 [m].
            kinds: The only tokens that it is to be answered with, bool [kinds]; without them, others are left out only
                where that saves looking at them.
        """
        stays = self.table.kinds >= 0
        if kinds is not None:
            stays &= kinds[self.table.kinds]
        elif self._is_short or np.count_nonzero(~stays) > MOST_SUPPRESSED:
            return self.probe(canvas, positions)
        nothing = np.zeros((len(positions), 0), np.int64)
        return Probe(canvas, positions, nothing, np.flatnonzero(~stays))

    def found(self, answer: Answer, row: int) -> Dishes:
        """Return the tokens of this slot that a probe has asked about, or the best of them."""
        if self._is_short and answer.logprobs.shape[1]:
            return Dishes(self._ids, answer.logprobs[row, : len(self._ids)])
        return self._best(answer, row)

    def _best(self, answer: Answer, row: int) -> Dishes:
        ids, logprobs = answer.best.ids[row], answer.best.logprobs[row]
        fits = (self.table.kinds[ids] >= 0) & (logprobs > UNLIKELY)
        return Dishes(ids[fits], logprobs[fits])

    def chance(self, answer: Answer, row: int, kinds: NDArray[np.bool_], without: int | None = None) -> float:
        """Return the logarithm of the probability of the best token of some kinds [kinds], unless it is `without`."""
        ids, logprobs = self.found(answer, row)
        fits = kinds[self.table.kinds[ids]]
        if without is not None:
            fits &= ids != without
        return float(logprobs[fits].max(initial=UNLIKELY))

    def allowed(self, answer: Answer, row: int, kinds: NDArray[np.bool_]) -> Dishes:
        """Return the tokens of some kinds [kinds], best first, with their probabilities among all of these kinds.

        Of a long menu, it has those among the best, or none; what is beyond the best counts as allowed.

        Args:
            answer: To a strict probe.
            row: Which position of it.
            kinds: Those that are allowed there.
        """
        ids, logprobs = self.found(answer, row)
        fits = kinds[self.table.kinds[ids]]
        order = np.argsort(-logprobs[fits], kind="stable")
        ids, logprobs = ids[fits][order], logprobs[fits][order]
        if not len(ids):
            return Dishes(ids, logprobs)
        total = np.log(np.exp(logprobs - logprobs[0]).sum()) + logprobs[0]
        if not self._is_short:
            barred = ~np.isin(answer.best.ids[row], ids)
            left = 1 - np.exp(answer.best.logprobs[row][barred]).sum()
            total = max(total, np.log(max(left, np.finfo(np.float64).tiny)))
        return Dishes(ids, logprobs - total)
