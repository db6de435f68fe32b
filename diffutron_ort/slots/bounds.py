"""What may stand in a slot: how long it is, and a pattern of its text or a list of values."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

from diffutron_ort.brief import brief
from diffutron_ort.errors import InputError, OptionError
from diffutron_ort.slots import ranges
from diffutron_ort.slots.automaton import automaton
from diffutron_ort.slots.expressions import longest, parsed
from diffutron_ort.slots.ranges import Number
from diffutron_ort.text.tokenizer import check_text

DATE = (
    r"[1-9]\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
    r"|([1-9]\d(0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)-02-29"
)
PATTERNS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "text": (r"[^ ]+( [^ ]+)*", "visible characters, with single spaces between them"),
        "word": (r"[^ ]+", "visible characters without a space"),
        "letters": (r"\p{L}+", "letters of any script"),
        "words": (r"\p{L}+( \p{L}+)*", "words of letters, with single spaces between them"),
        "digits": (r"\d+", "digits, which may begin with 0"),
        "integer": (r"0|-?[1-9]\d*", "a whole number as JSON writes it"),
        "number": (r"-?(0|[1-9]\d*)(\.\d+)?", "a decimal number as JSON writes it"),
        "date": (DATE, "a day of the calendar such as 2026-11-27, from the year 1000 on"),
        "time": (r"([01]\d|2[0-3]):[0-5]\d", "a time such as 09:30"),
    }
)
"""The patterns that have a name: the expression of each, and what it means."""

NUMBERS = frozenset({"integer", "number"})
"""The patterns whose values JSON writes without quotes."""

MOST = 8  # tokens of a slot that is not told
MOST_TOKENS = 64  # that a slot can be told
MOST_LETTERS = 500  # of its text
MOST_OPTIONS = 256
MOST_OPTION = 1000  # characters
MOST_WAYS = 8  # of `any_of`
NAME = re.compile(r"[^\W\d_]+")

Value: TypeAlias = str | int | float | bool | None
Given: TypeAlias = Mapping[str, Any] | str | Sequence[Any]
"""The bounds of a slot as a user writes them: all of them, or only its pattern, or only its options."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    r"""What may stand in a slot.

    Attributes:
        least: The fewest tokens; a space before the value is none of them. A digit is one token in most vocabularies.
        most: The most tokens; None is 8, or as many as the pattern has characters if it has no more than so many.
        pattern: The name of a pattern, or a regular expression of a small syntax.
        options: The values that are allowed; with none, the pattern counts. In JSON they can be numbers, booleans
            and None.
        least_characters: The fewest characters of the value.
        most_characters: The most characters; None is any number.
        minimum: Of the pattern `integer` or `number`, the least value; None is any.
        maximum: The greatest value; None is any.
        any_of: Several bounds, any one of which the value keeps; there are no others beside them then. Where JSON has
            no quotes, text gets its own.
    """

    least: int = 1
    most: int | None = None
    pattern: str = "text"
    options: tuple[Value, ...] = ()
    least_characters: int = 0
    most_characters: int | None = None
    minimum: Number | None = None
    maximum: Number | None = None
    any_of: tuple["Bounds", ...] = ()

    @property
    def expression(self) -> str:
        """The regular expression of the pattern, and of the range of its numbers."""
        if self.has_range:
            return _of_range(self.pattern, self.minimum, self.maximum)
        named = PATTERNS.get(self.pattern)
        return named[0] if named else self.pattern

    @property
    def has_range(self) -> bool:
        """Whether it has an end of a range of numbers."""
        return (self.minimum, self.maximum) != (None, None)

    @property
    def is_bare(self) -> bool:
        """Whether JSON writes the values without quotes, or some of them."""
        if self.any_of:
            return any(one.is_bare for one in self.any_of)
        if self.options:
            return not all(isinstance(option, str) for option in self.options)
        return self.pattern in NUMBERS

    @property
    def most_tokens(self) -> int:
        """The most tokens of a value that has a pattern, as told or not."""
        if self.most is not None:
            return self.most
        known = min(longest(parsed(self.expression)), self.most_characters or MOST_LETTERS)
        return max(self.least, int(known) if known <= MOST_TOKENS else MOST)


FIELDS = tuple(Bounds.__dataclass_fields__)


def checked(name: str, given: Given | Bounds) -> Bounds:
    """Return the bounds of a slot.

    Args:
        name: Of the slot.
        given: The fields of `Bounds`; or the name of a pattern, or an expression; or a list of options.

    Raises:
        OptionError: There is no such bound, or it is not allowed.
    """
    try:
        return _checked(_fields(given))
    except (OptionError, InputError) as error:
        raise OptionError(f"slot {brief(name)}: {error}") from error


def _fields(given: Given | Bounds) -> Mapping[str, Any]:
    """Return bounds by their names."""
    if isinstance(given, Bounds):
        return vars(given)
    if isinstance(given, str):
        return {"pattern": given}
    if not isinstance(given, Mapping):
        return {"options": given}
    if unknown := [field for field in given if field not in FIELDS]:
        raise OptionError(f"{brief(unknown[0])} is no bound; there are {', '.join(FIELDS)}")
    return given


def _checked(given: Mapping[str, Any]) -> Bounds:
    return _either(given) if _is_given(given, "any_of") else _plain(given)


def _is_given(given: Mapping[str, Any], field: str) -> bool:
    """Return whether a list is among bounds; `Bounds` has an empty tuple for none."""
    value = given.get(field, ())
    return not isinstance(value, tuple) or bool(value)


def _plain(given: Mapping[str, Any]) -> Bounds:
    """Return bounds of one kind of value."""
    if _is_given(given, "any_of"):
        raise OptionError("any_of: there is none within another; put all bounds into one list")
    options = _options(given["options"]) if _is_given(given, "options") else ()
    bounds = Bounds(**{**given, "options": options, "any_of": ()})
    _check_range(bounds, "", 1, MOST_TOKENS)
    _check_range(bounds, "_characters", 0, MOST_LETTERS)
    if options:
        if bounds.pattern != "text":
            raise OptionError("a pattern and options contradict each other: leave one out")
        return bounds
    _check_pattern(bounds.pattern)
    _check_numbers(bounds)
    return bounds


def _either(given: Mapping[str, Any]) -> Bounds:
    """Return bounds of which a value keeps any one."""
    ways = given["any_of"]
    if isinstance(ways, str) or not isinstance(ways, Sequence) or not 1 <= len(ways) <= MOST_WAYS:
        raise OptionError(f"any_of={brief(ways)}: must be a list of 1 to {MOST_WAYS} bounds")
    if Bounds(**{**given, "any_of": ()}) != Bounds():
        raise OptionError("any_of: no other bounds stand beside it; put them into its list")
    return Bounds(any_of=tuple(_way(number, way) for number, way in enumerate(ways)))


def _way(number: int, given: Given | Bounds) -> Bounds:
    """Return one of the bounds of `any_of`."""
    try:
        return _plain(_fields(given))
    except (OptionError, InputError) as error:
        raise OptionError(f"any_of[{number}]: {error}") from error


def _check_range(bounds: Bounds, unit: str, low: int, high: int) -> None:
    """Check two bounds of a length."""
    least, most = getattr(bounds, f"least{unit}"), getattr(bounds, f"most{unit}")
    for name, value in ((f"least{unit}", least), (f"most{unit}", most)):
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not (is_number and low <= value <= high) and not (value is None and name.startswith("most")):
            raise OptionError(f"{name}={brief(value)}: must be an integer from {low} to {high}")
    if most is not None and most < least:
        raise OptionError(f"most{unit}={most} is less than least{unit}={least}: give a range")


def _check_pattern(pattern: object) -> None:
    """Check the name of a pattern, or an expression."""
    if not isinstance(pattern, str) or not pattern:
        raise OptionError(f"pattern={brief(pattern)}: must be a name or a regular expression")
    if pattern in PATTERNS:
        return
    if NAME.fullmatch(pattern):  # an expression without a single choice is rather a name that is misspelt
        near = get_close_matches(pattern, PATTERNS, 1)
        hint = f"did you mean {near[0]!r}? There" if near else "there"
        raise OptionError(f"pattern={brief(pattern)}: {hint} are {', '.join(PATTERNS)}, or give an expression")
    parsed(pattern)


def _check_numbers(bounds: Bounds) -> None:
    """Check the range of numbers."""
    ends = {name: getattr(bounds, name) for name in ("minimum", "maximum")}
    given = {name: end for name, end in ends.items() if end is not None}
    if given and bounds.pattern not in NUMBERS:
        raise OptionError(f"{next(iter(given))}: of no meaning for pattern={brief(bounds.pattern)}; leave it out")
    for name, end in given.items():
        is_number = isinstance(end, int | float) and not isinstance(end, bool) and end - end == 0
        if not is_number or (bounds.pattern == "integer" and not isinstance(end, int)):
            raise OptionError(f"{name}={brief(end)}: must be a number, and of the pattern integer a whole one")
    if given:
        _of_range(bounds.pattern, bounds.minimum, bounds.maximum)


@lru_cache
def _of_range(pattern: str, low: Number | None, high: Number | None) -> str:
    """Return the expression of the numbers of a range.

    Raises:
        OptionError: There is none, or an automaton of the usual size cannot tell them.
    """
    ends = [end for end in (low, high) if end is not None]
    places = ranges.decimals(ends, 0 if pattern == "integer" else ranges.DECIMALS)
    expression = ranges.expression(low, high, places)
    try:
        automaton(parsed(expression), "0123456789.-")
    except OptionError as error:
        given = f"minimum={brief(low)} and maximum={brief(high)}"
        raise OptionError(f"{given}: too many digits for one range; give rounder numbers") from error
    return expression


def _options(given: object) -> tuple[Value, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise OptionError(f"options={brief(given)}: must be a list of at least one value")
    if len(given) > MOST_OPTIONS:
        raise OptionError(f"{len(given)} options: at most {MOST_OPTIONS}")
    for option in given:
        _check_option(option)
    if len({json.dumps(option) for option in given}) < len(given):
        raise OptionError(f"options={brief(given)}: one stands there twice")
    return tuple(given)


def _check_option(option: object) -> None:
    if isinstance(option, str):
        check_text(option, "an option")
        if not 0 < len(option) <= MOST_OPTION:
            raise OptionError(f"the option {brief(option)} must have 1 to {MOST_OPTION} characters")
    elif isinstance(option, float):
        if option - option != 0:
            raise OptionError(f"the option {option} is a number that JSON does not have")
    elif not (option is None or isinstance(option, bool | int)):
        raise OptionError(f"the option {brief(option)} must be text, or a number, a boolean or None for JSON")
