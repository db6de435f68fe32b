"""Download the files of a bundle that are needed into the Hub's own cache, and hash each of them once.

A stamp in this package's cache records that a file was hashed. That a file is in the Hub's cache proves nothing:
another program may have put it there, or an earlier run may have been interrupted before hashing it.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from diffutron_ort import user_cache
from diffutron_ort.brief import in_brief
from diffutron_ort.bundle.exported import Checkpoint, is_commit, recall, remember
from diffutron_ort.bundle.exporting import CONFIG, exported
from diffutron_ort.bundle.integrity import check_file, check_place
from diffutron_ort.bundle.manifest import MANIFEST, Bundle, read_manifest
from diffutron_ort.errors import BundleError, BundleFileError, DiffutronError
from diffutron_ort.types import Progress

STAMPS = "hashed"  # folder in the user's cache


def download(hub_id: str, revision: str | None, variant: str | None, progress: Progress | None = None) -> Path:
    """Download what a variant needs, unless it is here, and return the bundle's folder; export a checkpoint.

    Args:
        hub_id: A repository, such as `owner/name`.
        revision: A commit, tag or branch; None is the default branch.
        variant: The variant that will run; None is a bundle's first, and `int8` of a checkpoint.
        progress: Called while files are downloaded, and while a checkpoint is exported.

    Raises:
        BundleFileError: The repository, or a file, cannot be downloaded.
        BundleError: A file does not match the manifest.
        OptionError: The bundle has no such variant.
        DiffutronError: A checkpoint cannot be exported; `exporting.exported` lists the errors.
    """
    folder, is_export = peek(hub_id, revision, variant)
    if is_export:
        return folder
    if (folder / MANIFEST).is_file():
        return _bundle(hub_id, folder, variant, progress)
    return _exported(hub_id, revision, folder, variant, progress)


def peek(hub_id: str, revision: str | None, variant: str | None, *, ask: bool = True) -> tuple[Path, bool]:
    """Return a folder with a repository's manifest, or its config.json if it holds a checkpoint.

    Args:
        hub_id: A repository, such as `owner/name`.
        revision: A commit, tag or branch; None is the default branch.
        variant: The variant that will run.
        ask: Whether to ask the Hub; otherwise, what it last gave counts.

    Returns:
        The folder, and whether it is a bundle that was exported into the cache: then nothing is looked up.

    Raises:
        BundleFileError: The repository cannot be reached, or is neither a bundle nor a checkpoint.
    """
    if (is_commit(revision) or not ask) and (found := recall(hub_id, revision, variant)):
        return found, True
    try:
        folder = _fetch(hub_id, revision, [MANIFEST, CONFIG], None, ask=ask)
    except BundleFileError:
        if found := recall(hub_id, revision, variant):  # the Hub cannot be reached, or no longer has it
            return found, True
        raise
    if not any((folder / name).is_file() for name in (MANIFEST, CONFIG)):
        raise BundleFileError(
            f"{hub_id} on the Hub has neither {MANIFEST}, so it is not a bundle, nor {CONFIG}, so it is not a "
            "checkpoint; give another hub id"
        )
    return folder, False


def _bundle(hub_id: str, folder: Path, variant: str | None, progress: Progress | None) -> Path:
    """Return the folder of a bundle, once the files that a variant needs are in it."""
    bundle = read_manifest(folder)
    needed = bundle.needed([bundle.first_variant if variant is None else variant])
    if not all((folder / name).exists() for name in needed):
        # The folder is named after the commit: use that one, even if the branch has moved meanwhile.
        _fetch(hub_id, folder.name, needed, progress)
    for name in needed:
        _check(bundle, name)
    return folder


def _exported(hub_id: str, revision: str | None, folder: Path, variant: str | None, progress: Progress | None) -> Path:
    """Return the folder of a bundle that was exported from the checkpoint in a repository."""
    commit = folder.name

    def fetch(names: Sequence[str]) -> None:
        _fetch(hub_id, commit, names, progress)

    with _without_bars():
        bundle = exported(Checkpoint.of_hub(hub_id, commit), folder / CONFIG, variant, progress, fetch)
    remember(hub_id, revision, commit)
    return bundle


def _fetch(
    hub_id: str, revision: str | None, names: Sequence[str], progress: Progress | None, *, ask: bool = True
) -> Path:
    """Return a snapshot's folder, with the files in `names` that the repository has; without `ask`, that are here."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise BundleFileError(
            f"{hub_id} is not a folder here, and downloading it needs huggingface_hub: pip install 'diffutron-ort[hub]'"
        ) from error
    bar = _bar(f"downloading {hub_id}", progress)
    here: dict[str, Any] = {} if ask else {"local_files_only": True}
    try:
        with _without_bars():
            found = snapshot_download(hub_id, revision=revision, allow_patterns=list(names), tqdm_class=bar, **here)
            return Path(found)
    except Exception as error:  # the library raises dozens of types, from OSError to its own
        raise BundleFileError(f"{hub_id} is not a folder here, and cannot be downloaded: {in_brief(error)}") from error


def _bar(stage: str, progress: Progress | None) -> type[Any]:
    """Return a class for the library's progress bars that draws nothing, and reports how many bytes are here."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._is_of_bytes = options.get("unit") == "B"
            super().__init__(*arguments, **options | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if progress is not None and self._is_of_bytes and self.total:
                progress(stage, min(self.n / self.total, 1.0))

    return Bar


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the library from drawing progress bars of its own."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    are_off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not are_off:
            enable_progress_bars()


def _check(bundle: Bundle, name: str) -> None:
    """Hash a file that has no stamp; delete a file that does not match, so that the next call downloads it again."""
    path, sha256 = bundle.folder / name, bundle.files[name].sha256
    if path.exists():
        check_place(bundle.folder, path)  # before anything is deleted: never delete a file outside the cache
    if _is_stamped(path, sha256):
        return
    try:
        check_file(bundle, name, hashed=True)
    except BundleFileError:
        raise
    except BundleError:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise
    with suppress(OSError, DiffutronError):  # if the cache is not writable, the file is hashed on every load
        user_cache.write(_stamp(path), _identity(path, sha256))


def _is_stamped(path: Path, sha256: str) -> bool:
    """Return whether the file at `path` was hashed and has not changed since."""
    try:
        return _stamp(path).read_bytes() == _identity(path, sha256)
    except (OSError, DiffutronError):
        return False


def _stamp(path: Path) -> Path:
    return user_cache.folder() / STAMPS / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()}.json"


def _identity(path: Path, sha256: str) -> bytes:
    """Return what identifies a file's current content: it changes when the file is written or replaced."""
    found = path.stat()
    return json.dumps(
        {"sha256": sha256, "size": found.st_size, "modified": found.st_mtime_ns, "file": [found.st_dev, found.st_ino]}
    ).encode()
