"""A line in the log for each request, and the id by which client and log name it."""

import re
import time
import uuid
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diffutron_ort.serve import logs
from diffutron_ort.serve.guards.heads import header

REQUEST_ID = "x-request-id"
ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
CLOSED = 499  # nginx's status for a client that hung up before it was answered


class AccessLog:
    """Logs each request to `app`.

    It leaves `request_id` and a dictionary `log` in the scope's state; what `app` writes into `log` goes into the line.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log it when it has ended."""
        record = _Record(scope, send)
        try:
            await self._app(scope, receive, record.send)
        finally:
            logs.write(record.line())


class _Record:
    """What is known of a request and its answer."""

    def __init__(self, scope: Scope, send: Send) -> None:
        given = header(scope, b"x-request-id")
        self._id = given.decode() if ID.fullmatch(given) else uuid.uuid4().hex
        self._notes: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=self._id, log=self._notes)
        self._scope, self._send = scope, send
        self._begun = time.perf_counter()
        self._status, self._bytes, self._complete = CLOSED, 0, False

    async def send(self, message: Message) -> None:
        """Send a part of the answer, and remember what the line needs of it."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self._id
        elif message["type"] == "http.response.body":
            self._bytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        await self._send(message)

    def line(self) -> dict[str, object]:
        """Return the fields of the line."""
        client = self._scope.get("client")
        return {
            "id": self._id,
            "client": client[0] if client else None,
            "method": logs.cut(self._scope["method"]),
            "path": logs.cut(self._scope["path"]),
            "status": self._status,
            "ms": round((time.perf_counter() - self._begun) * 1000, 1),
            "bytes": self._bytes,
            **({} if self._complete else {"complete": False}),
            **self._notes,
        }
