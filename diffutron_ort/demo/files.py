"""What is served: the page's own files, its libraries' and one bundle's, each by the path of its address.

The list is made when the server starts. A request names an entry of that list or gets nothing.
"""

import hashlib
import io
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from diffutron_ort.bundle.locate import PACKAGE
from diffutron_ort.bundle.manifest import MANIFEST, Bundle
from diffutron_ort.demo.libraries import PACKAGES
from diffutron_ort.errors import DiffutronError

PAGE, SCRIPTS, MODEL = "/web/", "/js/src/", "/models/nano/"  # as in a checkout, which is how the page refers to them
TYPES: Mapping[str, str] = MappingProxyType(  # of every file that the page loads, whatever the system's own table says
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
    }
)


class Pages(NamedTuple):
    """The folders of the page and of the sampler that it imports."""

    web: Path
    scripts: Path


ROOT = PACKAGE.parent
PAGES = (Pages(PACKAGE / "web", PACKAGE / "js"), Pages(ROOT / "web", ROOT / "js" / "src"))
"""Those of a wheel, and those of a checkout."""


def find_pages() -> Pages:
    """Return the first of `PAGES` that exists.

    Raises:
        DiffutronError: None is.
    """
    for pages in PAGES:
        if (pages.web / "index.html").is_file():
            return pages
    raise DiffutronError(f"the page is in none of {', '.join(str(web) for web, _ in PAGES)}: reinstall diffutron-ort")


@dataclass(frozen=True)
class Served:
    """A file that may be asked for.

    Attributes:
        path: Where it is.
        within: Resolved folders; when its links are followed, the file must be in one of them.
        sha256: Of its content, in hexadecimal; None where the manifest does not list it.
    """

    path: Path
    within: tuple[str, ...]
    sha256: str | None = None

    @property
    def content_type(self) -> str:
        """The type that the page expects."""
        return TYPES.get(self.path.suffix, "application/octet-stream")

    def open(self) -> io.BufferedReader:
        """Open the file.

        Raises:
            OSError: It is missing, outside of `within`, or no regular file.
        """
        real = os.path.realpath(self.path)
        if not any(Path(real).is_relative_to(folder) for folder in self.within):
            raise PermissionError(f"{self.path} is a link to {real}, outside of {self.within[0]}")
        flags = (getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"))  # do not wait for a pipe
        file = os.fdopen(os.open(real, os.O_RDONLY | sum(flags)), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise PermissionError(f"{self.path} is no regular file")
        return file

    def etag(self, file: io.BufferedReader) -> str:
        """Return the tag of the content: dates cannot tell two bundles apart, since the newer may replace the older."""
        return f'"{self.sha256 or hashlib.file_digest(file, "sha256").hexdigest()}"'


def listed(pages: Pages, libraries: Path, bundle: Bundle) -> dict[str, Served]:
    """Return what is served, by the path of its address."""
    files = {
        **_of_folder(PAGE, pages.web),
        **_of_folder(SCRIPTS, pages.scripts),
        **_of_folder(SCRIPTS + "generated/", pages.scripts / "generated"),
        **{MODEL + name: served for name, served in _of_bundle(bundle)},
    }
    for package in PACKAGES:
        files |= _of_folder(f"{PAGE}node_modules/{package}/dist/", libraries / package / "dist")
    return files | {PAGE: files[PAGE + "index.html"]}


def _of_folder(address: str, folder: Path) -> dict[str, Served]:
    """Return the files directly in a folder that have a type of `TYPES`."""
    within = (os.path.realpath(folder),)
    return {address + path.name: Served(path, within) for path in folder.iterdir() if path.suffix in TYPES}


def _of_bundle(bundle: Bundle) -> Iterator[tuple[str, Served]]:
    """Yield the manifest and what it lists; a snapshot in the Hub's cache links to files in `blobs`."""
    places = [bundle.folder]
    if bundle.folder.parent.name == "snapshots":
        places.append(bundle.folder.parent.parent / "blobs")
    within = tuple(os.path.realpath(place) for place in places)
    yield MANIFEST, Served(bundle.folder / MANIFEST, within)
    for name, expected in bundle.files.items():
        yield name, Served(bundle.folder / name, within, expected.sha256)
