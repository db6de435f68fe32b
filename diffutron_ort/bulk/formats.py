"""The formats of a file of records.

What a file holds is first a row: something that is cheap to skip and to hand to another process. The format makes a
record of it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from diffutron_ort.brief import brief
from diffutron_ort.bulk.answering import Line
from diffutron_ort.bulk.lines import STREAM, decoded, open_lines
from diffutron_ort.bulk.records import PROMPT
from diffutron_ort.errors import InputError, OptionError
from diffutron_ort.files import Artifact, parse_object

JSONL, TXT, CSV = "jsonl", "txt", "csv"
KINDS = (JSONL, TXT, CSV)
OBJECT = Artifact(InputError, InputError, "write one JSON object a line")

Row: TypeAlias = bytes | list[str] | InputError
"""A line, the cells of a row of a table, or what is wrong with either."""

EMPTY: tuple[Row, ...] = (b"\n", b"\r\n", [])  # editors leave such rows at the end of a file


class Format(Protocol):
    """Makes records of rows; it can be sent to another process."""

    @property
    def columns(self) -> list[str] | None:
        """The names of a record's values, if all records have the same."""

    def read(self, number: int, row: Row) -> Line:
        """Return the line that a row holds, the one with this number from 0; one that cannot be read has its error."""


@dataclass(frozen=True)
class Source:
    """An opened file.

    Attributes:
        format: What its rows are.
        rows: Its rows. They raise OSError or DiffutronError where the file cannot be read any further.
    """

    format: Format
    rows: Iterator[Row]


@dataclass(frozen=True)
class Jsonl:
    """A JSON object a line."""

    columns: None = None

    def read(self, number: int, row: Row) -> Line:
        """Return a line with the object."""
        name = f"line {number + 1}"
        if isinstance(row, bytes) and not row.strip():
            return unread(number, f"{name} is blank")
        if not isinstance(row, bytes):
            return unread(number, f"{name} {row}")
        try:
            record = dict(parse_object(row, name, OBJECT).values)
        except InputError as error:
            return unread(number, str(error))
        return Line(number, record, record)


@dataclass(frozen=True)
class Txt:
    """A prompt a line, which is all of its record."""

    @property
    def columns(self) -> list[str]:
        """The prompt."""
        return [PROMPT]

    def read(self, number: int, row: Row) -> Line:
        """Return a line with the prompt."""
        if not isinstance(row, bytes):
            return unread(number, f"line {number + 1} {row}")
        try:
            record = {PROMPT: decoded(row).removesuffix("\n").removesuffix("\r")}
        except InputError as error:
            return unread(number, f"line {number + 1} {error}")
        return Line(number, record, record)


def kind_of(name: str, given: str | None = None) -> str:
    """Return the format of a file: what is given, or what its name says; that of a stream is JSONL.

    Raises:
        OptionError: The name says none.
    """
    suffix = Path(name.lower().removesuffix(".gz")).suffix.lstrip(".")
    found = given or (JSONL if name == STREAM else {"ndjson": JSONL}.get(suffix, suffix))
    if found not in KINDS:
        names = ", ".join(f".{kind}" for kind in KINDS)
        raise OptionError(
            f"{brief(name)} has no known format: its name must end with one of {names}, or with .gz after"
        )
    return found


def open_source(name: str, kind: str, column: str = PROMPT, **table: Any) -> Source:
    """Open a file, or standard input, and read as much as its format needs.

    Args:
        name: The file's path, or `-`.
        kind: Its format.
        column: Name of the value that has a meaning.
        **table: Other arguments of `open_table`.

    Raises:
        InputError: It is UTF-16, or a table without a column of this name.
        OSError: It cannot be read.
    """
    lines = open_lines(name)
    if kind == CSV:
        from diffutron_ort.bulk.tables import open_table

        source = open_table(lines, name, column, **table)
    else:
        source = Source(Jsonl() if kind == JSONL else Txt(), lines)
    return Source(source.format, _without_empty_end(source.rows))


def unread(number: int, message: str) -> Line:
    """Return the line of a row that holds no record; the one that it gets says where in the file it was."""
    return Line(number, {"line": number + 1}, {}, InputError(message))


def _without_empty_end(rows: Iterable[Row]) -> Iterator[Row]:
    count = 0
    for row in rows:
        if row in EMPTY:
            empty, count = row, count + 1
            continue
        yield from repeat(empty, count) if count else ()
        count = 0
        yield row
