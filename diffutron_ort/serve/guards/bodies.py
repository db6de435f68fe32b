"""The body of a request: read as a whole before anything else is done, within its bound and its time."""

import asyncio
from contextlib import suppress
from http import HTTPStatus

from starlette.types import Message, Receive, Scope

from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.guards.heads import header

MOST_DISCARDED = 2**23  # bytes
SECONDS = 2.0  # for what is discarded


class HungUp(Exception):  # noqa: N818 - nothing is wrong
    """The client has closed the connection."""


class Body:
    """The body of one request.

    Attributes:
        is_read: Whether its end has been received.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._expects = header(scope, b"expect") != b""  # the client waits to be told to send it
        length = header(scope, b"content-length")
        self._length = int(length) if length.isdigit() and len(length) < 20 else 0
        self._content: bytes | None = None
        self.is_read = False

    async def read(self, limit: int, seconds: float) -> None:
        """Read all of it.

        Args:
            limit: The most bytes.
            seconds: The most time.

        Raises:
            ApiError: It is longer, or takes longer.
            HungUp: The client closed the connection.
        """
        try:
            async with asyncio.timeout(seconds):
                self._content = await self._read(limit)
        except TimeoutError:
            raise ApiError(
                HTTPStatus.REQUEST_TIMEOUT, f"the body of the request did not arrive within {seconds:g} seconds"
            ) from None

    async def receive(self) -> Message:
        """Return the body as one message, then what comes after it."""
        if self._content is None:
            return await self._receive()
        content, self._content = self._content, None
        return {"type": "http.request", "body": content, "more_body": False}

    async def discard(self) -> None:
        """Receive what is left of it, within bounds: many clients read no answer before all is sent."""
        if not self._expects:
            with suppress(TimeoutError, HungUp):
                async with asyncio.timeout(SECONDS):
                    left = MOST_DISCARDED
                    while left > 0 and not self.is_read:
                        left -= len(await self._part())

    async def _read(self, limit: int) -> bytes:
        content = bytearray()
        if self._length > limit:
            raise _too_long(limit)
        while not self.is_read:
            content += await self._part()
            if len(content) > limit:
                raise _too_long(limit)
        return bytes(content)

    async def _part(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise HungUp
        self.is_read = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


def _too_long(limit: int) -> ApiError:
    message = f"the body of the request is longer than {limit} bytes"
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, code="body_too_large")
