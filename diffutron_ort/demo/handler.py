"""One request: whom to answer, with which file, and the headers of every answer."""

import io
import os
import re
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import unquote

from diffutron_ort.demo.files import PAGE
from diffutron_ort.pages import Served, has, headers

if TYPE_CHECKING:
    from diffutron_ort.demo.server import Server

SECONDS = 10  # that a connection may take for its request, and for each part of its answer
CHUNK = 2**18  # bytes of an answer that are sent at once
TARGET = re.compile(r"(/(?:[\w\-.~!$&'()*+,;=:@/]|%[0-9a-fA-F]{2})*)(?:\?[^#]*)?", re.ASCII)
HEADERS: Mapping[str, str] = MappingProxyType(
    headers(
        script_src="'self' 'wasm-unsafe-eval'",
        worker_src="'self' blob:",  # ONNX Runtime's threads
    )
)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, and closes the connection after each answer, so that no body is ever read."""

    server: "Server"
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
        tag = served.etag(file)
        if has(tag, self.headers.get_all("If-None-Match", [])):
            self._send_head(HTTPStatus.NOT_MODIFIED, {"ETag": tag})
            return
        size = os.fstat(file.fileno()).st_size
        self._send_head(HTTPStatus.OK, {"Content-Type": served.content_type, "Content-Length": str(size), "ETag": tag})
        if self.command == "GET":
            self._send_content(file, size)

    def _send_content(self, file: io.BufferedReader, size: int) -> None:
        """Send as many bytes as the head promised; the browser must take each chunk in time."""
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
        """Add the headers of every answer."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _path(target: str) -> str | None:
    """Return the decoded path of a request's target; None where no browser would send such a target."""
    found = TARGET.fullmatch(target)
    try:
        path = unquote(found[1], errors="strict") if found else ""
    except UnicodeDecodeError:
        return None
    is_odd = re.search(r"[\0-\x1f\x7f\\]", path) or {".", ".."} & set(path.split("/"))
    return None if is_odd else path or None
