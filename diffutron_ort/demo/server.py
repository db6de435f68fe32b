"""A server for the page in which a model answers: the page's own files and one bundle's, on this machine alone.

What is served is listed when it starts. A request names an entry of that list or gets nothing.
"""

import hashlib
import io
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR
from socketserver import TCPServer
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.locate import PACKAGE
from diffutron_ort.bundle.manifest import MANIFEST, Bundle
from diffutron_ort.demo.libraries import PACKAGES, find_libraries
from diffutron_ort.errors import DiffutronError

PAGE, SCRIPTS, MODEL = "/examples/web/", "/examples/js/", "/models/nano/"  # where the page expects what, as a checkout
PAGES = (PACKAGE, PACKAGE.parent / "examples")  # each with a folder `web` and a folder `js`: a wheel's, a checkout's
ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost", "[::1]")  # of this machine; no page elsewhere can have one of them
SECONDS = 10  # that a connection may take for its request, and for each part of its answer
CONNECTIONS = 32  # at once; a browser has six
CHUNK = 2**18  # bytes of an answer that are sent at once
TARGET = re.compile(r"(/(?:[\w\-.~!$&'()*+,;=:@/]|%[0-9a-fA-F]{2})*)(?:\?[^#]*)?", re.ASCII)
TYPES: Mapping[str, str] = MappingProxyType(  # all that the page loads, whatever the system's own table says
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
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self' blob:",  # ONNX Runtime's threads
        "connect-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",  # with the next: threads of WebAssembly share memory
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
)


