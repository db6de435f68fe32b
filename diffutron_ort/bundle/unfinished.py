"""Bundles that are still being written: only the export that writes one may load it, to record its cases."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = "unfinished"  # the manifest's format while the bundle is being written; no release accepts it
_written: set[Path] = set()


@contextmanager
def opened_unfinished(folder: Path) -> Iterator[None]:
    """Let this process load the unfinished bundle in `folder` within the context."""
    _written.add(folder.absolute())
    try:
        yield
    finally:
        _written.discard(folder.absolute())


def is_own(folder: Path, found: object) -> bool:
    """Return whether `found` is the format of an unfinished bundle, and this process writes the one in `folder`."""
    return found == UNFINISHED and folder.absolute() in _written
