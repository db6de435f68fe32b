"""The output of a run: a file that a killed run can be continued in, or a stream."""

import gzip
import os
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from diffutron_ort.brief import brief
from diffutron_ort.bulk.journal import SUFFIX, Checkpoint, Journal, write_whole
from diffutron_ort.bulk.lines import STREAM
from diffutron_ort.errors import DiffutronError

INPUT = "input"  # in what a run depends on, the state of its input
OFTEN = 1.0  # seconds between two checkpoints
MOST_BYTES = 2**22  # of text that waits for a checkpoint


class Output(Protocol):
    """Where records go."""

    @property
    def done(self) -> Checkpoint:
        """What earlier runs and this one have written, with what waits to be."""

    def is_finished(self) -> bool:
        """Return whether an earlier run has written all of it."""

    def begin(self, identity: dict[str, Any], head: str) -> None:
        """Begin with `head`, or go on where an earlier run with the same identity was ended.

        Raises:
            DiffutronError: That run had another identity, or the file is not as it left it.
            OSError: It cannot be written.
        """

    def put(self, text: str, *, failed: bool) -> None:
        """Write a line.

        Raises:
            OSError: It cannot be written.
        """

    def finish(self) -> None:
        """Write what waits, and leave nothing to go on with."""

    def close(self) -> None:
        """Close it as it is; if nothing has begun, leave everything as it was."""


def open_output(name: str, *, restart: bool) -> Output:
    """Open an output: a file with its journal, or a pipe, a device or standard output.

    Args:
        name: Its path, or `-`.
        restart: Whether to write it anew, whatever is there.

    Raises:
        DiffutronError: Another process is writing it.
        OSError: It cannot be written.
    """
    path = Path(name)
    if name == STREAM or (path.exists() and not path.is_file() and not path.is_dir()):
        return Stream(name)
    return File(Path(os.path.realpath(path)), restart=restart)


class Stream:
    """An output that is written line by line, and never again."""

    def __init__(self, name: str) -> None:
        self._stream = sys.stdout if name == STREAM else Path(name).open("a", encoding="utf-8")  # noqa: SIM115
        self._is_own = name != STREAM
        self.done = Checkpoint()

    def is_finished(self) -> bool:
        """Return that it is not."""
        return False

    def begin(self, identity: dict[str, Any], head: str) -> None:  # noqa: ARG002
        """Write `head`."""
        self._write(head)

    def put(self, text: str, *, failed: bool) -> None:
        """Write a line at once."""
        self._write(text)
        self.done = Checkpoint(self.done.lines + 1, self.done.failed + failed)

    def finish(self) -> None:
        """Do nothing more."""

    def close(self) -> None:
        """Close it, unless it is standard output."""
        if self._is_own:
            self._stream.close()

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class File:
    """A file that is written in pieces, each of which is on the disk before the journal has it.

    A piece of a compressed file is a member of its own, so the file can be cut after any of them.
    """

    def __init__(self, path: Path, *, restart: bool) -> None:
        self._path, self._restart = path, restart
        self._is_packed = path.suffix.lower() == ".gz"
        self._journal = Journal(path.with_name(path.name + SUFFIX))
        self._is_new = not path.exists()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except BaseException:
            self._journal.close()
            raise
        self._has_begun = False
        self._waiting: list[str] = []
        self._characters = 0
        self._noted = time.monotonic()
        self.done = self._journal.last

    def is_finished(self) -> bool:
        """Return whether it has content and no journal: nothing is left to do."""
        return not self._restart and self._journal.identity is None and os.fstat(self._file).st_size > 0

    def begin(self, identity: dict[str, Any], head: str) -> None:
        """Begin, or cut off what was written after the last checkpoint."""
        if self._restart or not self._journal.last.size:
            os.ftruncate(self._file, 0)  # first: an old journal beside an empty file is refused, so nothing is mixed
            self._journal.begin(identity)
            self._has_begun = True
        else:
            self._check_same(self._journal.identity or {}, identity)
            os.ftruncate(self._file, self._journal.last.size)
        self.done = self._journal.last
        if not self.done.size:
            self._waiting = [head] if head else []

    def put(self, text: str, *, failed: bool) -> None:
        """Let a line wait, and write all that wait if it is time."""
        self._waiting.append(text)
        self._characters += len(text)
        self.done = Checkpoint(self.done.lines + 1, self.done.failed + failed, self.done.size)
        if self._characters > MOST_BYTES or time.monotonic() > self._noted + OFTEN:
            self._write()

    def finish(self) -> None:
        """Write what waits, and remove the journal."""
        if self._waiting or not self.done.size:
            self._write()
        os.close(self._file)
        self._file = -1
        self._journal.remove()

    def close(self) -> None:
        """Close it and its journal; what waits is lost, and done again by the next run."""
        if self._file < 0:
            return
        if self._has_begun and not self._journal.last.size:
            os.ftruncate(self._file, 0)
        is_empty = os.fstat(self._file).st_size == 0
        os.close(self._file)
        self._file = -1
        if self._is_new and is_empty:
            self._path.unlink(missing_ok=True)
        self._journal.close()

    def _write(self) -> None:
        content = "".join(self._waiting).encode("utf-8", "backslashreplace")
        content = gzip.compress(content, mtime=0) if self._is_packed else content
        write_whole(self._file, content, str(self._path))
        self.done = self.done._replace(size=self.done.size + len(content))
        self._journal.note(self.done)
        self._waiting, self._characters, self._noted = [], 0, time.monotonic()

    def _check_same(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Refuse to go on with another run's output."""
        other = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        if other:
            changes = ", ".join(_change(name, old.get(name), new.get(name)) for name in other)
            raise DiffutronError(
                f"{self._path.name} is unfinished and was begun otherwise: {changes}; give the same command to go on, "
                "or --restart to begin anew"
            )
        size = os.fstat(self._file).st_size
        if size < self._journal.last.size:
            raise DiffutronError(
                f"{self._path.name} has {size} bytes, and {self._journal.last.size} were written: something else has "
                "changed it; --restart begins anew"
            )


def _change(name: str, old: object, new: object) -> str:
    """Return in words that something which a run depends on is not what it was."""
    if name == INPUT:
        return "the input has changed since, or is a stream, which cannot be read twice"
    return f"{name} was {brief(old)} and is {brief(new)}"
