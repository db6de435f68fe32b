"""Bundles on the Hub: what is needed of one is downloaded into the Hub's own cache, and hashed once.

A stamp in this package's cache says which files were hashed. Being in the cache says nothing: another program may
have put them there, or an earlier run may have been interrupted before it hashed them.
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

STAMPS = "hashed"  # folder of the cache


def download(hub_id: str, revision: str | None, variant: str | None) -> Path:
    """Fetch the files that a variant needs, unless they are in the Hub's cache, and return their folder.

    Args:
        hub_id: Such as `owner/name`.
        revision: A commit, tag or branch; None is the current one.
        variant: The one that will run; None is the bundle's first.

    Raises:
        BundleFileError: The repository, or a file of it, cannot be had.
        BundleError: A file is not what the manifest says.
        OptionError: The bundle has no such variant.
    """
    folder = _fetch(hub_id, revision, [MANIFEST])
    if not (folder / MANIFEST).is_file():
        raise BundleFileError(
            f"{hub_id} on the Hub has no {MANIFEST}, so it is no bundle. If it is a checkpoint, export it first: "
            f"diffutron-ort export {hub_id} FOLDER, then use FOLDER"
        )
    bundle = read_manifest(folder)
    needed = bundle.needed([bundle.first_variant if variant is None else variant])
    if not all((folder / name).exists() for name in needed):
        # Of the same commit, whatever the branch has become in the meantime.
        _fetch(hub_id, folder.name, needed)
    for name in needed:
        _check(bundle, name)
    return folder


def _fetch(hub_id: str, revision: str | None, names: Sequence[str]) -> Path:
    """Return the folder of a snapshot that has the files called `names`, as far as the repository has them."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise BundleFileError(
            f"{hub_id} is not a folder here, and downloading it needs huggingface_hub: pip install 'diffutron-ort[hub]'"
        ) from error
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(names)))
    except Exception as error:  # it raises dozens of kinds, from OSError to its own
        raise BundleFileError(f"{hub_id} is not a folder here, and cannot be downloaded: {in_brief(error)}") from error


def _check(bundle: Bundle, name: str) -> None:
    """Hash a file that is new here, and remove it where it is broken, so that the next call fetches it again."""
    path, sha256 = bundle.folder / name, bundle.files[name].sha256
    if path.exists():
        check_place(bundle.folder, path)  # what lies elsewhere is not removed
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
    with suppress(OSError, DiffutronError):  # a cache that cannot be written: then it is hashed every time
        user_cache.write(_stamp(path), _identity(path, sha256))


def _is_stamped(path: Path, sha256: str) -> bool:
    """Return whether the file at `path` was hashed as it is now."""
    try:
        return _stamp(path).read_bytes() == _identity(path, sha256)
    except (OSError, DiffutronError):
        return False


def _stamp(path: Path) -> Path:
    return user_cache.folder() / STAMPS / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()}.json"


def _identity(path: Path, sha256: str) -> bytes:
    """Return what a file is known by: a file that is written again or replaced has another."""
    found = path.stat()
    return json.dumps(
        {"sha256": sha256, "size": found.st_size, "modified": found.st_mtime_ns, "file": [found.st_dev, found.st_ino]}
    ).encode()
