"""Download the files of a bundle that are needed into the Hub's own cache, and hash each of them once.

A stamp in this package's cache records that a file was hashed. That a file is in the Hub's cache proves nothing:
another program may have put it there, or an earlier run may have been interrupted before hashing it.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from diffutron_ort import user_cache
from diffutron_ort.brief import in_brief
from diffutron_ort.bundle.integrity import check_file, check_place
from diffutron_ort.bundle.manifest import MANIFEST, Bundle, read_manifest
from diffutron_ort.errors import BundleError, BundleFileError, DiffutronError

STAMPS = "hashed"  # folder in the user's cache


def download(hub_id: str, revision: str | None, variant: str | None) -> Path:
    """Download the files that a variant needs, unless they are in the Hub's cache, and return their folder.

    Args:
        hub_id: A repository, such as `owner/name`.
        revision: A commit, tag or branch; None is the default branch.
        variant: The variant that will run; None is the bundle's first.

    Raises:
        BundleFileError: The repository, or a file, cannot be downloaded.
        BundleError: A file does not match the manifest.
        OptionError: The bundle has no such variant.
    """
    folder = _fetch(hub_id, revision, [MANIFEST])
    if not (folder / MANIFEST).is_file():
        raise BundleFileError(
            f"{hub_id} on the Hub has no {MANIFEST}, so it is not a bundle. If it is a checkpoint, export it first: "
            f"diffutron-ort export {hub_id} FOLDER, then use FOLDER"
        )
    bundle = read_manifest(folder)
    needed = bundle.needed([bundle.first_variant if variant is None else variant])
    if not all((folder / name).exists() for name in needed):
        # The folder is named after the commit: use that one, even if the branch has moved meanwhile.
        _fetch(hub_id, folder.name, needed)
    for name in needed:
        _check(bundle, name)
    return folder


def _fetch(hub_id: str, revision: str | None, names: Sequence[str]) -> Path:
    """Return a snapshot's folder, with the files in `names` that the repository has."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise BundleFileError(
            f"{hub_id} is not a folder here, and downloading it needs huggingface_hub: pip install 'diffutron-ort[hub]'"
        ) from error
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(names)))
    except Exception as error:  # the library raises dozens of types, from OSError to its own
        raise BundleFileError(f"{hub_id} is not a folder here, and cannot be downloaded: {in_brief(error)}") from error


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
