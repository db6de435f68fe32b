"""Requests as bytes: HTTP as it should not be, and mutants of HTTP as it should be."""

import re
import socket
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from tests.serve.odd_bodies import CHAT, COMPLETIONS

SECONDS = 330.0  # within which the server must answer or close; a busy machine is no hang
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
BODY = b'{"prompt": "x", "steps": 1, "max_tokens": 1, "stream": true}'


class Heard(NamedTuple):
    """What a connection brought.

    Attributes:
        statuses: Of the answers, in order.
        closed: Whether the server closed it in time.
    """

    statuses: tuple[int, ...]
    closed: bool


def head(*lines: bytes, method: bytes = b"POST", target: bytes = b"/v1/completions") -> bytes:
    """Return the head of a request, with the headers that it needs but for the length of its body."""
    usual = (b"host: localhost", b"content-type: application/json", b"connection: close")
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *usual, *lines, b"", b""])


def post(path: str, body: bytes) -> bytes:
    """Return a sound request with a body."""
    return head(b"content-length: %d" % len(body), target=path.encode()) + body


def sound() -> list[bytes]:
    """Return requests that the mutants are made of."""
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:]))
    return [
        post(COMPLETIONS, BODY),
        head(b"transfer-encoding: chunked") + chunked + b"0\r\n\r\n",
        head(method=b"GET", target=b"/v1/models/nano"),
        head(b"content-length: 2", b"expect: 100-continue") + b"{}",
        head(
            b"authorization: Bearer x", b"origin: http://localhost", b"x-request-id: 7", method=b"GET", target=b"/ready"
        ),
        head(b"access-control-request-method: POST", b"origin: http://a.example", method=b"OPTIONS", target=b"/health"),
    ]


def odd() -> Iterator[bytes]:
    """Yield requests that are not as they should be, each in its own way."""
    yield from (b"", b"\0", b"\r\n" * 1000, b"GET", b"GET /health\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    yield from (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"x" * 100_000,
        b"GET / HTTP/1.1\r\n" * 5000,
    )
    for target in (
        b"*",
        b"//",
        b"/%",
        b"/%00",
        b"/v1/models/%ff%fe",
        b"/v1/models/" + b"a" * 60_000,
        b"/../../etc/passwd",
    ):
        yield head(method=b"GET", target=target)
    for target in (
        b"http://localhost/health",
        b"/health?" + b"a=b&" * 5000,
        b"/health#x",
        b"/\x80\xff",
        b"/v1/models/a/b",
    ):
        yield head(method=b"GET", target=target)
    yield from (
        head(method=method, target=b"/health") for method in (b"CONNECT", b"TRACE", b"X" * 9000, b"get", b"HEAD")
    )
    for line in (
        b"host: evil.example",
        b"x: \0",
        b"x y: 1",
        b": 1",
        b"x",
        b" folded: 1",
        b"x: " + b"y" * 20_000,
        b"x: \xff",
    ):
        yield head(line, b"content-length: %d" % len(BODY)) + BODY
    yield head(*(b"x%d: y" % i for i in range(5000)))
    for length in (b"-1", b"+2", b"0x2", b"2, 2", b"2\r\ncontent-length: 3", b"9" * 30, b"1000000000000", b"", b"2.0"):
        yield head(b"content-length: " + length) + b"{}"
    for coding in (b"chunked", b"gzip", b"chunked, chunked", b"identity", b"chunked\r\ncontent-length: 2", b"xchunked"):
        yield head(b"transfer-encoding: " + coding) + b"2\r\n{}\r\n0\r\n\r\n"
    for chunks in (
        b"-2\r\n{}",
        b"2;x=" + b"y" * 50_000 + b"\r\n{}\r\n0\r\n\r\n",
        b"f" * 40 + b"\r\n{}",
        b"zz\r\n",
        b"2\r\n{}zz",
    ):
        yield head(b"transfer-encoding: chunked") + chunks
    yield head(b"transfer-encoding: chunked") + b"1\r\nx\r\n" * 100_000
    yield head(b"transfer-encoding: chunked") + b"2\r\n{}\r\n0\r\n" + b"x: y\r\n" * 5000 + b"\r\n"
    yield from (head(b"content-encoding: gzip", b"content-length: 2") + b"{}", head(b"content-type: text/plain") + b"x")
    yield post(COMPLETIONS, BODY).replace(b"connection: close", b"connection: keep-alive") * 50
    yield head(method=b"GET", target=b"/health").replace(b"connection: close", b"x: y") * 200
    yield post(CHAT, BODY) + b"GARBAGE" * 1000
    yield head(b"upgrade: websocket", b"sec-websocket-key: x", method=b"GET", target=b"/health")


def cut() -> Iterator[bytes]:
    """Yield sound requests that end too early."""
    for request in sound():
        yield from (request[:end] for end in range(1, len(request), 11))


def mutants(number: int, seed: int) -> Iterator[bytes]:
    """Yield requests with some bytes changed, taken out, doubled or put in."""
    random = Random(seed)
    for _ in range(number):
        request = bytearray(random.choice(sound()))
        for _ in range(random.randint(1, 4)):
            start, length = random.randrange(len(request) + 1), random.randint(0, 12)
            piece = random.choice([random.randbytes(length), request[start : start + length] * 2, b"", b"\r\n", b"\0"])
            request[start : start + random.choice([0, length])] = piece
        yield bytes(request)


def heard(port: int, request: bytes, *, hang_up: bool = False) -> Heard:
    """Send bytes over a connection of their own, and return what comes back.

    Args:
        port: On the loopback.
        request: What is sent.
        hang_up: Whether to reset the connection at once, instead of reading.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        try:
            connection.sendall(request)
            if hang_up:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return Heard((), closed=True)
            while part := connection.recv(2**16):
                received += part
        except TimeoutError:
            return Heard(_statuses(received), closed=False)
        except ConnectionError:  # the server closed while we were sending
            pass
    return Heard(_statuses(received), closed=True)


def _statuses(received: bytes) -> tuple[int, ...]:
    return tuple(int(status) for status in STATUS.findall(received))
