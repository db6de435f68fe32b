"""From a regular expression to an automaton over the characters of a vocabulary."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.errors import OptionError
from diffutron_ort.slots.expressions import Choice, Letter, Node, Repeat, Test

MOST_STATES = 128
MOST_VISITS = 10_000
DEAD = -1


class Automaton(NamedTuple):
    """Reads a text character by character; it begins in state 0.

    Attributes:
        steps: int16 [states, kinds], the state after a character of each kind; -1 if the text can no longer be right.
        kinds: int16 [characters], the kind of each character of the alphabet.
        ends: bool [states], whether the text is right if it ends there.
    """

    steps: NDArray[np.int16]
    kinds: NDArray[np.int16]
    ends: NDArray[np.bool_]


class _Part(NamedTuple):
    """A part of an expression, as Glushkov's construction sees it: by the numbers of its letters.

    Attributes:
        first: The letters that it can begin with.
        last: Those that it can end with.
        is_optional: Whether it can be nothing.
    """

    first: frozenset[int]
    last: frozenset[int]
    is_optional: bool


NOTHING = _Part(frozenset(), frozenset(), is_optional=True)


@dataclass
class _Positions:
    """The letters of an expression, and which can follow which."""

    tests: list[Test] = field(default_factory=list)
    follow: list[set[int]] = field(default_factory=list)
    visits: int = 0

    def part(self, node: Node) -> _Part:
        """Add the letters of a node."""
        self.visits += 1  # of nodes without letters as well, whose counts multiply each other
        if self.visits > MOST_VISITS:
            raise OptionError("the pattern has too many counts of counts: make it simpler")
        match node:
            case Letter(test):
                return self._letter(test)
            case Choice(items):
                parts = [self.part(item) for item in items]
                first: frozenset[int] = frozenset().union(*(part.first for part in parts))
                last: frozenset[int] = frozenset().union(*(part.last for part in parts))
                return _Part(first, last, any(part.is_optional for part in parts))
            case Repeat(item, least, most):
                return self._repeated(item, least, most)
        whole = NOTHING
        for item in node.items:
            whole = self._joined(whole, self.part(item))
        return whole

    def _letter(self, test: Test) -> _Part:
        if len(self.tests) >= MOST_STATES:
            raise OptionError(f"the pattern has more than {MOST_STATES} characters once its counts are written out")
        self.tests.append(test)
        self.follow.append(set())
        only = frozenset({len(self.tests) - 1})
        return _Part(only, only, is_optional=False)

    def _joined(self, one: _Part, other: _Part) -> _Part:
        for letter in one.last:
            self.follow[letter] |= other.first
        first = one.first | other.first if one.is_optional else one.first
        last = one.last | other.last if other.is_optional else other.last
        return _Part(first, last, one.is_optional and other.is_optional)

    def _repeated(self, item: Node, least: int, most: int | None) -> _Part:
        whole = NOTHING
        for _ in range(least):
            whole = self._joined(whole, self.part(item))
        if most is None:
            again = self.part(item)
            self._joined(again, again)
            return self._joined(whole, again._replace(is_optional=True))
        optional = NOTHING
        for _ in range(most - least):
            optional = self._joined(self.part(item), optional)._replace(is_optional=True)
        return self._joined(whole, optional)


def automaton(node: Node, alphabet: Sequence[str]) -> Automaton:
    """Return the automaton of an expression over an alphabet of single characters.

    Raises:
        OptionError: It would be too large.
    """
    positions = _Positions()
    whole = positions.part(node)
    tests = list(dict.fromkeys(positions.tests))  # a vocabulary has many characters, so each test is made once
    passes = np.array([[test(letter) for letter in alphabet] for test in tests], bool)
    columns, kinds = np.unique(passes.reshape(len(tests), len(alphabet)), axis=1, return_inverse=True)
    columns = columns[[tests.index(test) for test in positions.tests]]
    follow = [whole.first, *positions.follow]  # of the start, and of each letter
    return _determined(follow, whole, columns, kinds.reshape(-1).astype(np.int16))


def _determined(
    follow: Sequence[Set[int]], whole: _Part, columns: NDArray[np.bool_], kinds: NDArray[np.int16]
) -> Automaton:
    """Return the automaton whose states are the sets of letters that can have been read last.

    Args:
        follow: The letters that can follow the start, then those that can follow each letter.
        whole: The expression.
        columns: bool [letters, kinds], which kinds of characters pass each letter's test.
        kinds: int16 [characters], the kind of each.
    """
    start = frozenset({-1})
    numbers, states, steps = {start: 0}, [start], []
    for state in states:  # which grows
        next_letters = sorted(set().union(*(follow[letter + 1] for letter in state)))
        row = []
        for kind in range(columns.shape[1]):
            reached = frozenset(letter for letter in next_letters if columns[letter, kind])
            if reached and reached not in numbers:
                numbers[reached] = len(states)
                states.append(reached)
            row.append(numbers[reached] if reached else DEAD)
        if len(states) > MOST_STATES:
            raise OptionError(f"the pattern needs more than {MOST_STATES} states: make it simpler")
        steps.append(row)
    ends = [bool(state & whole.last) or (state == start and whole.is_optional) for state in states]
    return Automaton(np.array(steps, np.int16).reshape(len(states), -1), kinds, np.array(ends))
