"""The folder of the user's cache in which this package keeps what it can fetch or find out again.

It holds a folder for each purpose. One that was made here has a marker, and only such folders are ever removed:
`DIFFUTRON_CACHE` may name any place, also one that holds other things.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from diffutron_ort.errors import DiffutronError, OptionError

VARIABLE = "DIFFUTRON_CACHE"
NAME = "diffutron-ort"
REMOVED = ".removed-"  # how a folder is called while it is being removed
MARKER = ".made-by-diffutron-ort"
_MARK = b"diffutron-ort made this folder; `diffutron-ort rm` removes it.\n"


def folder() -> Path:
    """Return the cache's absolute path, whether or not it is there: `DIFFUTRON_CACHE`, or the platform's place.

    Raises:
        OptionError: `DIFFUTRON_CACHE` is the user's home or above it, as the root is.
        DiffutronError: It is not set, and no home is known.
    """
    if said := os.environ.get(VARIABLE):
        return _apart(said)
    if sys.platform == "win32":
        return _absolute("LOCALAPPDATA", "~/AppData/Local") / NAME
    if sys.platform == "darwin":
        return _home("~/Library/Caches") / NAME
    return _absolute("XDG_CACHE_HOME", "~/.cache") / NAME


def write(path: Path, content: bytes) -> None:
    """Write a file of the cache: whole or not at all, for this user alone.

    Args:
        path: Below `folder() / purpose`.
        content: What it will hold; what it held is replaced.

    Raises:
        DiffutronError: It cannot be written, or the purpose's folder is there and is none of ours.
    """
    try:
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error


def make_folder(path: Path) -> Path:
    """Make a folder of the cache, `folder() / purpose` or below, for this user alone, and return it.

    Raises:
        DiffutronError: It cannot be made, or the purpose's folder is there and is none of ours.
    """
    root = folder()
    purpose, *_ = path.relative_to(root).parts
    try:
        _make(root / purpose)
        _mark(root / purpose)
        _make(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def contents() -> list[tuple[Path, int]]:
    """Return the folders that this package has made in the cache, each with the bytes in it.

    Raises:
        DiffutronError: As of `folder`; or they cannot be listed.
    """
    try:
        there = sorted(folder().iterdir()) if folder().is_dir() else []
        return [(path, _bytes(path)) for path in there if _is_ours(path)]
    except OSError as error:
        raise DiffutronError(f"{folder()} cannot be listed: {error}") from error


def empty() -> None:
    """Remove the folders of `contents`; of a link in them the link, not what it points to.

    Raises:
        DiffutronError: They cannot be removed.
    """
    for path, _ in contents():
        try:
            _remove(path)
        except OSError as error:
            raise DiffutronError(f"{path} cannot be removed: {error}") from error


def _apart(said: str) -> Path:
    """Return the folder that was `said`, if it can be one of its own."""
    path, home = (os.path.realpath(os.path.expanduser(name)) for name in (said, "~"))  # noqa: PTH111 - cannot raise
    if Path(home).is_relative_to(path):
        raise OptionError(f"{VARIABLE}={said!r}: must be a folder of its own, not your home or above it")
    return Path(path)


def _absolute(variable: str, otherwise: str) -> Path:
    """Return the path that an environment variable holds, if it is absolute, which the XDG rules ask for."""
    said = os.environ.get(variable, "")
    return Path(said) if os.path.isabs(said) else _home(otherwise)  # noqa: PTH117 - "" is a path, too


def _home(path: str) -> Path:
    found = Path(os.path.expanduser(path))  # noqa: PTH111 - which does not raise
    if not found.is_absolute():
        raise DiffutronError(f"no home folder is known: set HOME, or {VARIABLE} to a folder for what is kept")
    return found


def _make(path: Path) -> None:
    """Make a folder and those above it that are missing, all of them for this user alone."""
    if not path.is_dir():
        _make(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def _mark(purpose: Path) -> None:
    """Mark a folder as ours, if there is nothing in it that another program may have put there."""
    is_empty = not any(purpose.iterdir())  # looked at first: whoever puts something in has marked it before
    if _is_ours(purpose):
        return
    if purpose.is_symlink() or not is_empty:
        raise DiffutronError(f"{purpose} was not made by diffutron-ort: set {VARIABLE} to another folder")
    (purpose / MARKER).write_bytes(_MARK)


def _remove(purpose: Path) -> None:
    """Remove a folder with its marker last, so that one that was removed in part is still known as ours.

    A folder in it loses its name first, so that it is not taken for whole after an interrupt.
    """
    for path in purpose.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path.replace(Path(tempfile.mkdtemp(prefix=REMOVED, dir=purpose)) / path.name))
        elif path.name != MARKER:
            path.unlink()
    shutil.rmtree(purpose)


def _is_ours(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and (path / MARKER).is_file()


def _bytes(path: Path) -> int:
    return sum(file.lstat().st_size for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    for place, _, names in os.walk(path):  # which follows no link to a folder
        yield from (Path(place, name) for name in names)


def _unwritable(path: Path, error: OSError) -> DiffutronError:
    return DiffutronError(f"{path} cannot be written: {error}; set {VARIABLE} to a folder that can")
