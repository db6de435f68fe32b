"""What users typed in earlier runs: a file that only they can read, with a JSON string on each line."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from diffutron_ort import user_cache
from diffutron_ort.errors import DiffutronError

PURPOSE, NAME = "chat", "history.jsonl"
KEPT = 1000  # entries; the file is shortened once it has twice as many
MOST_ENTRY = 10_000  # characters; longer ones are not kept
MOST_BYTES = 2**24  # of the file that are read, from its end


class History:
    """The entries of earlier runs and of this one; if they cannot be kept, the user is told once."""

    def __init__(self, warn: Callable[[str], None], kept: bool = True) -> None:
        """Find the file.

        Args:
            warn: Tells the user.
            kept: Whether to read and write any.
        """
        self._warn = warn
        self._path: Path | None = None
        if not kept:
            return
        try:
            self._path = user_cache.make_folder(user_cache.folder() / PURPOSE) / NAME
        except DiffutronError as error:
            self._give_up(error)

    def entries(self) -> list[str]:
        """Return the last entries, oldest first."""
        if self._path is None or not self._path.exists():
            return []
        try:
            found = _read(self._path)
            if len(found) > 2 * KEPT:
                user_cache.write(self._path, b"".join(map(_line, found[-KEPT:])))
        except (OSError, DiffutronError) as error:
            self._give_up(error)
            return []
        return found[-KEPT:]

    def add(self, entry: str) -> None:
        """Keep an entry."""
        if self._path is None or len(entry) > MOST_ENTRY:
            return
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "ab", buffering=0) as file:
                file.write(_line(entry))
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._path = None
        self._warn(f"what is typed is not kept for the next time: {error}")


def _read(path: Path) -> list[str]:
    """Return the entries of a file; what is not an entry is left out."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MOST_BYTES))
        lines = file.read(MOST_BYTES).splitlines()
    return [entry for entry in map(_entry, lines) if entry]


def _entry(line: bytes) -> str:
    """Return the entry on a line, or nothing."""
    try:
        value = json.loads(line)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""


def _line(entry: str) -> bytes:
    return json.dumps(entry).encode() + b"\n"