def serve(
    model: str | Path | None = None,
    port: int = 0,
    libraries: str | Path | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> "Server":
    """Return a server of the page with a model; it answers as soon as its `serve_forever` or `show` runs.

    Args:
        model: A bundle's folder or a hub id; None is the embedded model.
        port: Where to listen on 127.0.0.1; 0 takes any that is free.
        libraries: A node_modules with the page's libraries; None finds or fetches one.
        say: Is told what is fetched.

    Raises:
        DiffutronError: There is no such model, the page's libraries cannot be had, or the port is taken.
    """
    pages, bundle = _pages(), load_bundle(model)
    is_first = bundle.default_variant == bundle.first_variant  # which the page takes by itself
    query = "" if is_first else f"?variant={quote(bundle.default_variant, safe='')}"
    return Server(listed(pages, find_libraries(pages / "web", libraries, say), bundle), port, query)


def _pages() -> Path:
    """Return the folder that holds the page's."""
    for folder in PAGES:
        if (folder / "web" / "index.html").is_file():
            return folder
    raise DiffutronError(f"the page is in none of {', '.join(map(str, PAGES))}: reinstall diffutron-ort")


@dataclass(frozen=True)
class Served:
    """A file that may be asked for.

    Attributes:
        path: Where it is.
        within: Folders without links; the file must be in one of them when its links are followed.
        sha256: Of its content, in hexadecimal, where the manifest tells it.
    """

    path: Path
    within: tuple[str, ...]
    sha256: str | None = None

    def open(self) -> io.BufferedReader:
        """Open the file.

        Raises:
            OSError: It is not there, elsewhere, or no regular file.
        """
        real = os.path.realpath(self.path)
        if not any(Path(real).is_relative_to(folder) for folder in self.within):
            raise PermissionError(f"{self.path} is a link to {real}, outside of {self.within[0]}")
        flags = (getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"))  # no waiting for a pipe
        file = os.fdopen(os.open(real, os.O_RDONLY | sum(flags)), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise PermissionError(f"{self.path} is no regular file")
        return file


def listed(pages: Path, libraries: Path, bundle: Bundle) -> dict[str, Served]:
    """Return what is served, by the path of its address."""
    files = {
        **_of_folder(PAGE, pages / "web"),
        **_of_folder(SCRIPTS, pages / "js"),
        **{MODEL + name: served for name, served in _of_bundle(bundle)},
    }
    for package in PACKAGES:
        files |= _of_folder(f"{PAGE}node_modules/{package}/dist/", libraries / package / "dist")
    return files | {PAGE: files[PAGE + "index.html"]}


def _of_folder(address: str, folder: Path) -> dict[str, Served]:
    """Return the files of a folder, but not of those in it, that have a type which a page loads."""
    within = (os.path.realpath(folder),)
    return {address + path.name: Served(path, within) for path in folder.iterdir() if path.suffix in TYPES}


def _of_bundle(bundle: Bundle) -> Iterator[tuple[str, Served]]:
    """Yield the manifest and what it lists; the Hub's cache holds links from a snapshot to its `blobs`."""
    places = [bundle.folder]
    if bundle.folder.parent.name == "snapshots":
        places.append(bundle.folder.parent.parent / "blobs")
    within = tuple(os.path.realpath(place) for place in places)
    yield MANIFEST, Served(bundle.folder / MANIFEST, within)
    for name, expected in bundle.files.items():
        yield name, Served(bundle.folder / name, within, expected.sha256)


class Server(ThreadingHTTPServer):
    """Serves a list of files to so many connections at once, each for so long; the oldest makes room for a new one."""

    request_queue_size = 128

    def __init__(self, files: Mapping[str, Served], port: int, query: str = "") -> None:
        """Listen on `port`; `query` is part of the page's address.

        Raises:
            DiffutronError: The port is taken or no port.
        """
        self.files = files
        self._query = query
        self._ends: dict[Any, float] = {}  # when each connection must have sent its request, by the monotonic clock
        try:
            super().__init__((ADDRESS, port), Handler)
        except (OSError, OverflowError) as error:
            raise DiffutronError(f"port {port} cannot be had: {error}; give another with --port, 0 is any") from error
        self.hosts = {f"{name}:{self.server_port}" for name in NAMES}
        if self.server_port == 80:  # which browsers leave out
            self.hosts |= set(NAMES)

    @property
    def address(self) -> str:
        """The page's."""
        return f"http://{ADDRESS}:{self.server_port}{PAGE}{self._query}"

    def show(self, browse: Callable[[str], object] | None) -> None:
        """Serve until an interrupt; call `browse`, which may wait for its page, with the address."""
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            if browse is not None:
                browse(self.address)
            while thread.is_alive():
                thread.join(0.5)  # without a limit no interrupt would end it on Windows
        finally:
            self.shutdown()

    def server_bind(self) -> None:
        """Bind without asking the network for this machine's name, as the base class does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Make room for a connection, and answer it in a thread."""
        while len(self._ends) >= CONNECTIONS:
            self._end(min(self._ends.copy(), key=lambda one: self._ends.get(one, 0)))
        self._ends[request] = time.monotonic() + SECONDS
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """End the connections that have not sent their request in time."""
        now = time.monotonic()
        for request, end in self._ends.copy().items():
            if end < now:
                self._end(request)

    def heard(self, request: Any) -> None:
        """Let a connection whose request has come take its time."""
        if request in self._ends:
            self._ends[request] = float("inf")

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._ends.pop(request, None)
        super().shutdown_request(request)

    def _end(self, request: Any) -> None:
        """Wake the thread of a connection, which closes it."""
        self._ends.pop(request, None)
        with suppress(OSError):
            request.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, but not that a browser has hung up or is too slow."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; the connection ends with the answer, so that no body is ever read."""

    server: Server
    timeout = SECONDS
    server_version, sys_version = "diffutron-ort", ""

    def do_GET(self) -> None:
        """Send a file, or say why not."""
        self.server.heard(self.request)
        path = _path(self.path)
        hosts = self.headers.get_all("Host", [])
        if path is None or len(hosts) != 1:
            self.send_error(HTTPStatus.BAD_REQUEST)
        elif hosts[0].strip().lower() not in self.server.hosts:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, explain=f"Open {self.server.address}")
        elif path == "/":
            self._send_head(HTTPStatus.FOUND, {"Location": PAGE, "Content-Length": "0"})
        elif path in self.server.files:
            self._send(self.server.files[path])
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815 - the base class's

    def _send(self, served: Served) -> None:
        try:
            file = served.open()
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            self._send_file(file, served)

    def _send_file(self, file: io.BufferedReader, served: Served) -> None:
        tag = f'"{served.sha256 or hashlib.file_digest(file, "sha256").hexdigest()}"'
        if self._has(tag):
            self._send_head(HTTPStatus.NOT_MODIFIED, {"ETag": tag})
            return
        size = os.fstat(file.fileno()).st_size
        kind = TYPES.get(served.path.suffix, "application/octet-stream")
        self._send_head(HTTPStatus.OK, {"Content-Type": kind, "Content-Length": str(size), "ETag": tag})
        if self.command == "GET":
            self._send_content(file, size)

    def _has(self, tag: str) -> bool:
        """Return whether the browser has the very content; dates do not tell, as another bundle's may be older."""
        tags = ",".join(self.headers.get_all("If-None-Match", [])).split(",")
        return any(one.strip().removeprefix("W/") in (tag, "*") for one in tags)

    def _send_content(self, file: io.BufferedReader, size: int) -> None:
        """Send as much as the head has promised; each part must be taken in time."""
        file.seek(0)
        while size > 0 and (chunk := file.read(min(size, CHUNK))):
            self.wfile.write(chunk)
            size -= len(chunk)

    def _send_head(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def end_headers(self) -> None:
        """Add what every answer has."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def _path(target: str) -> str | None:
    """Return the path that a request is for, decoded; None where no browser would ask so."""
    found = TARGET.fullmatch(target)
    try:
        path = unquote(found[1], errors="strict") if found else ""
    except UnicodeDecodeError:
        return None
    is_odd = re.search(r"[\0-\x1f\x7f\\]", path) or {".", ".."} & set(path.split("/"))
    return None if is_odd else path or None
