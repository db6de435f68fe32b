"""The pages that a browser shows: where their files are, how one of them is opened, and the headers it is sent with."""

import hashlib
import io
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from diffutron_ort.errors import DiffutronError

TYPES: Mapping[str, str] = MappingProxyType(  # of every file that a page loads, whatever the system's own table says
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
SOURCES: Mapping[str, str] = MappingProxyType(  # of what a page may load or do, by directive
    {
        "default-src": "'none'",
        "script-src": "'self'",
        "connect-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
)


def headers(**more: str) -> dict[str, str]:
    """Return the headers of every answer.

    Args:
        **more: Directives of the policy in addition to `SOURCES` or instead of them, with `_` for `-`.
    """
    sources = {**SOURCES, **{name.replace("_", "-"): allowed for name, allowed in more.items()}}
    return {
        "Content-Security-Policy": "; ".join(f"{name} {allowed}" for name, allowed in sources.items()),
        "Cross-Origin-Opener-Policy": "same-origin",  # with the next: threads of WebAssembly share memory
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


class Pages(NamedTuple):
    """The folders of the page and of the sampler that it imports where it runs the model itself."""

    web: Path
    scripts: Path


PACKAGE = Path(__file__).parent
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


def of_folder(folder: Path) -> dict[str, Served]:
    """Return the files directly in a folder that have a type of `TYPES`, by name."""
    within = (os.path.realpath(folder),)
    return {path.name: Served(path, within) for path in folder.iterdir() if path.suffix in TYPES}


def has(tag: str, known: Iterable[str]) -> bool:
    """Return whether a browser has the content with this tag, given its `If-None-Match` headers."""
    tags = ",".join(known).split(",")
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in tags)
