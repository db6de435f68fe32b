"""Where an export writes: a folder of its own, which becomes the bundle at the very end, or is gone.

The folder, `.NAME.HEX.partial`, lies beside a place that is free, and is renamed; where the place is an empty directory
(the current one, a mount point) it lies inside, and its files are moved up. It holds

    lock        held by the export while it lives: a later export removes the folder of one that was killed
    bundle/     the files; its manifest says `unfinished`, so that nobody else opens it
    manifest    the finished manifest, which gets its name last: nothing loads before everything is there
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
except ImportError:  # Windows, where what a killed export leaves stays
    fcntl = None  # type: ignore[assignment]

NO_CONTENT = ("lost+found",)
"""What an empty file system of its own may hold."""


@dataclass(frozen=True)
class Stage:
    """The folder of an export.

    Attributes:
        path: the folder.
        out: where the bundle goes: absolute, its links followed.
    """

    path: Path
    out: Path

    @property
    def folder(self) -> Path:
        """Where the bundle's files are written."""
        return self.path / "bundle"

    @property
    def manifest(self) -> Path:
        """Where the finished manifest is written."""
        return self.path / "manifest"

    @property
    def lock(self) -> Path:
        """What is locked while the export lives."""
        return self.path / "lock"

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Say of what the disk refuses what it was for."""
        try:
            yield
        except OSError as error:
            if isinstance(error, DiffutronError):
                raise
            raise DiffutronError(
                f"{self.out} cannot be written: {error}; make room, or choose another place"
            ) from error


@contextlib.contextmanager
def staged(out: str | Path) -> Iterator[Stage]:
    """Yield a stage whose bundle becomes `out` if all goes well, and is gone if not.

    Raises:
        OptionError: `out` holds something already, or cannot be written.
        DiffutronError: `out` was taken meanwhile, or the last step failed; the message says where the bundle is kept.
    """
    place = find_place(out)
    above = [parent for parent in place.parents if not parent.exists()]
    try:
        with begun(place, out) as stage:
            try:
                yield stage
                with stage.writing():
                    settle(stage.path)
            except BaseException:  # Ctrl-C too
                remove(stage)
                raise
            publish(stage, out)
    except BaseException:
        for parent in above:
            with contextlib.suppress(OSError):  # it holds what was kept, or is another's by now
                parent.rmdir()
        raise


def find_place(out: str | Path) -> Path:
    """Return `out`, absolute and with its links followed, once what killed exports left there is removed.

    Raises:
        OptionError: it holds something, or there can be no such place.
    """
    try:
        place = Path(os.path.realpath(out))
        is_free = not (os.path.lexists(Path(out)) or is_there(place))
        for stage in left_behind(place):
            clear(stage)
        if is_free or (place.is_dir() and is_empty(place)):
            return place
    except (OSError, ValueError) as error:  # ValueError: a NUL
        raise cannot_be_written(out, error) from error
    raise OptionError(f"{out} is there already; give a place that is free, or an empty directory")


def is_there(path: Path) -> bool:
    """Return whether a path is taken; raise an OSError where it cannot be one."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def is_empty(folder: Path) -> bool:
    """Return whether a folder holds nothing but stages of exports into it."""
    return all(path.name in NO_CONTENT or is_stage(path, "") for path in folder.iterdir())


def is_stage(path: Path, name: str) -> bool:
    """Return whether a path is a stage beside a place called `name`, or inside a place if that is empty."""
    is_named = re.fullmatch(rf"{re.escape(prefix(name))}[0-9a-f]{{8}}\.partial", path.name)
    return is_named is not None and path.is_dir() and not path.is_symlink()


def prefix(name: str) -> str:
    """Return what a stage's name begins with."""
    return f".{name}." if name else "."


@contextlib.contextmanager
def begun(place: Path, out: str | Path) -> Iterator[Stage]:
    """Yield a new stage, locked.

    Raises:
        OptionError: it cannot be made.
    """
    home, name = (place, "") if place.is_dir() else (place.parent, place.name)
    stage = Stage(home / f"{prefix(name)}{secrets.token_hex(4)}.partial", place)
    with contextlib.ExitStack() as stack:
        try:
            stage.folder.mkdir(parents=True)
            new = stage.lock.with_name("new")  # has its name once it is locked, so that nobody takes it for left behind
            new.touch()
            if locked(new, stack):
                new.rename(stage.lock)
        except BaseException as error:
            remove(stage)
            if isinstance(error, OSError):
                raise cannot_be_written(out, error) from error
            raise
        yield stage


