"""A client that asks, reads as slowly or as little as it is told, and compares the answer with the known one."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from enum import Enum
from http.client import HTTPConnection, HTTPException, HTTPResponse
from random import Random
from typing import Any
from uuid import uuid4

from tests.serve.pool import Known

SECONDS = 330.0  # for an answer; a busy machine loses none


class Form(Enum):
    """How an answer is asked for."""

    WHOLE = "whole"
    STREAM = "stream"
    CANVAS = "canvas"


class End(Enum):
    """What became of a request."""

    RIGHT = "right"
    WRONG = "wrong"
    LOST = "lost"  # nothing, or half an answer
    FULL = "full"  # 429
    CLOSED = "closed"  # 503, or no connection
    LEFT = "left"  # by the client, before or while it was answered


class Ask:
    """One request of a client.

    Attributes:
        what: Is asked.
        id: Its name in the server's log.
        end: What became of it.
        said: What is wrong with the answer.
    """

    def __init__(self, what: Known, form: Form, leaves: bool, random: Random) -> None:
        self.what, self._form, self._leaves, self._random = what, form, leaves, random
        self.id, self.end, self.said = uuid4().hex, End.LOST, ""

    def run(self, port: int) -> None:
        """Send the request, and read its answer."""
        with closing(HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
            try:
                connection.connect()
            except ConnectionError:
                self.end = End.CLOSED
                return
            try:
                self._exchange(connection)
            except (OSError, HTTPException, ValueError) as error:
                self.said = repr(error)

    def _exchange(self, connection: HTTPConnection) -> None:
        body = {**self.what.body, "stream": self._form != Form.WHOLE, "diffusing": self._form == Form.CANVAS}
        content = json.dumps(body).encode()
        if self._leaves and self._random.random() < 0.25:
            _send_half(connection, self.what.path, content)
            return self._leave(connection)
        headers = {"content-type": "application/json", "x-request-id": self.id}
        connection.request("POST", self.what.path, content, headers)
        if self._leaves and self._random.random() < 0.4:
            return self._leave(connection)
        response = connection.getresponse()
        if self._leaves:
            response.read(self._random.choice((0, 1, 200)))
            return self._leave(connection)
        return self._judge(response)

    def _leave(self, connection: HTTPConnection) -> None:
        """Close the connection, or reset it."""
        self.end = End.LEFT
        if self._random.random() < 0.5 and connection.sock:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def _judge(self, response: HTTPResponse) -> None:
        """Compare an answer with the one that is known."""
        if response.status != 200:
            content = response.read()
            self.end = {429: End.FULL, 503: End.CLOSED}.get(response.status, End.WRONG)
            self.said = f"{response.status}: {content[:300]!r}"
            return
        read = {Form.WHOLE: _whole, Form.STREAM: _joined, Form.CANVAS: _last}[self._form]
        found, expected = read(response), dict(enumerate(zip(self.what.texts, self.what.reasons, strict=True)))
        self.end = End.RIGHT if found == expected else End.WRONG
        self.said = f"{self._form} {self.what.body}: {found} for {expected}"


def _send_half(connection: HTTPConnection, path: str, content: bytes) -> None:
    """Send a request without the second half of its body."""
    connection.putrequest("POST", path)
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(len(content)))
    connection.endheaders(content[: len(content) // 2])


def _text(choice: dict[str, Any]) -> str:
    """Return the text in a choice of an answer, or of a chunk of one."""
    inner = choice.get("message") or choice.get("delta") or {}
    return str(choice.get("text", inner.get("content", "")))


def _whole(response: HTTPResponse) -> dict[int, tuple[str, str]]:
    """Return text and reason of each choice of an answer."""
    return {choice["index"]: (_text(choice), choice["finish_reason"]) for choice in json.load(response)["choices"]}


def _joined(response: HTTPResponse) -> dict[int, tuple[str, str]]:
    """Return those of a stream whose chunks add to the text."""
    found: dict[int, tuple[str, str]] = {}
    for choice in _chunks(response):
        text, reason = found.get(choice["index"], ("", ""))
        found[choice["index"]] = text + _text(choice), choice["finish_reason"] or reason
    return found


def _last(response: HTTPResponse) -> dict[int, tuple[str, str]]:
    """Return those of a stream whose chunks replace the text."""
    return {choice["index"]: (_text(choice), choice["finish_reason"]) for choice in _chunks(response)}


def _chunks(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the choices in a stream's chunks.

    Raises:
        ValueError: It does not end as it should.
    """
    events = response.read().decode().split("\n\n")
    if events[-2:] != ["data: [DONE]", ""]:
        raise ValueError(f"the stream ended with {events[-2:]}")
    for event in events[:-2]:
        yield from json.loads(event.removeprefix("data: "))["choices"]
