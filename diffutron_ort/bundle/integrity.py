"""Whether a bundle's files are what its manifest says: inside its folder, regular, of the right size, unchanged."""

import hashlib
import stat
from pathlib import Path

from diffutron_ort.bundle.manifest import MANIFEST, Bundle
from diffutron_ort.errors import BundleError, BundleFileError
from diffutron_ort.files import read_bytes


def check_file(bundle: Bundle, name: str, *, hashed: bool) -> None:
    """Check a file without holding it: its place, its size and, if `hashed`, its SHA-256.

    Raises:
        BundleFileError: It is missing.
        BundleError: It is another, or lies outside of the bundle.
    """
    path = _checked_size(bundle, name)
    if hashed:
        _compare(path, bundle.files[name].sha256, sha256(path))


def read_checked(bundle: Bundle, name: str) -> bytes:
    """Return the content of a file, once it is what the manifest says.

    Raises:
        BundleFileError: It is missing.
        BundleError: It is another, or lies outside of the bundle.
    """
    path, expected = _checked_size(bundle, name), bundle.files[name]
    content = read_bytes(path, most=expected.size)
    _compare(path, expected.sha256, hashlib.sha256(content).hexdigest())
    return content


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        BundleError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def check_place(folder: Path, path: Path) -> None:
    """Refuse a link that leads out of a bundle's folder: what it leads to could be any file of the user.

    Those of the Hub's cache lead from `models--owner--name/snapshots/REVISION` to its `blobs`, beside `snapshots`.

    Raises:
        BundleError: `path` lies neither in `folder` nor there.
    """
    try:
        root, real = folder.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a name with a NUL
        raise BundleError(f"{path} cannot be found: {error}") from error
    inside, home = [root], root.parent.parent
    if root.parent.name == "snapshots" and home.name.startswith("models--"):
        inside.append(home / "blobs")
    if not any(real.is_relative_to(place) for place in inside):
        raise BundleError(f"{path} is a link to {real}, out of the bundle; put the file itself there")


def _checked_size(bundle: Bundle, name: str) -> Path:
    """Return the path of a file that is in the bundle, regular, and of the right size."""
    path, expected = bundle.folder / name, bundle.files[name]
    size = _size(path)
    if size is None:
        raise BundleFileError(f"{path} is missing, though {MANIFEST} lists it; {_remedy(bundle, name)}")
    check_place(bundle.folder, path)
    if size != expected.size:
        raise BundleError(f"{path} has {size} bytes, not {expected.size}: it was cut or replaced; get it again")
    return path


def _size(path: Path) -> int | None:
    """Return the size of a regular file, None where there is no file."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{path} is no regular file; get it again")
    return found.st_size


def _remedy(bundle: Bundle, name: str) -> str:
    """Return what to do about a missing file; a variant's other than the ones that are there can do without."""
    others = [n for n, v in bundle.variants.items() if name not in v.files and bundle.is_here(v)]
    alternative = f", or take variant {' or '.join(map(repr, others))}" if others and name in _own(bundle) else ""
    return f"download or export the bundle again{alternative}"


def _own(bundle: Bundle) -> set[str]:
    return {file for variant in bundle.variants.values() for file in variant.files}


def _compare(path: Path, expected: str, actual: str) -> None:
    if actual != expected:
        raise BundleError(f"{path} was changed: its SHA-256 is {actual}, not {expected}; get it again")
