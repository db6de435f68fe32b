"""A server for the page in which a model answers, on this machine alone: its start, its connections and its end."""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR
from socketserver import TCPServer
from typing import Any
from urllib.parse import quote

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.demo.files import PAGE, listed
from diffutron_ort.demo.handler import SECONDS, Handler
from diffutron_ort.demo.libraries import find_libraries
from diffutron_ort.errors import DiffutronError
from diffutron_ort.pages import Served, find_pages

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost", "[::1]")  # of this machine; a page from elsewhere cannot have one of them
CONNECTIONS = 32  # at once; a browser has six


def serve(
    model: str | Path | None = None,
    port: int = 0,
    libraries: str | Path | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> "Server":
    """Return a server of the page with a model; it answers as soon as its `serve_forever` or `show` runs.

    Args:
        model: A bundle's folder or a hub id; None is the embedded model.
        port: Where to listen on 127.0.0.1; 0 takes any free port.
        libraries: A node_modules with the page's libraries; None finds or fetches one.
        say: Called with a line about what is fetched.

    Raises:
        DiffutronError: There is no such model, the page's libraries cannot be had, or the port is taken.
    """
    pages, bundle = find_pages(), load_bundle(model)
    is_first = bundle.default_variant == bundle.first_variant  # which the page takes by itself
    query = "" if is_first else f"?variant={quote(bundle.default_variant, safe='')}"
    return Server(listed(pages, find_libraries(pages.web, libraries, say), bundle), port, query)


class Server(ThreadingHTTPServer):
    """Serves a list of files to a bounded number of connections; the oldest makes room for a new one."""

    request_queue_size = 128

    def __init__(self, files: Mapping[str, Served], port: int, query: str = "") -> None:
        """Listen on `port`; `query` is appended to the page's address.

        Raises:
            DiffutronError: The port is taken, or is no port.
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
        """Serve until an interrupt; call `browse` with the address, and answer even while it waits for its page."""
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
        """Lift the time limit of a connection whose request has arrived."""
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
        """Report an error, but not a browser that has hung up or is too slow."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
