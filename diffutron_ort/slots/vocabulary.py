"""The tokens that can stand in a slot, letter by letter, and what each of them does to an automaton."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.errors import OptionError
from diffutron_ort.slots.automaton import DEAD, Automaton, automaton
from diffutron_ort.slots.bounds import MOST_TOKENS
from diffutron_ort.slots.expressions import parsed

AT_ONCE = 16_384  # tokens whose letters are read together
MOST_CELLS = 2**18  # of a table; a slot of 64 tokens looks at each a few thousand times
MOST_TABLES = 32
UNSAFE = frozenset('"\\')
"""The visible characters that JSON cannot have in a string as they are."""


class Rules(NamedTuple):
    """What a text must be like.

    Attributes:
        expression: Its regular expression.
        least: The fewest characters.
        most: The most; None is any number.
        is_quoted: Whether it stands in a string of JSON.
    """

    expression: str
    least: int = 0
    most: int | None = None
    is_quoted: bool = False


@dataclass(frozen=True, eq=False)
class Table:
    """How the tokens of a vocabulary lead to a text that keeps the rules.

    Tokens that do the same in every state are of one kind.

    Attributes:
        steps: int32 [states, kinds], the state after a token of each kind; -1 if no right text can follow.
        ends: bool [states], whether the text is right if it ends there.
        kinds: int32 [vocab], the kind of each token; -1 of one that can stand nowhere.
        start: The state at the beginning.
        spaced: The state before a space that is none of the text.
        lone: The kind of a token that is this space and nothing else; -1 if there is none.
        texts: The text of each token of the vocabulary.
    """

    steps: NDArray[np.int32]
    ends: NDArray[np.bool_]
    kinds: NDArray[np.int32]
    start: int
    spaced: int
    lone: int
    texts: Mapping[int, str]

    @cached_property
    def endings(self) -> Sequence[NDArray[np.bool_]]:
        """From which states a right text can end after 0, 1, 2, ... tokens: bool [states + 1], of a dead text last."""
        found = [np.append(self.ends, np.False_)]
        for _ in range(MOST_TOKENS + 1):  # one more than a value has: a space before it can be a token
            found.append(np.append(found[-1][self.steps].any(axis=1), np.False_))
        return found


class Vocabulary:
    """The tokens of a model that stand for whole characters."""

    def __init__(self, texts: Mapping[int, str], size: int) -> None:
        """Set up the letters of the tokens.

        Args:
            texts: Of each token.
            size: Of the model's vocabulary.
        """
        self._texts, self._size = texts, size
        self._ids = np.array(sorted(texts, key=lambda token: len(texts[token])), np.int64)
        letters = [texts[token] for token in self._ids.tolist()]
        self._lengths = np.array(list(map(len, letters)), np.int32)
        self._starts = np.cumsum(self._lengths) - self._lengths
        points = np.frombuffer("".join(letters).encode("utf-32-le"), np.uint32)
        distinct, self._letters = np.unique(points, return_inverse=True)
        self._alphabet = [chr(point) for point in distinct.tolist()]
        self._space = next((token for token, text in texts.items() if text == " "), None)
        self.table = lru_cache(MOST_TABLES)(self._table)
        self._read = lru_cache(MOST_TABLES)(self._read_all)

    def _table(self, rules: Rules) -> Table:
        """Return the table of some rules; it is made once.

        Raises:
            OptionError: It would be too large.
        """
        machine, columns, kinds = self._read(rules.expression, rules.is_quoted)
        counted = _counted(machine, columns, rules)
        by_token = np.full(self._size, -1, np.int32)
        by_token[self._ids] = kinds
        lone = -1 if self._space is None else int(by_token[self._space])
        return Table(*counted, by_token, 0, len(counted[0]) - 1, lone, self._texts)

    def _read_all(self, expression: str, is_quoted: bool) -> tuple[Automaton, NDArray[np.int64], NDArray[np.int32]]:
        """Read all tokens by the automaton of an expression.

        Returns:
            The automaton; what each kind of token does, int64 [states + 1, kinds] with its length last; and the kind of
            each token.
        """
        machine = automaton(parsed(expression), self._alphabet)
        if is_quoted:
            machine = _without(machine, [_is_unsafe(letter) for letter in self._alphabet])
        machine = _with_space(machine, self._alphabet)
        possible = (machine.steps != DEAD).any(axis=0)  # [kinds of letters]
        living = np.flatnonzero(possible[machine.kinds[self._letters[self._starts]]])
        found, which, count = [], [], 0
        for letters in self._blocks(living):
            distinct, inverse = _distinct(_kinds(machine, letters).T)  # few: most letters are of one kind
            found.append(_states_after(machine, distinct.T))
            which.append(inverse + count)
            count += distinct.shape[1]
        nothing = np.zeros((len(machine.steps) + 1, 0), np.int16)
        after = np.concatenate([nothing, *found], axis=1)  # [states + 1, sequences of kinds]
        alive = np.flatnonzero((after[:-1] != DEAD).any(axis=0))
        columns, inverse = _distinct(after[:, alive])
        by_sequence = np.full(count, -1, np.int32)
        by_sequence[alive] = inverse
        kinds = np.full(len(self._ids), -1, np.int32)
        kinds[living] = by_sequence[np.concatenate([np.zeros(0, np.int64), *which])]
        return machine, columns, kinds

    def _blocks(self, tokens: NDArray[np.intp]) -> Iterator[NDArray[np.int64]]:
        """Yield the letters of some tokens, int64 [n, longest], -1 beyond their end."""
        for begin in range(0, len(tokens), AT_ONCE):
            block = tokens[begin : begin + AT_ONCE]
            lengths = self._lengths[block]
            places = np.arange(lengths.max())
            inside = places < lengths[:, None]
            flat = np.where(inside, self._starts[block][:, None] + places, 0)
            yield np.where(inside, self._letters[flat], -1)


def _kinds(machine: Automaton, letters: NDArray[np.int64]) -> NDArray[np.int16]:
    """Return the kinds of letters [tokens, longest]; that of no letter is the last."""
    return np.append(machine.kinds, np.int16(machine.steps.shape[1]))[letters]


def _states_after(machine: Automaton, given: NDArray[np.int64]) -> NDArray[np.int16]:
    """Return the states after sequences of kinds [n, longest], from each: int16 [states + 1, n], lengths last."""
    states, kinds = machine.steps.shape
    steps = np.full((states + 1, kinds + 1), DEAD, np.int16)  # a line of a dead text, a column of no letter
    steps[:states, :kinds] = machine.steps
    steps[:, kinds] = [*range(states), DEAD]
    after = np.repeat(np.arange(states, dtype=np.int16)[:, None], len(given), axis=1)
    for column in given.T:
        after = steps[after, column]
    return np.concatenate([after, (given < kinds).sum(axis=1)[None].astype(np.int16)])


def _is_unsafe(letter: str) -> bool:
    return letter in UNSAFE or not letter.isprintable()


def _without(machine: Automaton, barred: list[bool]) -> Automaton:
    """Return an automaton that takes none of the characters `barred` [characters]."""
    steps = np.concatenate([machine.steps, np.full((len(machine.steps), 1), DEAD, np.int16)], axis=1)
    kinds = np.where(barred, machine.steps.shape[1], machine.kinds).astype(np.int16)
    return Automaton(steps, kinds, machine.ends)


def _with_space(machine: Automaton, alphabet: list[str]) -> Automaton:
    """Return an automaton with one more state, the last: before a space, after which the text begins."""
    spaces = np.array([letter == " " for letter in alphabet])
    own = np.full((len(machine.steps), 1), DEAD, np.int16)
    if spaces.any():
        own[:, 0] = machine.steps[:, machine.kinds[spaces][0]]
    first = np.full((1, machine.steps.shape[1] + 1), DEAD, np.int16)
    first[0, -1] = 0
    steps = np.concatenate([np.concatenate([machine.steps, own], axis=1), first])
    kinds = np.where(spaces, machine.steps.shape[1], machine.kinds).astype(np.int16)
    return Automaton(steps, kinds, np.append(machine.ends, np.False_))


def _distinct(columns: NDArray[np.int16]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the different columns of an array [rows, n], and which of them each is, by a hash of 64 bits."""
    weights = np.random.default_rng(0).integers(1, 2**62, len(columns), dtype=np.int64) | 1
    sums = weights @ (columns.astype(np.int64) + 2)
    _, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
    return columns[:, first].astype(np.int64), inverse.reshape(-1)


