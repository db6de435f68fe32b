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
        self._kinds = np.ones((length, table.steps.shape[1]), bool)
        if spaced and lone is not None:
            is_lone = np.arange(table.steps.shape[1]) == table.lone
            self._kinds[0] = is_lone if lone else ~is_lone
        self._start = np.zeros(len(table.ends), bool)
        self._start[table.spaced if spaced else table.start] = True
        self._update()

    @property
    def is_possible(self) -> bool:
        """Whether there is such a text."""
        return bool(self._allowed.any(axis=1).all())

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
        self._kinds[place] = np.arange(self._kinds.shape[1]) == kind
        self._update()

    def _update(self) -> None:
        """Work out what is allowed: what can be reached from the start, and from where the end can be reached."""
        steps, ends = self._table.steps, self._table.ends
        after = [np.append(ends, np.False_)]  # the last is of a dead text
        for kinds in self._kinds[::-1]:
            good = after[0][steps] & kinds
            after.insert(0, np.append(good.any(axis=1), np.False_))
        before, self._allowed = self._start, np.zeros_like(self._kinds)
        for place, kinds in enumerate(self._kinds):
            ways = before[:, None] & after[place + 1][steps] & kinds
            self._allowed[place] = ways.any(axis=0)
            before = np.zeros(len(ends), bool)
            before[steps[ways]] = True
