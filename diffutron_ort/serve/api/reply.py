"""The answer to one request on its way out: whole, or as server-sent events."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from diffutron_ort.serve.errors import ApiError

EVENTS: Mapping[str, str] = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would hold events back
}
DONE = b"data: [DONE]\n\n"


class Reply:
    """What one request gets.

    Attributes:
        scope: Of the request.
        receive: Its body, and whether the client is still there.
        headers: Of the answer, besides those that its form needs.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self._send = scope, receive, send
        self.headers: dict[str, str] = {}
        self._streams = False

    async def whole(self, content: msgspec.Struct) -> None:
        """Send a JSON object."""
        response = Response(msgspec.json.encode(content), 200, self.headers, "application/json")
        await response(self.scope, self.receive, self._send)

    async def begin(self) -> None:
        """Begin a stream of events."""
        self._streams = True
        raw = [(name.encode(), value.encode()) for name, value in {**EVENTS, **self.headers}.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def event(self, content: msgspec.Struct | dict[str, Any]) -> None:
        """Send an event."""
        await self._body(b"data: " + msgspec.json.encode(content) + b"\n\n", more=True)

    async def end(self) -> None:
        """End a stream."""
        await self._body(DONE, more=False)

    async def fail(self, error: ApiError) -> None:
        """Tell of an error: as the answer, or as the last event of a stream that has begun."""
        if not self._streams:
            await error.response()(self.scope, self.receive, self._send)
            return
        await self.event(error.content)
        await self._body(b"", more=False)

    def note(self, **facts: object) -> None:
        """Leave facts about the request for the access log."""
        self.scope.setdefault("state", {}).setdefault("log", {}).update(facts)

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do some work while the client is there.

    Args:
        receive: Tells when the client hangs up; the body must have been read.
        work: Is cancelled then.

    Raises:
        ClientDisconnect: The client has hung up.
    """
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientDisconnect
        tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