def _counted(
    machine: Automaton, columns: NDArray[np.int64], rules: Rules
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the steps and ends of an automaton that also counts the text's characters, as far as the rules ask.

    A state of it is one of the automaton's with a count; the last is that before a space.

    Args:
        machine: The automaton, whose last state is before a space.
        columns: int64 [states + 1, kinds], the state after each kind of token, and the kind's length.
        rules: With the bounds.
    """
    top = rules.least if rules.most is None else rules.most
    states, counts = len(machine.steps) - 1, np.arange(top + 1)
    if states * len(counts) * max(1, columns.shape[1]) > MOST_CELLS:
        raise OptionError("its pattern and its numbers of characters are too much together: lower the most characters")
    after, lengths = columns[:-1], columns[-1]
    longer = counts[:, None] + lengths  # [counts, kinds]
    reached = np.minimum(longer, top)
    is_long = longer > top if rules.most is not None else np.zeros_like(longer, bool)
    inner = np.where((after[:-1, None] == DEAD) | is_long, DEAD, after[:-1, None] * len(counts) + reached)
    outer = np.where(
        (after[-1] == DEAD) | (is_long[0] & (lengths - 1 > top)),
        DEAD,
        after[-1] * len(counts) + np.minimum(lengths - 1, top),
    )
    steps = np.concatenate([inner.reshape(states * len(counts), -1), outer[None]]).astype(np.int32)
    ends = np.append((machine.ends[:-1, None] & (counts >= rules.least)).reshape(-1), np.False_)
    return steps, ends
