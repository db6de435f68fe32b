"""A service and an app of a few lines, and a server of them in a thread."""

import asyncio
import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from unittest import mock

from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.guards.edge import guarded
from diffutron_ort.serve.processes import http_server, sockets
from diffutron_ort.serve.processes.http_server import run
from diffutron_ort.serve.processes.watch import Watch
from diffutron_ort.serve.settings import Settings

PATIENCE = 60  # seconds that any thread may stand still
TAKEN = threading.Event()  # set once a client has the first part of a `held` stream


@dataclass
class FakeService:
    """A service whose state the tests set."""

    state: str = "ready"
    failure: Exception | None = None
    idle: bool = True
    pass_age: float | None = None
    calls: list[str] = field(default_factory=list)

    def drain(self):
        self.calls.append("drain")
        self.state = "draining"

    def abandon(self, error):
        self.calls.append("abandon")


async def app(scope, receive, send):
    """Answer as the first part of the path says."""
    await ANSWERS.get(scope["path"].split("/")[1], missing)(scope, receive, send)


async def echo(scope, receive, send):
    message = await receive()
    seen = {"body": message["body"].decode(), "id": scope["state"]["request_id"]}
    scope["state"]["log"]["model"] = "nano\x1b[2J"
    await answer(send, json.dumps(seen).encode())


async def stream(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for part in (b"data: 1\n\n", b"data: 2\n\n"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def held(scope, receive, send):
    """Send the second part of a stream when the first has been taken."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    assert await asyncio.to_thread(TAKEN.wait, PATIENCE)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def large(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(200):
        await send({"type": "http.response.body", "body": b"x" * 2**18, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def fail(scope, receive, send):
    text = "what the user wrote"
    raise ValueError(f"{text}, in /home/somebody")


async def fail_late(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await fail(scope, receive, send)


async def missing(scope, receive, send):
    raise ApiError(404, "there is nothing here")


async def answer(send, body):
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


ANSWERS = {
    "echo": echo,
    "health": echo,
    "stream": stream,
    "held": held,
    "large": large,
    "fail": fail,
    "fail-late": fail_late,
}


@contextmanager
def serving(settings: Settings, service=None, the_app=app) -> Iterator[int | str]:
    """Serve `the_app` in a thread; yield the port, or the path of the Unix socket."""
    listener = sockets.listen(settings)
    watch = Watch(service or FakeService(), settings, lambda _: None)
    thread = threading.Thread(target=run, args=(guarded(the_app, settings), watch, settings, listener))
    with mock.patch.object(http_server, "LAST", PATIENCE):  # a server that ends later than twice that kills
        thread.start()
        try:
            yield settings.uds or listener.getsockname()[1]
        finally:
            watch.told(signal.SIGTERM)
            thread.join(2 * PATIENCE)
            assert not thread.is_alive()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        yield connection


def received(connection: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(2**16):
            parts.append(part)
    return b"".join(parts)
