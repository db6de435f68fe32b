"""The numbers of a range as JSON writes them, as a regular expression."""

import math
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TypeAlias

from diffutron_ort.brief import brief
from diffutron_ort.errors import OptionError

Number: TypeAlias = int | float

DIGITS = 8  # before the point, where a range has no end
DECIMALS = 2  # after it, unless an end has more
MOST_DIGITS = 15  # of a number: as floats, any two such numbers differ


def exact(number: Number) -> Fraction:
    """Return a number as it is written in decimals."""
    return Fraction(str(number))


def decimals(ends: Sequence[Number], least: int = DECIMALS) -> int:
    """Return how many digits a number of a range has after the point at most: as many as its ends, or `least`.

    Raises:
        OptionError: An end has too many digits.
    """
    places = max(least, *map(_places, ends))
    for end in ends:
        if abs(exact(end)) * 10**places >= 10**MOST_DIGITS:
            raise OptionError(f"{brief(end)} has too many digits, more than {MOST_DIGITS} with {places} decimals")
    return places


def _places(end: Number) -> int:
    """Return the number of decimals of the end of a range.

    Raises:
        OptionError: It has too many.
    """
    for places in range(MOST_DIGITS + 1):
        if abs(end) < 10**MOST_DIGITS and (exact(end) * 10**places).denominator == 1:
            return places
    raise OptionError(f"{brief(end)} has too many digits, more than {MOST_DIGITS}")


def expression(low: Number | None, high: Number | None, places: int) -> str:
    """Return a regular expression of the numbers from `low` to `high` with at most so many decimals.

    Where there is no end, they have up to `DIGITS` digits before the point, or one more than the other end.

    Raises:
        OptionError: There is no such number.
    """
    most = 10 ** max(DIGITS, *(len(str(int(abs(end)))) + 1 for end in (low, high) if end is not None))
    unit = Fraction(1, 10**places)
    least = unit - most if low is None else exact(low)
    greatest = most - unit if high is None else exact(high)
    below = [f"-{part}" for part in _from(max(unit, -greatest), -least, places)]
    found = below + list(_from(max(Fraction(0), least), greatest, places))
    if not found:
        raise OptionError(f"there is no number from {brief(low)} to {brief(high)} with {places} decimals or fewer")
    return "|".join(found)


def _from(low: Fraction, high: Fraction, places: int) -> Iterator[str]:
    """Yield expressions of the numbers from `low` to `high`, neither of them below 0, with at most so many decimals."""
    unit = Fraction(1, 10**places)
    first, last = math.ceil(low), math.floor(high + unit) - 1  # whole numbers, after which any decimals may come
    if first > last:
        yield from _counted(low, high, places)
        return
    yield from _within(first - 1, low, first - unit, places)
    for whole in _magnitudes(first, last, 0):
        yield whole + (rf"(\.\d{{1,{places}}})?" if places else "")
    yield from _within(last + 1, Fraction(last + 1), high, places)


def _within(whole: int, low: Fraction, high: Fraction, places: int) -> Iterator[str]:
    """Yield an expression of the numbers of a range, all of which begin with the same whole number."""
    if rests := [part.removeprefix(str(whole)) for part in _counted(low, high, places)]:
        yield f"{whole}({'|'.join(rests)})"


def _counted(low: Fraction, high: Fraction, places: int) -> Iterator[str]:
    """Yield expressions of the numbers of a range, for each number of decimals."""
    for count in range(places + 1):
        yield from _magnitudes(math.ceil(low * 10**count), math.floor(high * 10**count), count)


def _magnitudes(low: int, high: int, places: int) -> Iterator[str]:
    """Yield expressions of the numbers from `low` to `high`, both counted in units of the last of so many decimals."""
    digits = places + 1
    while low <= high:
        whole = len(str(high + 1)) - 1  # so many digits can be any
        if digits > places + 1 and low == 10 ** (digits - 1) and whole >= digits:
            yield rf"[1-9]\d{{{digits - 1 - places},{whole - 1 - places}}}" + _any("." + "0" * places if places else "")
            digits = whole
        elif low < 10**digits:
            top = min(high, 10**digits - 1)
            yield _between(_written(low, digits, places), _written(top, digits, places))
        low = max(low, 10**digits)
        digits += 1


def _written(number: int, digits: int, places: int) -> str:
    """Return a number, counted in units of its last decimal, with its point."""
    text = f"{number:0{digits}}"
    return f"{text[:-places]}.{text[-places:]}" if places else text


def _between(low: str, high: str) -> str:
    """Return an expression of the digits from `low` to `high`, which have as many, and a point at the same place."""
    if not low:
        return ""
    (first, lower), (last, upper) = (low[0], low[1:]), (high[0], high[1:])
    if first == last:
        return re.escape(first) + _between(lower, upper)
    zeros, nines = re.sub(r"\d", "0", lower), re.sub(r"\d", "9", upper)
    parts = []
    if lower != zeros:
        parts.append(first + _between(lower, nines))
        first = str(int(first) + 1)
    if upper != nines:
        parts.append(last + _between(zeros, upper))
        last = str(int(last) - 1)
    if first <= last:
        parts.append(f"[{first}-{last}]{_any(lower)}")
    return parts[0] if len(parts) == 1 else f"({'|'.join(parts)})"


def _any(text: str) -> str:
    """Return an expression of any digits in place of those of a text."""
    return re.sub(r"\d", r"\\d", text.replace(".", r"\."))
