"""What the model finds likely among the tokens that a slot can hold."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.scoring.probe import Answer, Probe
from diffutron_ort.slots.vocabulary import Table
from diffutron_ort.types import Ids

FEW = 1024  # tokens that are asked about one by one; of more, the best are looked at
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
        """Return the question that leaves out all other tokens, and those that are not of some kinds [kinds]."""
        if self._is_short and kinds is None:
            return self.probe(canvas, positions)
        stays = self.table.kinds >= 0
        if kinds is not None:
            stays &= kinds[self.table.kinds]
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
        ids, others, logprobs = ids[fits][order], np.exp(logprobs[~fits]), logprobs[fits][order]
        if not len(ids):
            return Dishes(ids, logprobs)
        total = np.log(np.exp(logprobs - logprobs[0]).sum()) + logprobs[0]
        if not self._is_short:
            total = max(total, np.log(max(1 - others.sum(), np.finfo(np.float64).tiny)))
        return Dishes(ids, logprobs - total)
