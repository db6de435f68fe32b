"""The tokens of a template: those that are given, and in each place those of a value, or masks."""

from dataclasses import dataclass

import numpy as np

from diffutron_ort.slots.kinds import Gap
from diffutron_ort.slots.template import Template
from diffutron_ort.text.tokenizer import Tokenizer
from diffutron_ort.types import Ids

SPACE = " "


@dataclass(frozen=True, eq=False)
class Stretch:
    """The given tokens before a place.

    Attributes:
        ids: int64 [n].
        spaced: Whether the first token of the value begins with a space that is none of it: the template's own, which
            is not among `ids`, or the one that the tokenizer puts before a stretch of text.
        joins: Whether that space is the template's own, and joins the value with what is before.
    """

    ids: Ids
    spaced: bool
    joins: bool

    def value_ids(self, text: str, tokenizer: Tokenizer) -> list[int]:
        """Return the tokens of a value after it."""
        if self.joins:
            return tokenizer.encode_after(SPACE + text)
        return tokenizer.encode(text) if self.spaced else tokenizer.encode_after(text)


class Layout:
    """The canvas of a template.

    Attributes:
        stretches: The given tokens before each place.
        end: int64 [n], those after the last.
        values: What stands in each place by now: tokens, or masks.
    """

    def __init__(self, template: Template, tokenizer: Tokenizer, before: str, after: str) -> None:
        """Set up the tokens of a template, between two other texts, without any in its places."""
        self.stretches: list[Stretch] = []
        for number, place in enumerate(template.places):
            text = place.before if number else before + place.before
            self.stretches.append(_stretch(text, tokenizer, is_first=not number))
        end = template.end + after
        ids = tokenizer.encode_after(end) if self.stretches else tokenizer.encode(before + end)
        self.end = np.array(ids, np.int64)
        self.values: list[Ids] = [np.zeros(0, np.int64) for _ in self.stretches]

    @property
    def length(self) -> int:
        """The number of tokens by now."""
        return sum(len(stretch.ids) for stretch in self.stretches) + sum(map(len, self.values)) + len(self.end)

    def gap(self, number: int) -> Gap:
        """Return the place of a value."""
        return Gap(self._joined(0, number), self._joined(number + 1, len(self.values), tail=True))

    def _joined(self, first: int, last: int, tail: bool = False) -> Ids:
        """Return the tokens of values from `first` to before `last`, with what is given around them."""
        parts: list[Ids] = [] if tail else [self.stretches[0].ids]
        for number in range(first, last):
            parts += [self.stretches[number].ids, self.values[number]] if tail else [self.values[number]]
            if not tail:
                parts.append(self.stretches[number + 1].ids)
        return np.concatenate([*parts, self.end] if tail else parts)


def _stretch(text: str, tokenizer: Tokenizer, is_first: bool) -> Stretch:
    """Return the given tokens of a text that a value follows."""
    joins = text.endswith(SPACE)
    text = text[:-1] if joins else text
    ids = tokenizer.encode(text) if is_first else tokenizer.encode_after(text)
    is_beginning = tokenizer.is_added(ids[-1]) if ids else is_first
    spaced = joins or (is_beginning and tokenizer.adds_space)
    return Stretch(np.array(ids, np.int64), spaced, joins)


def masks(count: int, mask: int) -> Ids:
    """Return so many masks."""
    return np.full(count, mask, np.int64)
