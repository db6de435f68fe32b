"""Read untrusted files: regular files of a bounded size, strict JSON, and a type and bounds for every value.

All values of a bundle or a checkpoint are read through this module, so that a wrong value raises an error that names
the file and the value.
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

MOST_BYTES = 64 * 2**20  # of a file read into memory; the largest known, a tokenizer.json, has 41 MB
MOST_VALUES = 2**22  # of JSON, at up to 200 bytes of memory each; the largest tokenizer.json known has 1.8 million
MOST_DEPTH = 64  # of nested objects and lists
MOST_TEXT = 10_000  # characters of a string, by default


class Artifact(NamedTuple):
    """What a file is part of, which decides the errors that it can raise.

    Attributes:
        invalid: The error for a malformed file.
        missing: The error for a missing file.
        remedy: What the user can do about either; the end of every message.
    """

    invalid: type[DiffutronError]
    missing: type[DiffutronError]
    remedy: str


BUNDLE = Artifact(BundleError, BundleFileError, "export the model again")
CHECKPOINT = Artifact(CheckpointError, CheckpointError, "take an unaltered copy")


def read_bytes(path: Path, artifact: Artifact = BUNDLE, most: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises:
        DiffutronError: An error of `artifact`: the file is missing, is not a regular file (reading a pipe or a device
            may never end), has more than `most` bytes, or cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NONBLOCK", 0)  # otherwise opening a pipe blocks until someone writes to it
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(most + 1) if regular else b""
    except (FileNotFoundError, NotADirectoryError) as error:
        raise artifact.missing(f"{path} is missing; {artifact.remedy}") from error
    except IsADirectoryError:
        regular = False
    except (OSError, ValueError) as error:  # ValueError: the name contains a NUL
        raise artifact.invalid(f"{path} cannot be read: {error}") from error
    if not regular:
        raise artifact.invalid(f"{path} is not a regular file; {artifact.remedy}")
    if len(content) > most:
        raise artifact.invalid(f"{path} has more than {most} bytes, the limit for this file; {artifact.remedy}")
    return content


def read_object(path: Path, artifact: Artifact = BUNDLE, most: int = MOST_BYTES) -> "Fields":
    """Return the JSON object in a file.

    Raises:
        DiffutronError: As for `read_bytes` and `parse_object`.
    """
    return parse_object(read_bytes(path, artifact, most), str(path), artifact)


def parse_object(content: bytes, name: str, artifact: Artifact = BUNDLE) -> "Fields":
    """Return the JSON object that `content` encodes.

    Args:
        content: JSON text in UTF-8.
        name: The file's name, for error messages.
        artifact: What the file is part of.

    Raises:
        DiffutronError: `artifact.invalid`: the content is not JSON or not an object, repeats a key, has a number that
            is not finite or a lone surrogate, or exceeds `MOST_VALUES` or `MOST_DEPTH`.
    """
    if sum(map(content.count, (b"[", b"{", b","))) > MOST_VALUES:  # an upper bound: it counts those in strings too
        raise artifact.invalid(f"{name} has more than {MOST_VALUES} values, the limit; {artifact.remedy}")
    try:
        value = _parse(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise artifact.invalid(f"{name} is not valid JSON: {error}; {artifact.remedy}") from error
    if not isinstance(value, dict):
        raise artifact.invalid(f"{name} holds a {type(value).__name__}, not an object; {artifact.remedy}")
    if _is_deep(value):
        raise artifact.invalid(f"{name} is nested more than {MOST_DEPTH} levels deep; {artifact.remedy}")
    return Fields(value, name, artifact)


class Fields:
    """A JSON object that checks each value when it is read.

    Each method takes a value's name and returns the value. It raises `artifact.invalid` if the value is missing or
    null, has another type, or is out of bounds.

    Attributes:
        values: The object, unchecked.
        place: The file's name, and the object's place in the file.
        artifact: What the file is part of.
    """

    def __init__(self, values: Mapping[str, Any], place: str, artifact: Artifact = BUNDLE) -> None:
        self.values, self.place, self.artifact = values, place, artifact

    def __contains__(self, name: str) -> bool:
        """Return whether the object has a value of this name other than null."""
        return self.values.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def integer(self, name: str, least: int, most: int) -> int:
        """Return an integer from `least` to `most`; 64.0 is one too, since JSON has a single type of number."""
        value = self._get(name)
        if not _is_integer(value, least, most):
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
        """Return a list of integers from `least` to `most`."""
        values = self._list(name)
        if not all(_is_integer(value, least, most) for value in values):
            raise self.wrong(name, f"integers from {least} to {most}")
        return [int(value) for value in values]

    def fields(self, name: str) -> Self:
        """Return a nested object."""
        return self._inner(name, self._get(name))

    def each(self, name: str) -> dict[str, Self]:
        """Return the values of a nested object, each an object itself, by name."""
        return {key: self._inner(f"{name}.{key}", value) for key, value in self.fields(name).values.items()}

    def rows(self, name: str) -> list[Self]:
        """Return a list of objects."""
        return [self._inner(f"{name}[{i}]", value) for i, value in enumerate(self._list(name))]

    def wrong(self, name: str, expected: str) -> DiffutronError:
        """Return the error for a value that is not what was `expected`."""
        return self._error(name, self.values.get(name), expected)

    def refused(self, what: str) -> DiffutronError:
        """Return the error for the object as a whole; the message is its place, `what`, and the remedy."""
        return self.artifact.invalid(f"{self.place}{what}; {self.artifact.remedy}")

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
        return type(self)(value, f"{self.place}: {name}", self.artifact)

    def _error(self, name: str, value: object, expected: str) -> DiffutronError:
        return self.refused(f": {name} is {brief(value)}, expected {expected}")


def _parse(text: str) -> object:
    """Return the value of a JSON text.

    Raises:
        ValueError: The text is not JSON, repeats a key, or has a number that is not finite or a lone surrogate.
    """
    value = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # raises for a lone surrogate
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any, least: int, most: int) -> bool:
    return _is_number(value) and least <= value <= most and value == int(value)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is not a finite number")
    return value


def _is_deep(value: object) -> bool:
    """Return whether objects and lists are nested more than `MOST_DEPTH` levels deep."""
    level: list[Any] = [value]
    for _ in range(MOST_DEPTH):
        inside = (v.values() if isinstance(v, dict) else v for v in level)
        level = [item for items in inside for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True
