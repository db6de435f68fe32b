"""Plain Turkish sentences about what the exercises ask: the corpus of the stages that read but do not answer.

A sentence is on the side of the split that its text decides, and a sum on the side of its exercise: no sentence tells a
sum that is held out. As in pre-training, sentences are joined, `<eos>` after each, and cut into rows of one length.
"""

from __future__ import annotations

from itertools import cycle, islice
from random import Random
from typing import TYPE_CHECKING

import torch
import turkish
from batches import Batch, Batches
from exercises import ROUND, SUM, split_of
from tokenizer import EOS
from turkish import capitalise, number
from words import ANTONYMS, CAPITALS, DAYS, MONTHS, NOUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tokenizers import Tokenizer

LENGTH = 48
"""Tokens in a row of the corpus."""
MOST_MASKED = 0.5
SENTENCES_AT_ONCE = 256


def _sum(rng: Random) -> str:
    a, b = rng.randrange(100), rng.randrange(100)
    return f"{number(a)} artı {number(b)}, {number(a + b)} eder."


def _inflected(called: str, rule: Callable[[turkish.Noun], tuple[str, str]]) -> Callable[[Random], str]:
    def draw(rng: Random) -> str:
        noun = rng.choice(NOUNS)
        return f"{noun.word} sözcüğünün {called} {''.join(rule(noun))} olur."

    return draw


def _possessive(rng: Random) -> str:
    noun = rng.choice(NOUNS)
    owned = [f"{owner} {''.join(turkish.possessive(noun, owner))}" for owner in ("benim", "senin", "onun")]
    return f"{noun.word}: {', '.join(rng.sample(owned, rng.choice((1, 2, 3))))}."


def _order(rng: Random) -> str:
    numbers = rng.sample(ROUND, rng.choice((3, 4)))
    way, descending = rng.choice((("küçükten büyüğe", False), ("büyükten küçüğe", True)))
    shown, ordered = (", ".join(map(number, each)) for each in (numbers, sorted(numbers, reverse=descending)))
    return f"{shown}, {way}: {ordered}."


def _reverse(rng: Random) -> str:
    words = [noun.word for noun in rng.sample(NOUNS, rng.choice((3, 4, 5)))]
    return f"{', '.join(words)}, tersten: {', '.join(reversed(words))}."


def _calendar(names: tuple[str, ...], form: str) -> Callable[[Random], str]:
    def draw(rng: Random) -> str:
        start, n = rng.randrange(len(names)), rng.choice((1, 2))
        when, step = rng.choice((("sonra", n), ("önce", -n)))
        return form.format(x=names[start], n=number(n), when=when, y=names[(start + step) % len(names)])

    return draw


def _capital(rng: Random) -> str:
    country, city = rng.choice(CAPITALS)
    return rng.choice((f"{country} başkenti {city} şehridir.", f"{city} şehri {country} başkentidir."))


def _antonym(rng: Random) -> str:
    pair = rng.choice(ANTONYMS)
    word, opposite = rng.choice((pair, pair[::-1]))
    return f"{word} sözcüğünün karşıtı {opposite} sözcüğüdür."


def _sequence(rng: Random) -> str:
    step = rng.choice((1, 10))
    start = rng.randrange(100 - 3 * step)
    terms = [number(start + i * step) for i in range(4)]
    return f"{', '.join(rng.choice((terms, terms[::-1])))}."


SENTENCES: dict[str, Callable[[Random], str]] = {
    "sum": _sum,
    "plural": _inflected("çoğulu", turkish.plural),
    "locative": _inflected("bulunma hali", turkish.locative),
    "ablative": _inflected("ayrılma hali", turkish.ablative),
    "accusative": _inflected("belirtme hali", turkish.accusative),
    "possessive": _possessive,
    "order": _order,
    "reverse": _reverse,
    "day": _calendar(DAYS, "{x} gününden {n} gün {when} {y} gelir."),
    "month": _calendar(MONTHS, "{x} ayından {n} ay {when} {y} olur."),
    "capital": _capital,
    "antonym": _antonym,
    "gap": _sequence,
}


def key_of(kind: str, text: str) -> str:
    """Return what decides the side of a sentence: of a sum the question that it answers, otherwise its own text."""
    return text.partition(",")[0] + SUM.partition("{b}")[2] if kind == "sum" else text


def sentence_from(split: str, kind: str, rng: Random) -> str:
    """Draw a sentence from one side; half begin with a capital letter."""
    while split_of(key_of(kind, text := SENTENCES[kind](rng))) != split:
        pass
    return capitalise(text) if rng.random() < 0.5 else text


def held_out(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return `count` held-out sentences with their kinds, the kinds in turn."""
    rng = Random(f"{seed}/sentences")
    return [(kind, sentence_from("held-out", kind, rng)) for kind in islice(cycle(SENTENCES), count)]


class Texts(Batches):
    """Endless batches of the corpus, masked as the exercises are, up to half of a row.

    Args:
        tokenizer: nano's.
        size: Rows in a batch.
        seed: Of what is drawn and masked.
        shares: How often each kind is drawn, relative to the others.
    """

    def __init__(self, tokenizer: Tokenizer, size: int, seed: int, shares: Mapping[str, float]) -> None:
        super().__init__(tokenizer, size, seed)
        self.kinds, self.weights = list(shares), list(shares.values())
        self.ids = self._stream()

    def __next__(self) -> Batch:
        targets = torch.tensor(list(islice(self.ids, self.size * LENGTH))).view(self.size, LENGTH)
        return self._mask(targets, torch.ones_like(targets, dtype=torch.bool), most=MOST_MASKED)

    def _stream(self) -> Iterator[int]:
        while True:
            kinds = self.rng.choices(self.kinds, self.weights, k=SENTENCES_AT_ONCE)
            for ids in self._encode([sentence_from("training", kind, self.rng) for kind in kinds]):
                yield from (*ids, EOS)