def locked(path: Path, stack: contextlib.ExitStack) -> bool:
    """Return whether a file could be locked until the stack is closed: not if another has it, or nobody can."""
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
    """Yield the stages, of living and of killed exports, that are there for a place."""
    for home, name in ((place.parent, place.name), (place, "")):
        with contextlib.suppress(OSError):  # it is not there, or cannot be listed
            yield from [Stage(path, place) for path in home.iterdir() if is_stage(path, name)]


def clear(stage: Stage) -> None:
    """Remove the stage of an export that was killed, and what it had moved into its place."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        if stage.lock.is_file() and locked(stage.lock, stack):
            take_back(stage)
            remove(stage)


def remove(stage: Stage) -> None:
    """Remove a stage as far as it can be, its lock last."""
    with contextlib.suppress(OSError):
        stage.manifest.unlink()
    for path in (stage.folder, stage.path):
        shutil.rmtree(path, ignore_errors=True)


def settle(folder: Path) -> None:
    """Have the disk keep all that a folder holds."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sync(path: Path) -> None:
    """Have the disk keep a file, or a directory's entries where there is such a thing."""
    with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish(stage: Stage, out: str | Path) -> None:
    """Put a finished bundle in its place.

    Raises:
        DiffutronError: that cannot be done; the bundle is kept, and the message says where.
    """
    try:
        if stage.path.parent == stage.out:
            move_up(stage)
        else:
            stage.manifest.replace(stage.folder / MANIFEST)
            stage.folder.rename(stage.out)  # fails where something is: a folder that is not empty, a file, a link
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
    # Folders first: a rename onto one that holds something fails, so of two exports only one gets any further.
    for path in sorted(stage.folder.iterdir(), key=lambda path: (not path.is_dir(), path.name)):
        if path.name != MANIFEST:
            if os.path.lexists(stage.out / path.name):
                raise FileExistsError
            path.rename(stage.out / path.name)
    sync(stage.out)
    stage.manifest.rename(stage.out / MANIFEST)
    sync(stage.out)


def take_back(stage: Stage) -> None:
    """Move a bundle's files that are in their place already, without their manifest, back to the stage."""
    if stage.path.parent != stage.out or (stage.out / MANIFEST).exists() or not stage.manifest.exists():
        return
    with contextlib.suppress(BundleError):
        files = read_object(stage.manifest).fields("files").values
        for path in [*stage.out.rglob("*")]:
            name = path.relative_to(stage.out).as_posix()
            if name in files and path.is_file() and is_same(path, files[name]):
                (stage.folder / name).parent.mkdir(exist_ok=True)
                path.rename(stage.folder / name)
                with contextlib.suppress(OSError):
                    path.parent.rmdir()


def is_same(path: Path, said: Mapping[str, Any]) -> bool:
    """Return whether a file is the one of which a manifest says this."""
    return said == {"size": path.stat().st_size, "sha256": sha256(path)}


def keep(stage: Stage) -> str:
    """Give a finished bundle a place of its own, which no export removes, and return where that is."""
    kept = stage.path.with_name(stage.path.name[1:].removesuffix(".partial"))
    try:
        stage.lock.unlink(missing_ok=True)
        if stage.manifest.exists():
            stage.manifest.replace(stage.folder / MANIFEST)
        stage.folder.rename(kept)
    except OSError as error:
        return f"in {stage.folder} ({reason(error)}; {stage.manifest}, if it is there, is its {MANIFEST})"
    remove(stage)
    return f"{kept}"


def cannot_be_written(out: str | Path, error: Exception) -> OptionError:
    """Return the error of a place where nothing can be."""
    return OptionError(f"{str(out)!r} cannot be written: {reason(error)}; choose another place")


def why(error: OSError) -> str:
    """Return why the last step failed."""
    if isinstance(error, FileExistsError | NotADirectoryError) or error.errno == errno.ENOTEMPTY:
        return "was taken while this export ran"
    return f"cannot be written: {reason(error)}"


def reason(error: Exception) -> str:
    """Return what an error says, without its number and paths."""
    return str(getattr(error, "strerror", None) or error)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one object, readable; a file that is there is replaced, never written into."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)
