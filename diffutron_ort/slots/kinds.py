"""What can stand in a place of a template: one of several values, or a value that the model writes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffutron_ort.slots.menu import Menu
from diffutron_ort.slots.reach import Reach, is_possible
from diffutron_ort.types import Ids


class Gap(NamedTuple):
    """A place on the canvas.

    Attributes:
        before: int64 [n], the tokens before it.
        after: int64 [m], those after it.
    """

    before: Ids
    after: Ids

    @property
    def follows(self) -> int | None:
        """The token right after it; None if there is none."""
        return int(self.after[0]) if len(self.after) else None

    def room(self, context: int) -> int:
        """Return how many tokens fit into it."""
        return context - len(self.before) - len(self.after)

    def canvas(self, ids: Ids) -> Ids:
        """Return all tokens, with `ids` in the place."""
        return np.concatenate([self.before, ids, self.after])

    def within(self, quotes: "Quotes") -> "Gap":
        """Return the place between quotes that stand in it."""
        return Gap(np.concatenate([self.before, quotes.opening]), np.concatenate([quotes.closing, self.after]))


class Quotes(NamedTuple):
    """The quotes around a value.

    Attributes:
        opening: int64 [n], their tokens before it.
        closing: int64 [m], those after it.
    """

    opening: Ids
    closing: Ids


class Option(NamedTuple):
    """A value that a slot can have.

    Attributes:
        value: Its text.
        text: The same as the template writes it.
        ids: int64 [n], its tokens.
    """

    value: str
    text: str
    ids: Ids


class Open(NamedTuple):
    """A slot whose value the model writes.

    Attributes:
        menu: What it can hold.
        spaced: Whether its first token begins with a space that is none of the value.
        least: The fewest tokens, besides one that is this space alone.
        most: The most.
        quotes: What the value writes around itself; None if there is nothing.
    """

    menu: Menu
    spaced: bool
    least: int
    most: int
    quotes: Quotes | None = None

    @property
    def around(self) -> int:
        """The number of tokens of its quotes."""
        return sum(map(len, self.quotes or ()))

    def fewest(self, room: int) -> int | None:
        """Return the fewest tokens of a value with its quotes; None if none fits."""
        return min((self.around + length for length in self.possible(room - self.around)), default=None)

    def most_passes(self, batch_invariant: bool) -> int:
        """Return the most passes that it can take: for its length, and two for each token."""
        most = self.most + self.spaced
        return (1 if batch_invariant else most) + 2 * most

    def possible(self, room: int) -> list[int]:
        """Return the possible numbers of tokens up to `room`."""
        lengths = range(self.least, min(self.most + self.spaced, room) + 1)
        table, spaced = self.menu.table, self.spaced
        return [length for length in lengths if is_possible(table, length, spaced=spaced, lone=self._lone(length))]

    def lengths(self, room: int) -> dict[int, Reach]:
        """Return what is allowed at each possible number of tokens up to `room`, by that number."""
        table, spaced = self.menu.table, self.spaced
        return {length: Reach(table, length, spaced=spaced, lone=self._lone(length)) for length in self.possible(room)}

    def _lone(self, length: int) -> bool | None:
        """Return whether the space before a value of so many tokens is one of them, for none of its own."""
        return {self.least: False, self.most + 1: True}.get(length) if self.spaced else None


class Choice(NamedTuple):
    """A slot that has one of several values.

    Attributes:
        options: Those that are known.
        written: Those that the model writes first, each as if there were no other.
    """

    options: Sequence[Option]
    written: Sequence[Open] = ()

    def fewest(self, room: int) -> int | None:
        """Return the fewest tokens of a value; None if none fits."""
        lengths = [len(option.ids) for option in self.options] + [slot.fewest(room) for slot in self.written]
        return min((length for length in lengths if length is not None and length <= room), default=None)

    def most_passes(self, batch_invariant: bool) -> int:
        """Return the most passes that it can take: to write values, and a few for each token to compare them."""
        lengths = [len(option.ids) for option in self.options]
        lengths += [slot.most + slot.spaced + slot.around for slot in self.written]
        if self.written:  # then the token that follows counts as well
            lengths = [length + 1 for length in lengths]
        compared = max(lengths) * (1 + len(lengths) // 8) if batch_invariant else sum(lengths)
        return compared + sum(slot.most_passes(batch_invariant) for slot in self.written)


class Value(NamedTuple):
    """What a slot has come to.

    Attributes:
        value: Its text.
        text: The same as the template writes it.
        ids: Its tokens.
        logprob: The logarithm of its probability.
    """

    value: str
    text: str
    ids: Ids
    logprob: float
