"""Exercises beyond what nano was trained on, which it answers rightly only now and then.

Days and months are further away, lists are longer and hold numbers of two words, and gaps are in steps of 2, 3 and 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exercises import ASCENDING, DAY, DAYS, FILL, GAP, MONTH, MONTHS, NOUNS, REVERSE, Exercise
from turkish import number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random


def harder(rng: Random) -> Iterator[Exercise]:
    """Draw exercises without end, the kinds in turn."""
    while True:
        for kind, draw in KINDS.items():
            question, answer = draw(rng)
            yield Exercise(kind, question, answer, question)


def _later(names: tuple[str, ...], wordings: tuple[str, ...]) -> Callable[[Random], tuple[str, str]]:
    def draw(rng: Random) -> tuple[str, str]:
        start, n = rng.randrange(len(names)), rng.randint(3, len(names) - 1)
        question = rng.choice(wordings).format(x=names[start], n=number(n), when="sonra")
        return question, names[(start + n) % len(names)]

    return draw


def _reverse(rng: Random) -> tuple[str, str]:
    words = [noun.word for noun in rng.sample(NOUNS, 6)]
    return rng.choice(REVERSE).format(x=", ".join(words)), ", ".join(reversed(words))


def _order(rng: Random) -> tuple[str, str]:
    numbers = rng.sample(range(11, 100), 4)
    shown, ordered = (", ".join(map(number, some)) for some in (numbers, sorted(numbers)))
    return rng.choice(ASCENDING).format(x=shown), ordered


def _gap(rng: Random) -> tuple[str, str]:
    step, missing = rng.choice((2, 3, 5)), rng.randrange(4)
    start = rng.randrange(100 - 3 * step)
    terms = [number(start + i * step) for i in range(4)]
    shown = [GAP if i == missing else term for i, term in enumerate(terms)]
    return rng.choice(FILL).format(x=", ".join(shown)), terms[missing]


KINDS: dict[str, Callable[[Random], tuple[str, str]]] = {
    "day": _later(DAYS, DAY),
    "month": _later(MONTHS, MONTH),
    "reverse": _reverse,
    "order": _order,
    "gap": _gap,
}
