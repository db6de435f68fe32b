"""Connections: how many there are, and how long each may take for the head of a request and for taking its answer."""

import asyncio
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from diffutron_ort.serve import logs
from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.guards import heads
from diffutron_ort.serve.settings import Settings

RETRY_AFTER = 1  # seconds


def protocol(settings: Settings) -> type[asyncio.Protocol]:
    """Return the class of connections with the bounds of `settings`."""

    class Bounded(Connection):
        bounds = settings

    return Bounded


class Connection(H11Protocol):
    """uvicorn's connection, whose client has limits.

    Attributes:
        bounds: How many there may be, and how long a client may take.
    """

    bounds = Settings()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, or refuse it where there are too many connections."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # the app waits for its client, and `pause_writing` tells of every wait
        self._wait_for_head()
        if len(self.connections) > self.bounds.max_connections:
            message = f"the server has {self.bounds.max_connections} connections and takes no more: try again"
            self._refuse(ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, retry_after=RETRY_AFTER))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends; the head of a request must be whole in time."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._head_timer is None:
            self._wait_for_head()

    def on_response_complete(self) -> None:
        """Go on to the next request."""
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._wait_for_head()

    def pause_writing(self) -> None:
        """Wait for the client to take what was written."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.bounds.idle_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or a head that is too large, called while h11's error is handled."""
        status = getattr(sys.exception(), "error_status_hint", HTTPStatus.BAD_REQUEST)
        is_too_large = status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._refuse(heads.too_large() if is_too_large else ApiError(status, msg))

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(self.bounds.header_timeout, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, error: ApiError) -> None:
        """Close the connection, with an answer if none has begun; the access log has no request, so log it here."""
        client = self.client[0] if self.client else None
        logs.write({"client": client, "status": error.status, "message": error.message})
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = error.response()
            headers = [*answer.raw_headers, (b"connection", b"close")]
            head = h11.Response(status_code=error.status, headers=headers)
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
