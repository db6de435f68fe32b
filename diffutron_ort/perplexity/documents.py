"""Documents: the texts that are scored one by one, and the files that they are read from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diffutron_ort.brief import brief
from diffutron_ort.bulk.answering import Line
from diffutron_ort.bulk.formats import CSV, JSONL, TXT, Source, open_source
from diffutron_ort.bulk.lines import STREAM, count_lines, decoded, open_lines
from diffutron_ort.bulk.records import PROMPT
from diffutron_ort.errors import DiffutronError, InputError

TEXT, LINES = "text", "lines"
FORMATS = (TEXT, LINES, JSONL, CSV)
SUFFIXES = {".jsonl": JSONL, ".ndjson": JSONL, ".csv": CSV, ".tsv": CSV}
FIELD = "text"
MOST_BYTES = 2**20  # of a document: two novels
REMEDY = "split it, or take each of its lines for a document with --format lines"


@dataclass(frozen=True)
class Document:
    """A text that is scored by itself.

    Attributes:
        name: Where it comes from: a file, and the line or row of one that has several.
        text: The text.
        error: Why it could not be read; None if it could.
    """

    name: str
    text: str = ""
    error: DiffutronError | None = None


def format_of(name: str, given: str | None = None) -> str:
    """Return the format of a file: what is given, or what its name says, or else a text that is one document."""
    return given or SUFFIXES.get(Path(name.lower().removesuffix(".gz")).suffix, TEXT)


def open_documents(name: str, given: str | None = None, field: str = FIELD) -> Iterator[Document]:
    """Open a file, or standard input, and return its documents.

    What cannot be read becomes a document with an error, and what comes after it is read if that is possible.

    Args:
        name: The file's path, or `-`. It may be compressed by gzip.
        given: One of `FORMATS`; None is the one that the name says.
        field: Name of the text in JSONL and CSV.

    Raises:
        InputError: It is UTF-16, or a table without a column of this name.
        OSError: It cannot be read.
    """
    kind, shown = format_of(name, given), "standard input" if name == STREAM else name
    if kind == TEXT:
        return _readable(_whole(open_lines(name), shown), shown)
    column = PROMPT if kind == LINES else field
    source = open_source(name, TXT if kind == LINES else kind, column, flag="--column", replaced=None)
    return _readable(_parts(source, column, shown), shown)


def count_documents(name: str, given: str | None = None) -> int | None:
    """Return how many documents a file has, at most; None if that is not known before it has been read."""
    kind = format_of(name, given)
    if kind == TEXT:
        return 1
    lines = count_lines(name)
    return None if lines is None else max(0, lines - (kind == CSV))


def unreadable(name: str, error: DiffutronError | OSError) -> Document:
    """Return what stands for the documents of a file, or for the rest of them, that cannot be read."""
    ours = error if isinstance(error, DiffutronError) else InputError(f"{name}: {error.strerror or error}")
    return Document(name, error=ours)


def _readable(found: Iterator[Document], name: str) -> Iterator[Document]:
    """Yield documents, and one with an error where a file cannot be read any further."""
    try:
        yield from found
    except (DiffutronError, OSError) as error:
        yield unreadable(name, error)


def _whole(lines: Iterator[bytes | InputError], name: str) -> Iterator[Document]:
    """Yield all lines of a file as one document, without the last line's end."""
    pieces, size = [], 0
    for number, line in enumerate(lines, 1):
        if isinstance(line, InputError):
            raise InputError(f"line {number} of {name} {line}: {REMEDY}")
        size += len(line)
        if size > MOST_BYTES:
            raise InputError(f"{name} has more than {MOST_BYTES} bytes, the limit for one document: {REMEDY}")
        try:
            pieces.append(decoded(line))
        except InputError as error:
            raise InputError(f"line {number} of {name} {error}") from error
    yield Document(name, "".join(pieces).removesuffix("\n").removesuffix("\r"))


def _parts(source: Source, column: str, name: str) -> Iterator[Document]:
    """Yield a document for each row of a file."""
    for number, row in enumerate(source.rows):
        line = source.format.read(number, row)
        place = f"{name}:{number + 1}"
        try:
            yield Document(place, _text(line, column))
        except DiffutronError as error:
            yield Document(place, error=InputError(f"{name}: {error}"))


def _text(line: Line, column: str) -> str:
    """Return the text of a row.

    Raises:
        DiffutronError: There is none.
    """
    if line.error is not None:
        raise line.error
    text, number = line.asked.get(column), line.number + 1
    if text is None:
        raise InputError(f"line {number} has no {column!r}, it has {brief(list(line.asked))}: name one by --column")
    if not isinstance(text, str):
        raise InputError(f"line {number} has {brief(text)} as {column!r}: must be a text")
    return text
