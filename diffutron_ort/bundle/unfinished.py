"""Bundles that are being written: only the export that writes one opens it, to record what it does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = "unfinished"  # the manifest's format until all is written, which no release reads
_written: set[Path] = set()


@contextmanager
def opened_unfinished(folder: Path) -> Iterator[None]:
    """Let this process load the unfinished bundle in `folder` meanwhile."""
    _written.add(folder.absolute())
    try:
        yield
    finally:
        _written.discard(folder.absolute())


def is_own(folder: Path, found: object) -> bool:
    """Return whether a manifest of the format `found` is that of an unfinished bundle which this process writes."""
    return found == UNFINISHED and folder.absolute() in _written
