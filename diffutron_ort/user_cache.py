"""This package's folder in the user's cache, for data that can be downloaded or computed again.

It holds one folder for each purpose. A folder made by this package contains a marker, and only folders with a marker
are ever removed: `DIFFUTRON_CACHE` may name a folder that also holds other data.
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
REMOVED = ".removed-"  # prefix of a folder that is being removed
MARKER = ".made-by-diffutron-ort"
_MARK = b"diffutron-ort made this folder; `diffutron-ort rm` removes it.\n"


def folder() -> Path:
    """Return the cache's absolute path, which may not exist: `DIFFUTRON_CACHE`, or the platform's cache folder.

    Raises:
        OptionError: `DIFFUTRON_CACHE` is the user's home folder or a parent of it.
        DiffutronError: `DIFFUTRON_CACHE` is not set, and there is no home folder.
    """
    if value := os.environ.get(VARIABLE):
        return _separate(value)
    if sys.platform == "win32":
        return _absolute("LOCALAPPDATA", "~/AppData/Local") / NAME
    if sys.platform == "darwin":
        return _home("~/Library/Caches") / NAME
    return _absolute("XDG_CACHE_HOME", "~/.cache") / NAME


def write(path: Path, content: bytes) -> None:
    """Write or replace a file in the cache atomically; only this user may read it.

    Args:
        path: A path below `folder() / purpose`.
        content: The file's new content.

    Raises:
        DiffutronError: The file cannot be written, or the purpose's folder was not made by this package.
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
    """Make a folder in the cache, `folder() / purpose` or below, that only this user may read; return its path.

    Raises:
        DiffutronError: The folder cannot be made, or the purpose's folder was not made by this package.
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
    """Return the folders that this package made in the cache, each with its size in bytes.

    Raises:
        DiffutronError: As for `folder`; or the cache cannot be listed.
    """
    try:
        paths = sorted(folder().iterdir()) if folder().is_dir() else []
        return [(path, size(path)) for path in paths if is_ours(path)]
    except OSError as error:
        raise DiffutronError(f"{folder()} cannot be listed: {error}") from error


def empty() -> None:
    """Remove the folders that `contents` returns; links are removed, not followed.

    Raises:
        DiffutronError: A folder cannot be removed.
    """
    for path, _ in contents():
        try:
            _remove(path)
        except OSError as error:
            raise DiffutronError(f"{path} cannot be removed: {error}") from error


def is_ours(path: Path) -> bool:
    """Return whether a purpose's folder was made by this package."""
    return path.is_dir() and not path.is_symlink() and (path / MARKER).is_file()


def remove(path: Path) -> None:
    """Remove a folder in a purpose's, if it is there; after an interrupt, it is gone or looks incomplete.

    Raises:
        DiffutronError: It cannot be removed, or the purpose's folder was not made by this package.
    """
    if not os.path.lexists(path):
        return
    if not is_ours(path.parent):
        raise _foreign(path.parent)
    try:
        _discard(path)
    except OSError as error:
        raise DiffutronError(f"{path} cannot be removed: {error}") from error


def size(path: Path) -> int:
    """Return the size in bytes of the files in a folder; links count as themselves."""
    return sum(file.lstat().st_size for file in _files(path))


def _separate(value: str) -> Path:
    """Return the folder that `value` names, unless it contains the user's home folder."""
    path, home = (os.path.realpath(os.path.expanduser(name)) for name in (value, "~"))  # noqa: PTH111 - cannot raise
    if Path(home).is_relative_to(path):
        raise OptionError(f"{VARIABLE}={value!r}: must be a folder of its own, not your home folder or a parent of it")
    return Path(path)


def _absolute(variable: str, default: str) -> Path:
    """Return the path in an environment variable; `default` unless it is absolute, as the XDG specification asks."""
    value = os.environ.get(variable, "")
    return Path(value) if os.path.isabs(value) else _home(default)  # noqa: PTH117 - Path("") is the current folder


def _home(path: str) -> Path:
    expanded = Path(os.path.expanduser(path))  # noqa: PTH111 - does not raise, unlike `Path.expanduser`
    if not expanded.is_absolute():
        raise DiffutronError(f"the home folder is unknown: set HOME, or {VARIABLE} to a folder for the cache")
    return expanded


def _make(path: Path) -> None:
    """Make a folder and its missing parents, readable by this user only."""
    if not path.is_dir():
        _make(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def _mark(purpose: Path) -> None:
    """Mark a folder as ours; refuse one with content that another program may have put there."""
    is_empty = not any(purpose.iterdir())  # before `is_ours`: another process of ours writes the marker first
    if is_ours(purpose):
        return
    if purpose.is_symlink() or not is_empty:
        raise _foreign(purpose)
    (purpose / MARKER).write_bytes(_MARK)


def _remove(purpose: Path) -> None:
    """Remove a folder, its marker last, so that a partly removed folder is still recognized as ours."""
    for path in purpose.iterdir():
        if path.is_dir() and not path.is_symlink():
            _discard(path)
        elif path.name != MARKER:
            path.unlink()
    shutil.rmtree(purpose)


def _discard(path: Path) -> None:
    """Remove a folder after renaming it, so that it does not look complete after an interrupt."""
    aside = Path(tempfile.mkdtemp(prefix=REMOVED, dir=path.parent))
    path.replace(aside / path.name)
    shutil.rmtree(aside)


def _files(path: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(path):  # does not follow links
        yield from (Path(parent, name) for name in names)


def _foreign(purpose: Path) -> DiffutronError:
    return DiffutronError(f"{purpose} was not made by diffutron-ort; set {VARIABLE} to another folder")


def _unwritable(path: Path, error: OSError) -> DiffutronError:
    return DiffutronError(f"{path} cannot be written: {error}; set {VARIABLE} to a writable folder")
