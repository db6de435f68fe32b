"""Check a bundle's files against its manifest: inside the folder, regular, of the right size, unchanged."""

import hashlib
import stat
from contextlib import suppress
from pathlib import Path

from diffutron_ort.bundle.manifest import MANIFEST, Bundle
from diffutron_ort.errors import BundleError, BundleFileError
from diffutron_ort.files import read_bytes

AGAIN = "download or export the bundle again"


def check_file(bundle: Bundle, name: str, *, hashed: bool) -> None:
    """Check a file's location, its size and, if `hashed`, its SHA-256, without reading it into memory.

    Raises:
        BundleFileError: The file is missing.
        BundleError: The file differs from the manifest, or lies outside the bundle.
    """
    path = _checked_path(bundle, name)
    if hashed:
        _check_hash(path, bundle.files[name].sha256, sha256(path))


def read_checked(bundle: Bundle, name: str) -> bytes:
    """Return the content of a file that matches the manifest.

    Raises:
        BundleFileError: The file is missing.
        BundleError: The file differs from the manifest, or lies outside the bundle.
    """
    path, expected = _checked_path(bundle, name), bundle.files[name]
    content = read_bytes(path, most=expected.size)
    _check_hash(path, expected.sha256, hashlib.sha256(content).hexdigest())
    return content


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        BundleError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def check_place(folder: Path, path: Path) -> None:
    """Refuse a link that leads out of a bundle's folder: it could lead to any file of the user.

    The Hub's cache is an exception: there, links lead from `models--owner--name/snapshots/REVISION` to `blobs`, beside
    `snapshots`.

    Raises:
        BundleError: `path` leads neither into `folder` nor into those blobs.
    """
    try:
        root, real = folder.resolve(), path.resolve()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()  # from Python 3.13 on, `resolve` accepts a cycle
    except (OSError, RuntimeError, ValueError) as error:  # a cycle of links; a NUL in the name
        raise BundleError(f"{path} cannot be found: {error}") from error
    inside, home = [root], root.parent.parent
    if root.parent.name == "snapshots" and home.name.startswith("models--"):
        inside.append(home / "blobs")
    if not any(real.is_relative_to(place) for place in inside):
        raise BundleError(f"{path} is a link to {real}, out of the bundle; replace it by the file itself")


def _checked_path(bundle: Bundle, name: str) -> Path:
    """Return the path of a file after checking that it is in the bundle, regular, and of the right size."""
    path, expected = bundle.folder / name, bundle.files[name]
    size = _size(path)
    if size is None:
        raise BundleFileError(f"{path} is missing, although {MANIFEST} lists it; {_remedy(bundle, name)}")
    check_place(bundle.folder, path)
    if size != expected.size:
        raise BundleError(f"{path} has {size} bytes, not {expected.size}: it was truncated or replaced; {AGAIN}")
    return path


def _size(path: Path) -> int | None:
    """Return the size of a regular file; None if there is no file."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{path} is not a regular file; {AGAIN}")
    return found.st_size


def _remedy(bundle: Bundle, name: str) -> str:
    """Return what to do about a missing file; if it belongs to a variant, another variant may be complete."""
    others = [n for n, v in bundle.variants.items() if name not in v.files and bundle.is_here(v)]
    is_of_variant = any(name in variant.files for variant in bundle.variants.values())
    return f"{AGAIN}, or use variant {' or '.join(map(repr, others))}" if others and is_of_variant else AGAIN


def _check_hash(path: Path, expected: str, actual: str) -> None:
    if actual != expected:
        raise BundleError(f"{path} was changed: its SHA-256 is {actual}, not {expected}; {AGAIN}")
