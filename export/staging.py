"""The folder that an export writes into: it becomes the bundle at the very end, or is removed.

If the bundle's path is free, the folder is `.NAME.HEX.partial` beside it, and is renamed. If the path is an empty
directory (the current one, a mount point), the folder is inside it, and its files are moved up. It holds

    lock        locked while the export runs: a later export removes the folder of one that was killed
    bundle/     the files; its manifest says `unfinished`, so that nothing else opens it
    manifest    the finished manifest, which is moved last: a bundle cannot be loaded before it is complete
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffutron_ort.bundle.integrity import sha256
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.errors import BundleError, DiffutronError, OptionError
from diffutron_ort.files import read_object

try:
    import fcntl
except ImportError:  # Windows, where the folder of a killed export stays
    fcntl = None  # type: ignore[assignment]

NO_CONTENT = ("lost+found",)
"""Entries of a directory that still counts as empty: a file system of its own has them."""


@dataclass(frozen=True)
class Stage:
    """The folder that an export writes into.

    Attributes:
        path: The folder.
        out: The path of the bundle, absolute and with its links resolved.
    """

    path: Path
    out: Path

    @property
    def folder(self) -> Path:
        """The folder of the bundle's files."""
        return self.path / "bundle"

    @property
    def manifest(self) -> Path:
        """The path of the finished manifest."""
        return self.path / "manifest"

    @property
    def lock(self) -> Path:
        """The path of the file that is locked while the export runs."""
        return self.path / "lock"

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an error of the disk into one that names the bundle."""
        try:
            yield
        except OSError as error:
            if isinstance(error, DiffutronError):
                raise
            raise DiffutronError(f"{self.out} cannot be written: {error}; make room, or choose another path") from error


@contextlib.contextmanager
def staged(out: str | Path) -> Iterator[Stage]:
    """Yield a stage whose bundle is moved to `out` at the end, and removed after an error.

    Raises:
        OptionError: `out` is not empty, or cannot be written.
        DiffutronError: `out` was taken meanwhile, or the last step failed; the message says where the bundle is kept.
    """
    place = find_place(out)
    above = [parent for parent in place.parents if not parent.exists()]
    try:
        with new_stage(place, out) as stage:
            try:
                yield stage
                with stage.writing():
                    sync_all(stage.path)
            except BaseException:  # Ctrl-C too
                remove(stage)
                raise
            publish(stage, out)
    except BaseException:
        for parent in above:
            with contextlib.suppress(OSError):  # it is not empty: the bundle is kept there, or others use it
                parent.rmdir()
        raise


def find_place(out: str | Path) -> Path:
    """Return `out`, absolute and with its links resolved, after removing what killed exports left there.

    Raises:
        OptionError: It is not empty, or cannot be a path.
    """
    try:
        place = Path(os.path.realpath(out))
        is_free = not (os.path.lexists(Path(out)) or exists(place))
        for stage in left_behind(place):
            clear(stage)
        if is_free or (place.is_dir() and is_empty(place)):
            return place
    except (OSError, ValueError) as error:  # ValueError: a NUL
        raise cannot_be_written(out, error) from error
    raise OptionError(f"{out} exists already; give a path that is free, or an empty directory")


def exists(path: Path) -> bool:
    """Return whether a path exists, even as a dangling link; raise an OSError if it cannot be a path."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def is_empty(folder: Path) -> bool:
    """Return whether a folder is empty, except for stages of exports into it."""
    return all(path.name in NO_CONTENT or is_stage(path, "") for path in folder.iterdir())


def is_stage(path: Path, name: str) -> bool:
    """Return whether a path is a stage: beside a bundle called `name`, or inside the bundle's folder if it is empty."""
    is_named = re.fullmatch(rf"{re.escape(prefix(name))}[0-9a-f]{{8}}\.partial", path.name)
    return is_named is not None and path.is_dir() and not path.is_symlink()


def prefix(name: str) -> str:
    """Return the beginning of a stage's name."""
    return f".{name}." if name else "."


@contextlib.contextmanager
def new_stage(place: Path, out: str | Path) -> Iterator[Stage]:
    """Yield a new stage, locked.

    Raises:
        OptionError: It cannot be created.
    """
    home, name = (place, "") if place.is_dir() else (place.parent, place.name)
    stage = Stage(home / f"{prefix(name)}{secrets.token_hex(4)}.partial", place)
    with contextlib.ExitStack() as stack:
        try:
            stage.folder.mkdir(parents=True)
            new = stage.lock.with_name("new")  # renamed once locked, so that no other export removes it
            new.touch()
            if lock(new, stack):
                new.rename(stage.lock)
        except BaseException as error:
            remove(stage)
            if isinstance(error, OSError):
                raise cannot_be_written(out, error) from error
            raise
        yield stage


