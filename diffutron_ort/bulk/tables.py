"""Tables in CSV: a first line with the names of the columns, then rows, whose quoted cells may have several lines."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from diffutron_ort.brief import brief
from diffutron_ort.bulk.answering import Line
from diffutron_ort.bulk.formats import Row, Source, unread
from diffutron_ort.bulk.lines import MOST_LINE, decoded
from diffutron_ort.bulk.records import COMPLETION
from diffutron_ort.errors import InputError

DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Csv:
    """The format of a table.

    Attributes:
        columns: Their names.
        column: That of the prompt, the only one that has a meaning here.
        delimiter: What stands between two cells.
    """

    columns: list[str]
    column: str
    delimiter: str

    def read(self, number: int, row: Row) -> Line:
        """Return a line with the row's cells by column."""
        name = f"row {number + 1}"
        if not isinstance(row, list):
            return unread(number, f"{name} {row!s}")
        cells = row or [""]  # as an empty line is in a table of one column
        if len(cells) != len(self.columns):
            wrong = f"{name} has {len(cells)} cells, and there are {len(self.columns)} columns"
            return unread(number, f"{wrong}: quote a cell that holds {self.delimiter!r}, a quote or a line break")
        record = dict(zip(self.columns, cells, strict=True))
        return Line(number, record, {self.column: record[self.column]})


class _Text:
    """The lines of a table as text, of a bounded length for each row.

    Attributes:
        taken: Bytes taken for the row that is being read.
    """

    def __init__(self, lines: Iterator[bytes | InputError]) -> None:
        self._lines = lines
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if isinstance(line, InputError):
            raise line
        self.taken += len(line)
        if self.taken > MOST_LINE:
            raise InputError(f"has more than {MOST_LINE} bytes, the limit: a quote may be missing")
        return decoded(line)


def open_table(
    lines: Iterator[bytes | InputError],
    name: str,
    column: str,
    *,
    flag: str = "--column",
    replaced: str | None = COMPLETION,
) -> Source:
    """Return a table after its first line.

    Args:
        lines: Of the table.
        name: Of its file.
        column: Name of the only column that has a meaning.
        flag: What names that column on the command line.
        replaced: Name of the column that the output adds, if it adds one.

    Raises:
        InputError: The first line cannot be read, has no column of this name, or has one that would be replaced.
    """
    text = _Text(lines)
    try:
        header = next(text, "").strip("\r\n")
        split = {each: next(csv.reader([header], delimiter=each, strict=True), []) for each in DELIMITERS}
    except (InputError, csv.Error) as error:
        raise InputError(f"the first line of {name} is no row of names: {error}") from error
    delimiter = next((each for each in DELIMITERS if column in split[each]), DELIMITERS[0])
    columns = split[delimiter]
    if column not in columns:
        raise InputError(f"{name} has no column {column!r}: its first line has {brief(columns)}; name one by {flag}")
    if len(set(columns)) < len(columns):
        raise InputError(f"{name} has two columns of the same name, in {brief(columns)}: rename one")
    if replaced in columns:
        raise InputError(f"{name} already has a column {replaced!r}, which the answers would replace: rename it")
    return Source(Csv(columns, column, delimiter), _cells(text, delimiter))


def _cells(text: _Text, delimiter: str) -> Iterator[Row]:
    """Yield the cells of each row, or what is wrong with it; the next row begins on the next line."""
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        text.taken = 0
        row: Row
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = InputError(f"is not CSV: {error}")
        except InputError as error:
            row = error
        yield row
