r"""Regular expressions of a small syntax, parsed: what a slot's text may be.

An expression always means the whole text, and may say so with `^` and `$`. It is made of

    characters, \ before one of .?*+|()[]{}^$\/ that stands for itself; . any visible character, or a space
    [a-zğ_], [^0-9]                  one of these; none of these
    \d \w                            a digit 0-9; one of A-Z, a-z, 0-9 and _, as in JSON Schema
    \p{L} \p{Lu} \p{Ll}              a letter of any script; a capital one; a small one
    (ab|cd), (?:ab)                  alternatives, groups
    ? * + {2} {2,} {2,5}             how often
"""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from diffutron_ort.brief import brief
from diffutron_ort.errors import OptionError

Test: TypeAlias = Callable[[str], bool]
"""Whether a character is one of a set."""

MOST_CHARACTERS = 500  # of an expression
MOST_REPEATS = 128
MOST_DEPTH = 32
SPECIAL = frozenset(".?*+|()[]{}^$\\/-")
COUNT = re.compile(r"\{(\d{1,4})(?:(,)(\d{1,4})?)?\}")
CLASSES: dict[str, Test] = {
    r"\d": lambda letter: "0" <= letter <= "9",
    r"\w": lambda letter: letter.isascii() and (letter.isalnum() or letter == "_"),
    r"\p{L}": str.isalpha,
    r"\p{Lu}": lambda letter: unicodedata.category(letter) == "Lu",
    r"\p{Ll}": lambda letter: unicodedata.category(letter) == "Ll",
}


class Letter(NamedTuple):
    """One character that passes a test."""

    test: Test


class Chain(NamedTuple):
    """One thing after another."""

    items: Sequence["Node"]


class Choice(NamedTuple):
    """One of several things."""

    items: Sequence["Node"]


class Repeat(NamedTuple):
    """A thing again and again.

    Attributes:
        item: The thing.
        least: How often at least.
        most: How often at most; None is without end.
    """

    item: "Node"
    least: int
    most: int | None


Node: TypeAlias = Letter | Chain | Choice | Repeat


def longest(node: Node) -> float:
    """Return the most characters of a text that an expression means; infinite if there is no end."""
    match node:
        case Letter():
            return 1
        case Choice(items):
            return max(map(longest, items))
        case Repeat(item, _, most):
            inner = longest(item)
            return inner * (math.inf if most is None else most) if inner else 0
    return sum(map(longest, node.items))


def parsed(expression: str) -> Node:
    """Return an expression as a tree.

    Raises:
        OptionError: It is no expression of this syntax.
    """
    if len(expression) > MOST_CHARACTERS:
        raise OptionError(f"the pattern {brief(expression)} has more than {MOST_CHARACTERS} characters: shorten it")
    return _Parser(expression).whole()


@dataclass
class _Parser:
    """Reads an expression from left to right."""

    text: str
    place: int = 0
    depth: int = 0
    letters: dict[str, Letter] = field(default_factory=dict)  # by how they are written: the same test is one object

    def whole(self) -> Node:
        if self.text.startswith("^"):
            self.place = 1
        node = self._choice()
        if self.text[self.place :] not in ("", "$"):
            raise self._error(f"{self.text[self.place]!r} is out of place")
        return node

    def _error(self, reason: str) -> OptionError:
        where = f" at character {self.place + 1}" if self.place < len(self.text) else ""
        return OptionError(f"the pattern {brief(self.text)} cannot be used{where}: {reason}")

    def _take(self, wanted: str) -> bool:
        """Go past `wanted` if it comes next, and return whether it does."""
        found = self.text.startswith(wanted, self.place)
        self.place += len(wanted) * found
        return found

    def _choice(self) -> Node:
        items = [self._chain()]
        while self._take("|"):
            items.append(self._chain())
        return items[0] if len(items) == 1 else Choice(items)

    def _chain(self) -> Node:
        items: list[Node] = []
        while self.place < len(self.text) and self.text[self.place] not in "|)$":
            items.append(self._repeated(self._item()))
        return items[0] if len(items) == 1 else Chain(items)

    def _item(self) -> Node:
        if self._take("("):
            return self._group()
        begin = self.place
        if self._take("["):
            letter = Letter(self._set())
        elif self._take("."):
            letter = Letter(str.isprintable)
        else:
            letter = Letter(self._single()[0])
        return self.letters.setdefault(self.text[begin : self.place], letter)

    def _group(self) -> Node:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise self._error(f"groups are nested more than {MOST_DEPTH} deep")
        if self._take("?") and not self._take(":"):
            raise self._error("of the groups that begin with (? only (?: is known")
        node = self._choice()
        if not self._take(")"):
            raise self._error("a ) is missing")
        self.depth -= 1
        return node

    def _single(self) -> tuple[Test, str]:
        """Return the test of one character or class, and the character, "" for a class."""
        for name, test in CLASSES.items():
            if self._take(name):
                return test, ""
        escaped = self._take("\\")
        letter = self.text[self.place : self.place + 1]
        if (escaped and letter not in SPECIAL) or (not escaped and letter in SPECIAL - {"/", "-"}) or not letter:
            raise self._error(f"{brief(letter)} is not known here" if letter else "it ends too soon")
        self.place += 1
        return letter.__eq__, letter

    def _set(self) -> Test:
        """Return the test of a set, whose [ has been taken."""
        tests: list[Test] = []
        inverted = self._take("^")
        while not self._take("]"):
            tests.append(self._member())
        if not tests:
            raise self._error("a set is empty")
        return lambda letter: letter.isprintable() and any(test(letter) for test in tests) != inverted

    def _member(self) -> Test:
        """Return the test of a character, a range or a class in a set."""
        for plain in ".?*+|(){}$":  # which mean themselves there
            if self._take(plain):
                return plain.__eq__
        test, first = self._single()
        if not first or self.text[self.place : self.place + 2] in ("-]", "-") or not self._take("-"):
            return test
        _, last = self._single()
        if not last or last < first:
            raise self._error("a range goes from a lower to a higher character")
        return lambda letter: first <= letter <= last

    def _repeated(self, node: Node) -> Node:
        for sign, most in (("?", 1), ("*", None), ("+", None)):
            if self._take(sign):
                node = Repeat(node, int(sign == "+"), most)
                break
        else:
            found = COUNT.match(self.text, self.place)
            if not found:
                return node
            self.place = found.end()
            node = self._counted(node, found)
        if self.text[self.place : self.place + 1] in ("?", "*", "+"):
            raise self._error("a count after a count is not known here")
        return node

    def _counted(self, node: Node, found: re.Match[str]) -> Node:
        least = int(found[1])
        most = int(found[3]) if found[3] else None if found[2] else least
        if max(least, most or 0) > MOST_REPEATS or (most is not None and most < least):
            raise self._error(f"{found[0]} must ask for a lower and a higher number, both up to {MOST_REPEATS}")
        return Repeat(node, least, most)
