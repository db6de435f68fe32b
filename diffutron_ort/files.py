"""Files that others wrote, read with care: regular and bounded, JSON without surprises, every value checked.

What a bundle or a checkpoint says passes through here, so a wrong value becomes an error of ours that names the file.
"""

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from diffutron_ort.brief import brief
from diffutron_ort.errors import BundleError, BundleFileError, CheckpointError, DiffutronError

MOST_BYTES = 64 * 2**20  # of a file that is read whole; the largest known, a tokenizer.json, has 41 MB
MOST_VALUES = 2**22  # in JSON, each of which can cost 200 bytes; the largest tokenizer.json known has 1.8 million
MOST_DEPTH = 64  # objects and lists inside one another
MOST_TEXT = 10_000  # characters of a string, unless told


class Origin(NamedTuple):
    """Whose files are read.

    Attributes:
        broken: The error that a bad file raises.
        missing: The error that a file raises which is not there.
        remedy: What to do about either.
    """

    broken: type[DiffutronError]
    missing: type[DiffutronError]
    remedy: str


BUNDLE = Origin(BundleError, BundleFileError, "export the model again")
CHECKPOINT = Origin(CheckpointError, CheckpointError, "take an unaltered copy")


def read_bytes(path: Path, origin: Origin = BUNDLE, most: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises:
        DiffutronError: As `origin` says: it is not there, is no regular file (a pipe or a device may never end),
            holds more than `most` bytes, or cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NONBLOCK", 0)  # or a pipe would block here until somebody writes to it
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(most + 1) if regular else b""
    except (FileNotFoundError, NotADirectoryError) as error:
        raise origin.missing(f"{path} is missing; {origin.remedy}") from error
    except IsADirectoryError:
        regular = False
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise origin.broken(f"{path} cannot be read: {error}") from error
    if not regular:  # a pipe or a device may never end
        raise origin.broken(f"{path} is no regular file; {origin.remedy}")
    if len(content) > most:
        raise origin.broken(f"{path} has more than {most} bytes, the most that is read; {origin.remedy}")
    return content


def read_object(path: Path, origin: Origin = BUNDLE, most: int = MOST_BYTES) -> "Fields":
    """Return the JSON object that a file holds.

    Raises:
        DiffutronError: As of `read_bytes` and `parse_object`.
    """
    return parse_object(read_bytes(path, origin, most), str(path), origin)


def parse_object(content: bytes, name: str, origin: Origin = BUNDLE) -> "Fields":
    """Return a JSON object.

    Args:
        content: UTF-8.
        name: Of the file, for errors.
        origin: Whose it is.

    Raises:
        DiffutronError: As `origin` says: it is no JSON, names a key twice, holds a number that is not finite or half
            of a surrogate pair, has more than `MOST_VALUES` values, is nested more than `MOST_DEPTH` deep, or is no
            object.
    """
    if sum(map(content.count, (b"[", b"{", b","))) > MOST_VALUES:  # those within strings, too
        raise origin.broken(f"{name} has more than {MOST_VALUES} values, the most that is read; {origin.remedy}")
    try:
        text = content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # which refuses half of a surrogate pair
    except (ValueError, RecursionError) as error:
        raise origin.broken(f"{name} is not JSON as it should be: {error}; {origin.remedy}") from error
    if not isinstance(value, dict):
        raise origin.broken(f"{name} holds a {type(value).__name__}, not an object; {origin.remedy}")
    if _is_deep(value):
        raise origin.broken(f"{name} is nested more than {MOST_DEPTH} deep; {origin.remedy}")
    return Fields(value, name, origin)


class Fields:
    """A JSON object whose values are asked for by name, each of a type and within bounds.

    A method raises the origin's `broken` where the value is missing, null, or another than was asked for.

    Attributes:
        values: The object, unchecked.
        place: The file, and where in it the object stands.
        origin: Whose file it is.
    """

    def __init__(self, values: Mapping[str, Any], place: str, origin: Origin = BUNDLE) -> None:
        self.values, self.place, self.origin = values, place, origin

    def __contains__(self, name: str) -> bool:
        """Return whether there is a value of this name; null is none."""
        return self.values.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def integer(self, name: str, least: int, most: int) -> int:
        """Return a whole number; JSON has one kind of number, so 64.0 is one."""
        value = self._get(name)
        if not _is_whole(value, least, most):
            raise self.wrong(name, f"an integer from {least} to {most}")
        return int(value)

    def number(self, name: str, least: float, most: float) -> float:
        """Return a number from `least` to `most`."""
        value = self._get(name)
        if not (_is_number(value) and least <= value <= most):
            raise self.wrong(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def boolean(self, name: str) -> bool:
        """Return true or false."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def text(self, name: str, most: int = MOST_TEXT) -> str:
        """Return a string of at most `most` characters."""
        value = self._get(name)
        if not isinstance(value, str) or len(value) > most:
            raise self.wrong(name, f"a string of at most {most} characters")
        return value

    def texts(self, name: str, most: int = MOST_TEXT) -> list[str]:
        """Return a list of strings of at most `most` characters."""
        values = self._list(name)
        if not all(isinstance(value, str) and len(value) <= most for value in values):
            raise self.wrong(name, f"strings of at most {most} characters")
        return values

    def integers(self, name: str, least: int, most: int) -> list[int]:
        """Return a list of whole numbers."""
        values = self._list(name)
        if not all(_is_whole(value, least, most) for value in values):
            raise self.wrong(name, f"integers from {least} to {most}")
        return [int(value) for value in values]

    def fields(self, name: str) -> Self:
        """Return an object in the object."""
        return self._inner(name, self._get(name))

    def each(self, name: str) -> dict[str, Self]:
        """Return the objects in an object, by name."""
        return {key: self._inner(f"{name}.{key}", value) for key, value in self.fields(name).values.items()}

    def rows(self, name: str) -> list[Self]:
        """Return a list of objects."""
        return [self._inner(f"{name}[{i}]", value) for i, value in enumerate(self._list(name))]

    def wrong(self, name: str, expected: str) -> DiffutronError:
        """Return the error of a value that is not what was `expected`."""
        return self._error(name, self.values.get(name), expected)

    def refused(self, what: str) -> DiffutronError:
        """Return the error of an object that is wrong as a whole: `what` goes on from its place."""
        return self.origin.broken(f"{self.place}{what}; {self.origin.remedy}")

    def _get(self, name: str) -> Any:
        if name not in self:
            raise self.refused(f" has no {name}")
        return self.values[name]

    def _list(self, name: str) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        return value

    def _inner(self, name: str, value: object) -> Self:
        name = name if len(name) < 100 else f"{name[:90]}…"
        if not isinstance(value, dict):
            raise self._error(name, value, "an object")
        return type(self)(value, f"{self.place}: {name}", self.origin)

    def _error(self, name: str, value: object, expected: str) -> DiffutronError:
        return self.refused(f": {name} is {brief(value)}, expected {expected}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return _is_number(value) and least <= value <= most and value == int(value)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is not a finite number")
    return value


def _is_deep(value: object) -> bool:
    """Return whether objects and lists are inside one another more than `MOST_DEPTH` deep."""
    level: list[Any] = [value]
    for _ in range(MOST_DEPTH):
        inside = (v.values() if isinstance(v, dict) else v for v in level)
        level = [item for items in inside for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True