def lock(path: Path, stack: contextlib.ExitStack) -> bool:
    """Lock a file until the stack is closed; return False if another process has it, or the system has no locks."""
    if fcntl is None:
        return False
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def left_behind(place: Path) -> Iterator[Stage]:
    """Yield the stages of exports to a path, whether these still run or were killed."""
    for home, name in ((place.parent, place.name), (place, "")):
        with contextlib.suppress(OSError):  # it does not exist, or cannot be listed
            yield from [Stage(path, place) for path in home.iterdir() if is_stage(path, name)]


def clear(stage: Stage) -> None:
    """Remove the stage of an export that was killed, and the files that it had moved already."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        if stage.lock.is_file() and lock(stage.lock, stack):
            take_back(stage)
            remove(stage)


def remove(stage: Stage) -> None:
    """Remove a stage as far as possible, its lock last."""
    with contextlib.suppress(OSError):
        stage.manifest.unlink()
    for path in (stage.folder, stage.path):
        shutil.rmtree(path, ignore_errors=True)


def sync_all(folder: Path) -> None:
    """Flush all files of a folder to the disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a directory where the system can, to the disk."""
    with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish(stage: Stage, out: str | Path) -> None:
    """Move a finished bundle to its path.

    Raises:
        DiffutronError: It cannot be moved; the bundle is kept, and the message says where.
    """
    try:
        if stage.path.parent == stage.out:
            move_up(stage)
        else:
            stage.manifest.replace(stage.folder / MANIFEST)
            stage.folder.rename(stage.out)  # fails if the path is taken by anything but an empty folder
            sync(stage.out.parent)
    except BaseException as error:
        take_back(stage)
        if isinstance(error, OSError):
            raise DiffutronError(f"{out} {why(error)}; the finished bundle is {keep(stage)}") from error
        remove(stage)
        raise
    remove(stage)


def move_up(stage: Stage) -> None:
    """Move a bundle's files from a stage into the directory around it, the manifest last."""
    if not is_empty(stage.out):
        raise FileExistsError
    # Folders first: renaming one onto a folder that is not empty fails, so only one of two exports goes on.
    for path in sorted(stage.folder.iterdir(), key=lambda path: (not path.is_dir(), path.name)):
        if path.name != MANIFEST:
            if os.path.lexists(stage.out / path.name):
                raise FileExistsError
            path.rename(stage.out / path.name)
    sync(stage.out)
    stage.manifest.rename(stage.out / MANIFEST)
    sync(stage.out)


def take_back(stage: Stage) -> None:
    """Move the files of a bundle that were moved up without their manifest back to the stage."""
    if stage.path.parent != stage.out or (stage.out / MANIFEST).exists() or not stage.manifest.exists():
        return
    with contextlib.suppress(BundleError):
        files = read_object(stage.manifest).fields("files").values
        for path in [*stage.out.rglob("*")]:
            name = path.relative_to(stage.out).as_posix()
            if name in files and path.is_file() and is_listed(path, files[name]):
                (stage.folder / name).parent.mkdir(exist_ok=True)
                path.rename(stage.folder / name)
                with contextlib.suppress(OSError):
                    path.parent.rmdir()


def is_listed(path: Path, entry: Mapping[str, Any]) -> bool:
    """Return whether a file has the size and hash that a manifest's entry says."""
    return entry == {"size": path.stat().st_size, "sha256": sha256(path)}


def keep(stage: Stage) -> str:
    """Move a finished bundle to a path of its own, which no export removes, and return the words for where it is."""
    kept = stage.path.with_name(stage.path.name[1:].removesuffix(".partial"))
    try:
        stage.lock.unlink(missing_ok=True)
        if stage.manifest.exists():
            stage.manifest.replace(stage.folder / MANIFEST)
        stage.folder.rename(kept)
    except OSError as error:
        return f"in {stage.folder} ({reason(error)}; {stage.manifest}, if it exists, is its {MANIFEST})"
    remove(stage)
    return f"{kept}"


def cannot_be_written(out: str | Path, error: Exception) -> OptionError:
    """Return the error for a path that cannot be written."""
    return OptionError(f"{str(out)!r} cannot be written: {reason(error)}; choose another path")


def why(error: OSError) -> str:
    """Return why moving the bundle failed, in words."""
    if isinstance(error, FileExistsError | NotADirectoryError) or error.errno == errno.ENOTEMPTY:
        return "was taken while this export ran"
    return f"cannot be written: {reason(error)}"


def reason(error: Exception) -> str:
    """Return the message of an error, without its number and paths."""
    return str(getattr(error, "strerror", None) or error)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as indented JSON; an existing file is replaced, never written into."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)
