"""Regular expressions, read by the package's own automata and by Python's."""

import re
from calendar import isleap
from datetime import date
from itertools import product

import numpy as np
import pytest

from diffutron_ort.errors import OptionError
from diffutron_ort.slots.automaton import automaton
from diffutron_ort.slots.bounds import PATTERNS, checked
from diffutron_ort.slots.expressions import longest, parsed
from diffutron_ort.slots.reach import Reach, is_possible
from diffutron_ort.slots.vocabulary import Rules, Vocabulary

ALPHABET = list("ab01-. ğ")
EXPRESSIONS = (
    r"\d+",
    r"0|-?[1-9]\d*",
    r"-?(0|[1-9]\d*)(\.\d+)?",
    r"(ab|a)*b?",
    r"[^ab]{2,3}",
    r"a{2}|b{1,}",
    r"(?:a?b?){2}0",
    r"[a-]+\.",
    r"",
    r"a||b",
    r"^\p{L}+( \p{L}+)*$",
)
WRONG = ("(", "a)", "[", "[]", "a**", "*", "a{3,2}", r"\q", "(?=a)", "a$b", "x" * 501, "(a{100}){100}", "\\", "[z-a]")


def accepts(machine, text):
    state = 0
    for letter in text:
        state = machine.steps[state, machine.kinds[ALPHABET.index(letter)]]
        if state < 0:
            return False
    return bool(machine.ends[state])


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_automaton_accepts_what_python_matches(expression):
    machine = automaton(parsed(expression), ALPHABET)
    reference = re.compile(expression.replace(r"\p{L}", "[abğ]").replace(r"\d", "[0-9]"))
    texts = ["".join(letters) for length in range(5) for letters in product(ALPHABET, repeat=length)]
    assert [text for text in texts if accepts(machine, text)] == [text for text in texts if reference.fullmatch(text)]


@pytest.mark.parametrize("expression", WRONG)
def test_what_cannot_be_read_is_refused(expression):
    with pytest.raises(OptionError, match="the pattern"):
        automaton(parsed(expression), ALPHABET)


def test_counts_of_counts_end():
    with pytest.raises(OptionError, match="simpler"):
        automaton(parsed("((((){128}){128}){128}){128}"), ALPHABET)


def test_dates_are_those_of_the_calendar():
    machine = automaton(parsed(PATTERNS["date"][0]), list("0123456789-"))

    def is_date(text):
        state = 0
        for letter in text:
            state = machine.steps[state, machine.kinds["0123456789-".index(letter)]] if state >= 0 else -1
        return state >= 0 and bool(machine.ends[state])

    first = date(1000, 1, 1).toordinal()
    days = {date.fromordinal(first + day).isoformat() for day in range(0, 3_280_000, 7)}
    assert all(map(is_date, days))
    for year in (1000, 1900, 1904, 2000, 2023, 2024):
        own = {f"{year}-{month:02}-{day:02}" for month in range(14) for day in range(33)}
        right = {day for day in own if is_date(day)}
        assert len(right) == (366 if isleap(year) else 365)
        assert all(map(date.fromisoformat, right))


def test_the_longest_text_of_an_expression():
    assert longest(parsed(PATTERNS["date"][0])) == 10
    assert longest(parsed("a(bc|d){2,3}")) == 7
    assert longest(parsed("a*")) == float("inf")
    assert checked("x", "time").most_tokens == 5
    assert checked("x", "word").most_tokens == 8


TEXTS = {5: "a", 6: "b", 7: "ab", 8: " ", 9: " a", 10: "0", 11: '"'}


class TestReach:
    """Texts of a vocabulary of seven tokens, all of them enumerated."""

    def texts(self, expression, length, spaced, **how):
        """Return the right texts, by trying all tokens, and those that can be written place by place."""
        table = Vocabulary(TEXTS, 12).table(Rules(expression, **how))
        tried = {
            tokens
            for tokens in product(TEXTS, repeat=length)
            if re.fullmatch(" " * spaced + f"(?:{expression})", "".join(map(TEXTS.get, tokens)))
        }
        return table, tried

    @pytest.mark.parametrize("spaced", [False, True])
    @pytest.mark.parametrize("expression", ["[ab]+( [ab]+)*", "(ab|ba)*0", "a.*b", '["ab]+'])
    def test_all_and_only_right_texts_can_be_written_in_any_order(self, expression, spaced):
        for length in (1, 2, 3):
            table, tried = self.texts(expression, length, spaced)
            assert is_possible(table, length, spaced=spaced) == bool(tried)
            if tried:
                for order in ((0, 1, 2), (2, 0, 1)):
                    places = [place for place in order if place < length]
                    assert set(self.written(table, length, spaced, places, {})) == tried

    def written(self, table, length, spaced, places, known):
        """Yield what can be written if the tokens `known` by their places stand, and the rest comes in order."""
        if not places:
            yield tuple(known[place] for place in range(length))
            return
        reach = Reach(table, length, spaced=spaced)
        for place, token in known.items():
            reach.commit(place, token)
        allowed = np.flatnonzero((table.kinds >= 0) & reach.allowed(places[0])[table.kinds])
        assert len(allowed)  # whatever stands already can be completed
        for token in allowed.tolist():
            yield from self.written(table, length, spaced, places[1:], known | {places[0]: token})

    def test_characters_are_counted_without_the_space_before(self):
        table, _ = self.texts("[ab]+", 2, True, least=2, most=3)
        found = {"".join(map(TEXTS.get, t)) for t in self.written(table, 2, True, [0, 1], {})}
        assert found == {" aa", " ab", " aab"}

    def test_a_string_of_json_has_no_quote(self):
        table, _ = self.texts('["ab]+', 1, False, is_quoted=True)
        assert set(self.written(table, 1, False, [0], {})) == {(5,), (6,), (7,)}

    def test_a_token_that_is_the_space_alone_can_be_required_or_barred(self):
        table, _ = self.texts("[ab]+", 2, True)
        lone = set(self.written_with(table, lone=True))
        assert lone == {(8, 5), (8, 6), (8, 7)}
        assert set(self.written_with(table, lone=False)) == {(9, 5), (9, 6), (9, 7)}

    def written_with(self, table, lone):
        reach = Reach(table, 2, spaced=True, lone=lone)
        firsts = np.flatnonzero((table.kinds >= 0) & reach.allowed(0)[table.kinds])
        for first in firsts.tolist():
            own = Reach(table, 2, spaced=True, lone=lone)
            own.commit(0, first)
            yield from ((first, int(t)) for t in np.flatnonzero((table.kinds >= 0) & own.allowed(1)[table.kinds]))
