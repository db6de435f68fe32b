"""Tell whether the checkpoint in a folder is the one that was exported: by the content of its files.

Hashing the real model takes a second, so the hashes are kept in the user's cache, and are valid while size, time and
inode of every file are as they were.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from diffutron_ort import user_cache
from diffutron_ort.errors import CheckpointError, DiffutronError

FINGERPRINTS = "fingerprints"  # folder in the user's cache
SUFFIXES = (".json", ".safetensors")  # of all files that an export can depend on
DIGITS = 20  # of a fingerprint; it is part of paths
RECENT = 2.0  # seconds: a file may be written again within one tick of its file system's clock


def fingerprint(folder: Path) -> str:
    """Return hexadecimal digits that depend on the folder's own name, which an export keeps, and on its files.

    Raises:
        CheckpointError: A file cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
        found = {path.name: _identity(path) for path in paths}
        return _kept(folder, found) or _computed(folder, found)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from error


def _computed(folder: Path, found: dict[str, list[int]]) -> str:
    """Return the fingerprint of the files `found`, and keep it."""
    begun = time.time()
    parts = [folder.resolve().name, {name: _sha256(folder / name) for name in found}]
    value = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:DIGITS]
    if all(modified / 1e9 + RECENT < begun for _, modified, *_ in found.values()):
        with suppress(OSError, DiffutronError):  # if the cache is not writable, the files are hashed every time
            user_cache.write(_place(folder), json.dumps({"files": found, "fingerprint": value}).encode())
    return value


def _kept(folder: Path, found: dict[str, list[int]]) -> str | None:
    """Return the fingerprint that was kept for the files `found`, if there is one."""
    try:
        kept: Any = json.loads(_place(folder).read_bytes())
        return str(kept["fingerprint"]) if kept["files"] == found else None
    except (OSError, DiffutronError, ValueError, KeyError, TypeError):
        return None


def _place(folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()
    return user_cache.folder() / FINGERPRINTS / f"{name}.json"


def _identity(path: Path) -> list[int]:
    """Return what changes when a file is written or replaced: size, time in nanoseconds, device and inode."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
