"""Nano's questions with four answers to choose from: the right one, and three that are wrong but plausible."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, permutations
from pathlib import Path
from random import Random
from typing import NamedTuple

NANO = Path(__file__).parents[2] / "models" / "nano"
sys.path.append(str(NANO))

import turkish  # noqa: E402
from exercises import Exercise  # noqa: E402
from turkish import lower, number  # noqa: E402
from words import ANTONYMS, CAPITALS, DAYS, MONTHS, NOUNS  # noqa: E402

WRONG = 3
INFLECTED = ("plural", "locative", "ablative", "accusative", "possessive")
NUMBERS = {number(n): n for n in range(200)}
LISTS = tuple(
    tuple(names)
    for names in (
        DAYS,
        MONTHS,
        [city for _, city in CAPITALS],
        [country.partition("'")[0] for country, _ in CAPITALS],
        [word for pair in ANTONYMS for word in pair],
    )
)


class Choosing(NamedTuple):
    """An exercise with options.

    Attributes:
        kind: Of exercise.
        question: What is asked.
        options: Four, in a drawn order.
        right: The index of the right one.
    """

    kind: str
    question: str
    options: Sequence[str]
    right: int


def choosings(exercises: Iterable[Exercise], seed: int, count: int) -> list[Choosing]:
    """Draw options for the first so many exercises."""
    rng = Random(f"{seed}/options")
    return [_with_options(exercise, rng) for exercise in islice(exercises, count)]


def _with_options(exercise: Exercise, rng: Random) -> Choosing:
    wrong = [*dict.fromkeys(option for option in _plausible(exercise) if option != exercise.answer)]
    options = [exercise.answer, *rng.sample(wrong, WRONG)]
    rng.shuffle(options)
    return Choosing(exercise.kind, exercise.question, options, options.index(exercise.answer))


def _plausible(exercise: Exercise) -> Sequence[str]:
    """Return answers of the kind that is asked for: at least three of them wrong."""
    answer = exercise.answer
    if exercise.kind in INFLECTED:
        return _forms(exercise)
    if ", " in answer:
        return [", ".join(words) for words in permutations(answer.split(", "))]
    if answer in NUMBERS:
        return [number(n) for n in _near(NUMBERS[answer])]
    return next(names for names in LISTS if answer in names)


def _forms(exercise: Exercise) -> Sequence[str]:
    """Return the forms of the noun that is asked about."""
    asked = lower(exercise.question)
    return next(forms for word, forms in FORMS.items() if word in asked and exercise.answer in forms)


def _inflected(noun: turkish.Noun) -> Sequence[str]:
    rules = (turkish.plural, turkish.locative, turkish.ablative, turkish.accusative)
    owned = (turkish.possessive(noun, owner) for owner in ("benim", "senin", "onun"))
    return ["".join(form) for form in (*(rule(noun) for rule in rules), *owned)]


def _near(n: int) -> Iterator[int]:
    """Yield numbers that differ in one digit, or by a little."""
    return (near for near in (n - 20, n - 10, n - 2, n - 1, n + 1, n + 2, n + 10, n + 20) if 0 <= near < len(NUMBERS))


FORMS: Mapping[str, Sequence[str]] = {noun.word: _inflected(noun) for noun in NOUNS}
