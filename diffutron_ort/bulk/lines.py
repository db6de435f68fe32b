"""The lines of a file or of standard input, plain or compressed, of which only one is ever held."""

import codecs
import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from diffutron_ort.errors import DiffutronError, InputError

STREAM = "-"  # the name of standard input and of standard output
MOST_LINE = 2**20  # bytes: far more than fits into any context
GZIP = b"\x1f\x8b"
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def open_lines(name: str) -> Iterator[bytes | InputError]:
    """Open a file, or standard input, and return its lines with their ends.

    In place of a line that is too long there is an error, whose message lacks the line's name. The iterator raises
    OSError or DiffutronError where the file cannot be read any further.

    Raises:
        InputError: It is not UTF-8, but UTF-16.
        OSError: It cannot be read.
    """
    stream = _unpacked(_opened(name))
    start = _peek(stream, len(codecs.BOM_UTF8))
    if start.startswith(WIDE):
        raise InputError(f"{name} is not UTF-8, but UTF-16: convert it")
    if start.startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
    return _lines(stream, name)


def count_lines(name: str) -> int | None:
    """Return how many lines a file has; None for a stream, and for a file that cannot be read to its end."""
    if not Path(name).is_file():
        return None
    count, last = 0, b"\n"
    try:
        with Path(name).open("rb") as file, _unpacked(file) as stream:
            while block := stream.read(2**20):
                count, last = count + block.count(b"\n"), block[-1:]
    except (OSError, EOFError, zlib.error):  # which is said when that place is reached
        return None
    return count + (last != b"\n")


def decoded(line: bytes) -> str:
    """Return a line as text.

    Raises:
        InputError: It is not UTF-8; the message lacks the line's name.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8: {error}") from error


def _opened(name: str) -> BinaryIO:
    if name != STREAM:
        return Path(name).open("rb")
    if sys.stdin is None or sys.stdin.closed:
        raise InputError("standard input is closed: name a file")
    return sys.stdin.buffer


def _unpacked(stream: BinaryIO) -> BinaryIO:
    """Return a stream, or a decompressing one over it."""
    return cast("BinaryIO", gzip.GzipFile(fileobj=stream)) if _peek(stream, len(GZIP)) == GZIP else stream


def _peek(stream: BinaryIO, size: int) -> bytes:
    """Return the first bytes of a buffered stream, and leave them there."""
    try:
        return cast("bytes", stream.peek(size)[:size])  # type: ignore[attr-defined]
    except (EOFError, zlib.error, gzip.BadGzipFile):  # which is said when the first line is read
        return b""


def _lines(stream: BinaryIO, name: str) -> Iterator[bytes | InputError]:
    try:
        while line := stream.readline(MOST_LINE + 1):
            yield _whole(line, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DiffutronError(f"{name} is damaged or cut off: {error}") from error


def _whole(line: bytes, stream: BinaryIO) -> bytes | InputError:
    """Return a line; if it is too long, pass over the rest of it and return an error."""
    if len(line) <= MOST_LINE:
        return line
    while line and not line.endswith(b"\n"):
        line = stream.readline(MOST_LINE)
    return InputError(f"has more than {MOST_LINE} bytes, the limit")
