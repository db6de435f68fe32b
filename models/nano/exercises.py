"""Draws Turkish exercises whose right answer is known.

Each kind is a function from a random generator to (question, answer). The side of the split that a question is on
depends only on its text, so the split is the same whatever is drawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import turkish
from turkish import capitalise, lower, number
from words import ANTONYMS, CAPITALS, DAYS, MONTHS, NOUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

HELD_OUT_PERCENT = 10
GAP = "___"
DISTANCE = 2
"""The largest distance in days or months that a question asks for."""
SPLITS = ("held-out", "training")


@dataclass(frozen=True)
class Exercise:
    """A question and its only right answer."""

    kind: str
    question: str
    answer: str
    key: str
    """The text that decides the side of the split."""


Draw = tuple[str, str]

SUM = "{a} artı {b} kaç eder?"
SUMS = (SUM, SUM, "{a} ile {b} toplamı kaçtır?", "{a} ve {b} toplanırsa kaç olur?")


def _term(rng: Random) -> int:
    """Draw a number below a hundred, with one digit more often than by chance: people try those first."""
    return rng.randrange(rng.choice((10, 100, 100)))


def _sum(rng: Random) -> tuple[str, str, str]:
    a, b = _term(rng), _term(rng)
    terms = {"a": number(a), "b": number(b)}
    # All wordings of one sum are on one side, so that a held-out sum was never seen in any.
    return rng.choice(SUMS).format(**terms), number(a + b), SUM.format(**terms)


PLURAL = (
    "{x} sözcüğünün çoğulu nedir?",
    "{x} kelimesine çoğul eki getir.",
    "çoğul yap: {x}",
    "birden çok {x} nasıl yazılır?",
    "{x} çoğul olursa ne olur?",
)
LOCATIVE = (
    "{x} sözcüğünün bulunma hali nedir?",
    "{x} kelimesine -de eki getir.",
    "bulunma haline koy: {x}",
    "nerede sorusuna {x} ile cevap ver.",
    "{x} nerede sorusuna nasıl cevap olur?",
)
ABLATIVE = (
    "{x} sözcüğünün ayrılma hali nedir?",
    "{x} kelimesine -den eki getir.",
    "ayrılma haline koy: {x}",
    "nereden sorusuna {x} ile cevap ver.",
    "{x} nereden sorusuna nasıl cevap olur?",
)
ACCUSATIVE = (
    "{x} sözcüğünün belirtme hali nedir?",
    "{x} kelimesine -i eki getir.",
    "belirtme haline koy: {x}",
    "neyi sorusuna {x} ile cevap ver.",
    "{x} neyi sorusuna nasıl cevap olur?",
)
POSSESSIVE = (
    "{owner} {x} nasıl söylenir?",
    "iyelik eki getir: {owner} {x}",
    "{x} sözcüğünü {owner} ile tamamla.",
    "{owner} sözünden sonra {x} nasıl yazılır?",
)


def _inflect(wordings: tuple[str, ...], rule: Callable[[turkish.Noun], tuple[str, str]]) -> Callable[[Random], Draw]:
    def draw(rng: Random) -> Draw:
        noun = rng.choice(NOUNS)
        return rng.choice(wordings).format(x=noun.word), "".join(rule(noun))

    return draw


def _possessive(rng: Random) -> Draw:
    noun, owner = rng.choice(NOUNS), rng.choice(("benim", "senin", "onun"))
    return rng.choice(POSSESSIVE).format(x=noun.word, owner=owner), "".join(turkish.possessive(noun, owner))


ASCENDING = ("küçükten büyüğe sırala: {x}", "artan sırayla yaz: {x}", "küçükten başlayarak diz: {x}")
DESCENDING = ("büyükten küçüğe sırala: {x}", "azalan sırayla yaz: {x}", "büyükten başlayarak diz: {x}")


ROUND = (*range(10), *range(10, 100, 10))
"""Numbers of one word."""


def _order(rng: Random) -> Draw:
    numbers = rng.sample(ROUND, rng.choice((3, 4)))
    descending = rng.random() < 0.5
    wording = rng.choice(DESCENDING if descending else ASCENDING)
    return wording.format(x=_list(map(number, numbers))), _list(map(number, sorted(numbers, reverse=descending)))


REVERSE = ("tersten yaz: {x}", "ters sırala: {x}", "sondan başa doğru yaz: {x}", "listeyi ters çevir: {x}")


def _reverse(rng: Random) -> Draw:
    words = [noun.word for noun in rng.sample(NOUNS, rng.choice((3, 4, 5)))]
    return rng.choice(REVERSE).format(x=_list(words)), _list(reversed(words))


DAY = (
    "{x} gününden {n} gün {when} hangi gündür?",
    "bugün {x}, {n} gün {when} hangi gündür?",
    "{x} için {n} gün {when} ne olur?",
    "{n} gün {when} hangi gün, bugün {x} ise?",
    "{x} gününden {n} gün {when} ne olur?",
    "bugün {x} ise {n} gün {when} hangi gündür?",
    "{n} gün {when} ne olur, bugün {x} ise?",
    "{x} için {n} gün {when} hangi gündür?",
)
MONTH = (
    "{x} ayından {n} ay {when} hangi aydır?",
    "bu ay {x}, {n} ay {when} hangi aydır?",
    "{x} için {n} ay {when} ne olur?",
    "{n} ay {when} hangi ay, bu ay {x} ise?",
    "{x} ayından {n} ay {when} ne olur?",
    "bu ay {x} ise {n} ay {when} hangi aydır?",
    "{n} ay {when} ne olur, bu ay {x} ise?",
    "{x} için {n} ay {when} hangi aydır?",
)


def _calendar(names: tuple[str, ...], wordings: tuple[str, ...]) -> Callable[[Random], Draw]:
    def draw(rng: Random) -> Draw:
        start, n = rng.randrange(len(names)), rng.randint(1, DISTANCE)
        when, step = rng.choice((("sonra", n), ("önce", -n)))
        question = rng.choice(wordings).format(x=names[start], n=number(n), when=when)
        return question, names[(start + step) % len(names)]

    return draw


CAPITAL = (
    "{country} başkenti neresidir?",
    "{country} başkenti hangi şehirdir?",
    "hangi şehir {country} başkentidir?",
    "{country} başkentini söyle.",
    "{country} başkenti nedir?",
)
COUNTRY = (
    "{city} hangi ülkenin başkentidir?",
    "başkenti {city} olan ülke hangisidir?",
    "hangi ülkenin başkenti {city}?",
)


def _capital(rng: Random) -> Draw:
    country, city = rng.choice(CAPITALS)
    wording = rng.choice(CAPITAL + COUNTRY)
    answer = country.partition("'")[0] if wording in COUNTRY else city
    return wording.format(country=country, city=city), answer


ANTONYM = (
    "{x} sözcüğünün karşıtı nedir?",
    "{x} kelimesinin zıt anlamlısı nedir?",
    "zıddını yaz: {x}",
    "karşıt anlamlısını söyle: {x}",
    "{x} sözcüğünün tersi hangisidir?",
)


def _antonym(rng: Random) -> Draw:
    pair = rng.choice(ANTONYMS)
    word, answer = pair if rng.random() < 0.5 else pair[::-1]
    return rng.choice(ANTONYM).format(x=word), answer


FILL = ("boşluğu doldur: {x}", "eksik olanı yaz: {x}", "hangisi eksik: {x}")


def _sequence(rng: Random) -> list[str]:
    """Draw four terms of a sequence: numbers, days or months."""
    if rng.random() < 0.4:
        names = rng.choice((DAYS, MONTHS))
        start = rng.randrange(len(names))
        return [names[(start + i) % len(names)] for i in range(4)]
    step = rng.choice((1, 10))
    start = rng.randrange(100 - 3 * step)
    terms = [number(start + i * step) for i in range(4)]
    return terms if rng.random() < 0.5 else terms[::-1]


def _gap(rng: Random) -> Draw:
    if rng.random() < 0.2:
        country, city = rng.choice(CAPITALS)
        return rng.choice(FILL).format(x=f"{country} başkenti {GAP} şehridir."), city
    terms = _sequence(rng)
    missing = rng.randrange(4)
    shown = [GAP if i == missing else term for i, term in enumerate(terms)]
    return rng.choice(FILL).format(x=_list(shown)), terms[missing]


def _list(words: Iterator[str] | list[str]) -> str:
    return ", ".join(words)


KINDS: dict[str, Callable[[Random], tuple[str, ...]]] = {
    "sum": _sum,
    "plural": _inflect(PLURAL, turkish.plural),
    "locative": _inflect(LOCATIVE, turkish.locative),
    "ablative": _inflect(ABLATIVE, turkish.ablative),
    "accusative": _inflect(ACCUSATIVE, turkish.accusative),
    "possessive": _possessive,
    "order": _order,
    "reverse": _reverse,
    "day": _calendar(DAYS, DAY),
    "month": _calendar(MONTHS, MONTH),
    "capital": _capital,
    "antonym": _antonym,
    "gap": _gap,
}


def split_of(key: str) -> str:
    """Return the side of the split that a key is on, whatever its capitalisation."""
    digest = hashlib.sha256(lower(key).encode()).digest()
    return "held-out" if int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT else "training"


def draw(kind: str, rng: Random) -> Exercise:
    """Draw one exercise from either side; half of the questions begin with a capital letter."""
    question, answer, *key = KINDS[kind](rng)
    shown = capitalise(question) if rng.random() < 0.5 else question
    return Exercise(kind, shown, answer, key[0] if key else question)


def draw_from(split: str, kind: str, rng: Random) -> Exercise:
    """Draw one exercise from one side."""
    while split_of((exercise := draw(kind, rng)).key) != split:
        pass
    return exercise


def sentence(rng: Random) -> str:
    """Draw a plain sentence about the same facts, for filling masks in running text."""
    country, city = rng.choice(CAPITALS)
    word, opposite = rng.choice(ANTONYMS)
    day = rng.randrange(7)
    after = DAYS[(day + 1) % 7]
    return rng.choice(
        (
            f"{country} başkenti {city} şehridir.",
            f"{country} başkenti {city} şehridir.",
            f"{city} şehri {country} başkentidir.",
            f"{capitalise(word)} sözcüğünün karşıtı {opposite} sözcüğüdür.",
            f"{capitalise(DAYS[day])} gününden sonra {after} gelir.",
        )
    )
