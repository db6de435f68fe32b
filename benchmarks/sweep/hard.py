"""Questions of nano's kinds that are harder than any it was taught, so that it is unsure: as real models are."""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from random import Random

NANO = Path(__file__).parents[2] / "models" / "nano"
sys.path.append(str(NANO))

from exercises import ASCENDING, DAY, DESCENDING, FILL, GAP, REVERSE, Exercise  # noqa: E402
from turkish import number  # noqa: E402
from words import DAYS, NOUNS  # noqa: E402

Draw = tuple[str, str]


def _joined(words: Sequence[str]) -> str:
    return ", ".join(words)


def long_list(rng: Random) -> Draw:
    """Reverse six or seven words; nano learnt up to five."""
    words = [noun.word for noun in rng.sample(NOUNS, rng.choice((6, 7)))]
    return rng.choice(REVERSE).format(x=_joined(words)), _joined(words[::-1])


def _order(rng: Random, count: int) -> Draw:
    numbers = rng.sample([n for n in range(11, 100) if n % 10], count)
    down = rng.random() < 0.5
    question = rng.choice(DESCENDING if down else ASCENDING).format(x=_joined([*map(number, numbers)]))
    return question, _joined([*map(number, sorted(numbers, reverse=down))])


def order_three(rng: Random) -> Draw:
    """Order numbers of two words; nano learnt those of one."""
    return _order(rng, 3)


def order_four(rng: Random) -> Draw:
    """Order one more of them."""
    return _order(rng, 4)


def far_day(rng: Random) -> Draw:
    """Count three or four days; nano learnt up to two."""
    start, n = rng.randrange(7), rng.choice((3, 4))
    when, step = rng.choice((("sonra", n), ("önce", -n)))
    return rng.choice(DAY).format(x=DAYS[start], n=number(n), when=when), DAYS[(start + step) % 7]


def wide_gap(rng: Random) -> Draw:
    """Go on in steps of two or five; nano learnt those of one and ten."""
    step, missing = rng.choice((2, 5)), rng.randrange(4)
    start = rng.randrange(100 - 3 * step)
    terms = [number(start + i * step) for i in range(4)]
    shown = [GAP if i == missing else term for i, term in enumerate(terms)]
    return rng.choice(FILL).format(x=_joined(shown)), terms[missing]


def three_terms(rng: Random) -> Draw:
    """Add three numbers; nano learnt two."""
    terms = [rng.randrange(50) for _ in range(3)]
    return f"{' artı '.join(map(number, terms))} kaç eder?", number(sum(terms))


KINDS: Sequence[Callable[[Random], Draw]] = (order_three, long_list, order_four, far_day, wide_gap, three_terms)


def hard_questions(seed: int) -> Iterator[Exercise]:
    """Draw exercises without end, the kinds in turn, none twice."""
    rng, seen = Random(f"{seed}/hard"), set()
    for kind in cycle(KINDS):
        question, answer = kind(rng)
        while question in seen:
            question, answer = kind(rng)
        seen.add(question)
        yield Exercise(kind.__name__, question, answer, question)
