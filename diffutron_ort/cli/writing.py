"""Results: JSON and tables on standard output, and files that are written whole or not at all."""

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


def print_json(value: object) -> None:
    """Print a value as JSON, on one line."""
    print(as_json(value), flush=True)


def as_json(value: object) -> str:
    """Return a value as JSON, on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows as columns that are flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)


def megabytes(size: int) -> str:
    """Return a size in bytes, in words."""
    return f"{size / 1e6:,.1f} MB"


def check_writable(path: str | Path) -> None:
    """Check that a file can be written, without changing anything.

    Raises:
        OSError: It cannot.
    """
    with _naming(path):
        if _is_replaced(path):
            beside = _beside(path)
            os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            beside.unlink()
        if Path(path).is_file() or Path(path).is_dir():  # opening a pipe would wait for its reader
            os.close(os.open(path, os.O_WRONLY))


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file beside its place, then move it there. A pipe or a device is written to directly.

    Raises:
        OSError: It cannot be written; an existing file is unchanged.
    """
    with _naming(path):
        if _is_replaced(path):
            _replace(path, text)
        else:
            with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 - /dev/stdout may be a file with content
                file.write(text)


def _replace(path: str | Path, text: str) -> None:
    beside = _beside(path)
    try:
        beside.write_text(text, "utf-8")
        with suppress(FileNotFoundError):
            beside.chmod(stat.S_IMODE(Path(path).stat().st_mode))
        beside.replace(os.path.realpath(path))
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Name the file that was asked for in an error, not the one beside it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _is_replaced(path: str | Path) -> bool:
    """Return whether a path is a file's or free, rather than a pipe's, a device's or a descriptor's."""
    is_free_or_file = Path(path).is_file() or not Path(path).exists()
    return is_free_or_file and not str(path).startswith(("/dev/", "/proc/"))


def _beside(path: str | Path) -> Path:
    """Return a free name in the folder of a file, or of the file that a link points to."""
    return Path(os.path.realpath(path)).with_name(f".diffutron-{os.urandom(8).hex()}.partial")
