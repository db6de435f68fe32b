"""A server for the page in which a model answers: the page's own files and one bundle's, on this machine alone."""

import io
import os
import shlex
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from diffutron_ort.bundle import PACKAGE, load_bundle
from diffutron_ort.errors import DiffutronError
from diffutron_ort.manifest import MANIFEST, Bundle

PAGE, SCRIPTS, MODEL = "/examples/web/", "/examples/js/", "/models/nano/"  # where the page expects what, as a checkout
PAGES = (PACKAGE, PACKAGE.parent / "examples")  # each with a folder `web` and a folder `js`: a wheel's, a checkout's
RUNTIME = "node_modules/onnxruntime-web"
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Cross-Origin-Opener-Policy": "same-origin",  # with the next: threads of WebAssembly share memory
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
)


def serve(model: str | Path | None = None, port: int = 0) -> "Server":
    """Return a server of the page with a model; it answers as soon as its `serve_forever` runs.

    Args:
        model: A bundle's folder or a hub id; None is the embedded model.
        port: Where to listen on 127.0.0.1; 0 takes any that is free.

    Raises:
        DiffutronError: There is no such model, the page's libraries are not installed, or the port is taken.
    """
    return Server(_pages(), load_bundle(model), port)


def _pages() -> Path:
    """Return the folder that holds the page's."""
    for folder in PAGES:
        if (folder / "web" / "index.html").is_file():
            if not (folder / "web" / RUNTIME).is_dir():
                place = shlex.quote(str(folder / "web"))
                raise DiffutronError(
                    f"onnxruntime-web is missing: npm install --ignore-scripts --omit=dev --prefix {place}"
                )
            return folder
    raise DiffutronError(f"the page is in none of {', '.join(map(str, PAGES))}: reinstall diffutron-ort")


class Server(ThreadingHTTPServer):
    """Serves the folders `web` and `js` of `pages`, and of the bundle what its manifest lists."""

    def __init__(self, pages: Path, bundle: Bundle, port: int) -> None:
        """Listen on `port`.

        Raises:
            DiffutronError: The port is taken or no port.
        """
        self.folders = {PAGE: pages / "web", SCRIPTS: pages / "js"}
        self.files = {MODEL + name: bundle.folder / name for name in (MANIFEST, *bundle.files)}
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            raise DiffutronError(f"port {port} cannot be had: {error}; give another with --port, 0 is any") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, but not that a browser has hung up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """The page's."""
        return f"http://127.0.0.1:{self.server_port}{PAGE}"


class Handler(SimpleHTTPRequestHandler):
    """Answers GET and HEAD."""

    server: Server
    extensions_map = {  # noqa: RUF012 - the base class's; all that the page loads, whatever the system's own table says
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
        "": "application/octet-stream",
    }

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Send the head of a file, or the way to the page from the root."""
        if urlsplit(self.path).path != "/":
            return super().send_head()
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", PAGE)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def translate_path(self, path: str) -> str:
        """Return the file at `path`, or a name that no file can have."""
        path = urlsplit(path).path
        if file := self.server.files.get(unquote(path)):
            return str(file)
        for prefix, folder in self.server.folders.items():
            if path.startswith(prefix) and "\0" not in unquote(path):
                self.directory = str(folder)
                return super().translate_path(path.removeprefix(prefix[:-1]))  # which drops every `..`
        return f"{os.devnull}/none"

    def list_directory(self, path: Any) -> None:  # noqa: ARG002
        """List nothing."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Add what every answer has."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
