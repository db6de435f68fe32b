"""The journal beside an unfinished output: what it is of, and how much of it is written for good.

It begins with what the run depends on, and then has a line for each time that the output was complete up to there. A
run that is killed leaves it, so that the same command goes on from its last line. It is also the lock of the output:
only one process has it open for a run.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from diffutron_ort.errors import DiffutronError

SUFFIX = ".journal"

try:
    import fcntl
except ImportError:  # Windows, where no two runs are kept apart
    fcntl = None  # type: ignore[assignment]


class Checkpoint(NamedTuple):
    """How much of the output is written for good.

    Attributes:
        lines: Number of lines.
        failed: How many of them failed.
        size: Bytes of the output.
    """

    lines: int = 0
    failed: int = 0
    size: int = 0


class Journal:
    """The journal of an output, locked until it is closed.

    Attributes:
        path: Its path.
        identity: What the run depends on; None if none has begun.
        last: The last checkpoint.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the journal.

        Raises:
            DiffutronError: Another process has it, or it is something else.
            OSError: It cannot be written.
        """
        self.path = path
        self._file = _locked(path)
        self.identity: dict[str, Any] | None = None
        self.last = Checkpoint()
        try:
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    def begin(self, identity: dict[str, Any]) -> None:
        """Begin with what a new run depends on."""
        self.identity, self.last = identity, Checkpoint()
        os.ftruncate(self._file, 0)
        self._append(identity)
        _sync_folder(self.path.parent)

    def note(self, checkpoint: Checkpoint) -> None:
        """Append a checkpoint; what it says is on the disk by then."""
        self.last = checkpoint
        self._append(checkpoint)

    def remove(self) -> None:
        """Remove the journal, and then unlock it: there is nothing to go on with."""
        self.path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = -1

    def close(self) -> None:
        """Unlock the journal; one in which nothing is noted is removed."""
        if self._file < 0:
            return
        if not self.last.size:
            self.path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = -1

    def _load(self) -> None:
        content = _content(self._file)
        whole, _, rest = content.rpartition(b"\n")
        if rest:  # a line that was being written when the run was killed
            os.ftruncate(self._file, len(content) - len(rest))
        if not whole:
            return
        try:
            first, *others = whole.split(b"\n")
            self.identity = dict(json.loads(first))
            self.last = Checkpoint(*map(int, json.loads(others[-1]))) if others else Checkpoint()
        except (ValueError, TypeError) as error:
            raise DiffutronError(f"{self.path} is not the journal of a run: remove it, and the output") from error

    def _append(self, value: object) -> None:
        write_whole(self._file, json.dumps(value).encode() + b"\n", str(self.path))


def write_whole(file: int, content: bytes, name: str) -> None:
    """Append to a file, and wait until it is on the disk.

    Raises:
        OSError: It cannot be written; a part of it may be.
    """
    try:
        os.lseek(file, 0, os.SEEK_END)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error


def _locked(path: Path) -> int:
    """Return a descriptor of the journal, which no other process has locked."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            _lock(file, path)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), path.stat()):
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # another run ended meanwhile, and removed it


def _lock(file: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DiffutronError(
            f"another process is writing {path.name.removesuffix(SUFFIX)}: wait for its end"
        ) from error
    except OSError:  # a file system without locks
        return


def _content(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    blocks = []
    while block := os.read(file, 2**20):
        blocks.append(block)
    return b"".join(blocks)


def _sync_folder(folder: Path) -> None:
    """Put a new name in a folder on the disk, where folders can be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
