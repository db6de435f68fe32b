"""Which kinds of tokens may stand where in a slot of a certain length, given those that stand there already."""

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.slots.vocabulary import Table
from diffutron_ort.types import Ids


class Reach:
    """The texts of so many tokens that keep the rules of a table.

    At any time, a token that is allowed at a place can be completed to such a text, whatever place is filled next.

    Attributes:
        length: Number of tokens.
        tokens: Those that stand there by now; None is a mask.
    """

    def __init__(self, table: Table, length: int, *, spaced: bool, lone: bool | None = None) -> None:
        """Set up a slot of masks.

        Args:
            table: The rules.
            length: Number of tokens.
            spaced: Whether the first of them begins with a space that is none of the text.
            lone: Whether a token of its own must be (True) or must not be (False) this space; None allows both.
        """
        self._table, self.length = table, length
        self.tokens: list[int | None] = [None] * length
        self._kinds: list[NDArray[np.intp] | None] = [None] * length  # the only ones at a place; None is all
        if spaced and lone is not None:
            is_lone = np.arange(table.steps.shape[1]) == table.lone
            self._kinds[0] = np.flatnonzero(is_lone if lone else ~is_lone)
        self._start = table.spaced if spaced else table.start
        self._allowed = np.zeros((length, table.steps.shape[1]), bool)
        self._update()

    def allowed(self, place: int) -> NDArray[np.bool_]:
        """Return which kinds of tokens may stand at a place, bool [kinds]."""
        allowed: NDArray[np.bool_] = self._allowed[place]
        return allowed

    def masked(self) -> list[int]:
        """Return the places of the masks, ascending."""
        return [place for place, token in enumerate(self.tokens) if token is None]

    def ids(self, mask: int) -> Ids:
        """Return the tokens [length], with the id `mask` for those that are missing."""
        return np.array([mask if token is None else token for token in self.tokens], np.int64)

    def only(self, place: int) -> int | None:
        """Return the token that is the only one allowed at a place; None if there are more."""
        kinds = np.flatnonzero(self._allowed[place])
        if len(kinds) > 1:
            return None
        tokens = np.flatnonzero(self._table.kinds == kinds[0])
        return int(tokens[0]) if len(tokens) == 1 else None

    def commit(self, place: int, token: int) -> None:
        """Put a token that is allowed at a place there."""
        kind = int(self._table.kinds[token])
        assert self._allowed[place, kind], "only what is allowed is committed"
        self.tokens[place] = token
        self._kinds[place] = np.array([kind])
        self._update()

    def _update(self) -> None:
        """Work out what is allowed: what can be reached from the start, and from where the end can be reached."""
        states, after = np.array([self._start]), self._endings()
        for place, kinds in enumerate(self._kinds):
            chosen = np.arange(self._table.steps.shape[1]) if kinds is None else kinds
            steps = self._table.steps[states] if kinds is None else self._table.steps[states[:, None], kinds]
            ways = after[place][steps]
            self._allowed[place] = False
            self._allowed[place, chosen] = ways.any(axis=0)
            reached = np.zeros(len(self._table.ends), bool)
            reached[steps[ways]] = True
            states = np.flatnonzero(reached)

    def _endings(self) -> list[NDArray[np.bool_]]:
        """Return for each place from which states, after it, the end can be reached: bool [states + 1]."""
        found = [self._table.endings[0]]
        for place in range(self.length - 1, 0, -1):
            kinds, free = self._kinds[place], self._table.endings[self.length - place]
            if kinds is None and found[0] is self._table.endings[self.length - place - 1]:
                found.insert(0, free)
                continue
            steps = self._table.steps if kinds is None else self._table.steps[:, kinds]
            found.insert(0, np.append(found[0][steps].any(axis=1), np.False_))
        return found


def is_possible(table: Table, length: int, *, spaced: bool, lone: bool | None = None) -> bool:
    """Return whether a text of so many tokens keeps the rules; arguments are those of `Reach`."""
    first = table.steps[table.spaced if spaced else table.start]
    fits = table.endings[length - 1][first]
    if spaced and lone is not None:
        fits = fits & ((np.arange(len(first)) == table.lone) == lone)
    return bool(fits.any())
