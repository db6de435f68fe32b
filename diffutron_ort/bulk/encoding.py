"""Write records as text: JSONL, or a table."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from diffutron_ort.bulk.formats import CSV, JSONL, TXT, Format
from diffutron_ort.bulk.records import COMPLETION, ERROR, FINISH_REASON, Record
from diffutron_ort.errors import OptionError

ADDED = (COMPLETION, FINISH_REASON, ERROR)


class Encoding(NamedTuple):
    """How records are written.

    Attributes:
        begin: What stands before the first.
        line: Returns a record as text, its end included.
    """

    begin: str
    line: Callable[[Record], str]


def check_output(kind: str, source: str) -> None:
    """Refuse a format of the output that cannot hold all that there is in a format of the input.

    Raises:
        OptionError: It cannot.
    """
    if kind == TXT:
        raise OptionError(f"the output cannot be .{TXT}: an answer may have several lines, or fail; name it .{JSONL}")
    if kind == CSV and source == JSONL:
        raise OptionError(f"the output cannot be .{CSV}: the values of JSON objects have no columns; name it .{JSONL}")


def encoding(kind: str, source: Format) -> Encoding:
    """Return the encoding of the records of a source."""
    if kind == JSONL:
        return Encoding("", lambda record: json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    columns = [name for name in source.columns or () if name not in ADDED] + list(ADDED)
    delimiter = getattr(source, "delimiter", ",")

    def line(record: Record) -> str:
        return _row([record.get(name, "") for name in columns], delimiter)

    return Encoding(_row(columns, delimiter), line)


def _row(cells: Sequence[str], delimiter: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(cells)  # which has any line break quoted
    return text.getvalue()
