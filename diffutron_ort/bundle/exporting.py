"""Export a checkpoint into the user's cache when it is first used, and once even if several processes ask for it.

An export is a bundle with one variant. It appears in its entry at the very end, so a killed export leaves an entry
without a bundle, which the next one to export replaces.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from diffutron_ort import user_cache
from diffutron_ort.brief import brief
from diffutron_ort.bundle.exported import BUNDLE, Checkpoint, describe, variant_name
from diffutron_ort.errors import CheckpointError, DiffutronError
from diffutron_ort.extras import needing
from diffutron_ort.files import CHECKPOINT, read_object
from diffutron_ort.types import Progress

CONFIG = "config.json"
KIND = "modernbert"
LOCKS = "locks"  # folder in the user's cache; its files stay, or two processes could each hold one of the same name
NEW = "new"  # in an entry, the bundle that has not been compared with its source yet
POLL = 0.2  # seconds between two looks at a lock

Fetch = Callable[[Sequence[str]], object]
"""Downloads the files with names or patterns, unless they are here."""


def exported(
    checkpoint: Checkpoint, config: Path, variant: str | None, progress: Progress | None, fetch: Fetch | None = None
) -> Path:
    """Return the folder of a bundle that was made from a checkpoint; export it unless it is in the user's cache.

    Args:
        checkpoint: The checkpoint.
        config: The path of its config.json.
        variant: The variant that will run; None is `int8`.
        progress: Called as the export goes on.
        fetch: Downloads the checkpoint's files, if it is on the Hub.

    Raises:
        CheckpointError: The checkpoint cannot be exported.
        FidelityError: The exported graph differs too much from the checkpoint.
        OptionError: There is no such variant.
        DiffutronError: The extra `[export]` is not installed, or the cache cannot be written.
    """
    name = variant_name(variant)
    found = checkpoint.find(name)
    if found is not None:
        return found
    check_kind(checkpoint, config)
    request = _request(checkpoint, name)

    def report(stage: str, done: float) -> None:
        if progress is not None:
            progress(stage.replace(request.out, checkpoint.source), done)  # the user did not choose that path

    def write() -> None:
        if fetch is not None:
            fetch(_module("checkpoint.source").DOWNLOADED)
        _module("command").write(request, report)

    with needing("export", f"{checkpoint.source} is a checkpoint, which is exported when it is first used; this"):
        import_module("filelock")
        _module("pipeline")  # all that an export imports, before anything is downloaded
    with _alone(checkpoint.entry(name), report):
        return checkpoint.find(name) or _export(checkpoint, name, write)  # found, if another process was waited for


def check_kind(checkpoint: Checkpoint, config: Path) -> None:
    """Refuse other networks, before anything is installed or downloaded for them.

    Raises:
        CheckpointError: It is another network, or config.json is malformed.
    """
    if config.exists() and (kind := read_object(config, CHECKPOINT).values.get("model_type")) != KIND:
        raise CheckpointError(
            f"{checkpoint.source} cannot be exported: its {CONFIG} says model_type {brief(kind)}, "
            f"expected {KIND!r}; give a bundle, or a checkpoint of a ModernBERT"
        )


def _request(checkpoint: Checkpoint, variant: str) -> Any:
    """Return the checked request for an export."""
    return _module("command").check_request(
        checkpoint.source,
        checkpoint.entry(variant) / NEW,
        variants=[variant],
        adapter=None,
        revision=checkpoint.commit,
        context_length=None,
        exclude=None,
        accept=False,
        output_vocabulary=None,
        thorough=False,
    )


def _module(name: str) -> Any:
    """Return a module of the exporter, which nothing else in this package imports."""
    return import_module(f"diffutron_ort_export.{name}")


@contextmanager
def _alone(entry: Path, report: Progress) -> Iterator[None]:
    """Hold the lock of an entry, which is free again if its holder is killed; say so if another process has it."""
    from filelock import FileLock, Timeout  # which the extra `[export]` brings

    path = user_cache.make_folder(user_cache.folder() / LOCKS) / f"{entry.name}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report("waiting for another process, which is exporting the same", 0.0)
        lock.acquire(poll_interval=POLL)
    except OSError as error:
        raise DiffutronError(f"{path} cannot be locked: {error}; make room, or set DIFFUTRON_CACHE") from error
    try:
        yield
    finally:
        lock.release()


def is_being_exported(entry: Path) -> bool:
    """Return whether a process holds the lock of an entry; True if that cannot be told, for lack of filelock."""
    path = user_cache.folder() / LOCKS / f"{entry.name}.lock"
    if not path.exists():
        return False
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        return True
    try:
        with FileLock(path, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def _export(checkpoint: Checkpoint, variant: str, write: Callable[[], object]) -> Path:
    """Have `write` export a checkpoint into its entry, and return the bundle; after an error, remove the entry."""
    entry = checkpoint.entry(variant)
    user_cache.remove(entry)  # a killed export has left it
    try:
        describe(checkpoint, variant)
        write()
        _check_unchanged(checkpoint)
        return (entry / NEW).rename(entry / BUNDLE)
    except BaseException as error:
        with suppress(DiffutronError):
            user_cache.remove(entry)
        if isinstance(error, OSError) and not isinstance(error, DiffutronError):
            raise DiffutronError(f"{entry} cannot be written: {error}; try again") from error
        raise


def _check_unchanged(checkpoint: Checkpoint) -> None:
    """Refuse an export of files that were written meanwhile."""
    if checkpoint.commit is None and Checkpoint.of_folder(Path(checkpoint.source)) != checkpoint:
        raise CheckpointError(f"{checkpoint.source} was written to while it was exported; try again")
