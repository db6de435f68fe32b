"""Connections: slow, silent, too many, and what is no HTTP, all by raw sockets."""

import json
import re
import socket
import time
from contextlib import ExitStack, suppress

import pytest

from diffutron_ort.serve.guards import bodies
from diffutron_ort.serve.settings import Settings
from tests.serve.fakes import PATIENCE, connected, received, serving
from tests.serve.programs import eventually

HEAD = b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
GET = b"GET /health HTTP/1.1\r\nhost: localhost\r\n"
LIMIT = 0.4  # seconds


def patient(**limits) -> Settings:
    """Return settings whose limits are beyond all that a busy machine or a test can take, but for those given."""
    return Settings(**{"port": 0, "header_timeout": 600, "body_timeout": 600, "idle_timeout": 600} | limits)


def status_and_error(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]["message"]


def next_answer(connection: socket.socket) -> bytes:
    """Return an answer whose length its head says."""
    answer = b""
    while not (found := re.search(rb"content-length: (\d+)\r\n(?s:.*?)\r\n\r\n", answer)):
        answer += next_part(connection)
    while len(answer) < found.end() + int(found[1]):
        answer += next_part(connection)
    return answer


def next_part(connection: socket.socket) -> bytes:
    part = connection.recv(2**16)
    assert part, "the connection was closed"
    return part


def trickle(connection: socket.socket) -> None:
    """Send a byte now and then until the other side closes the connection."""
    end = time.monotonic() + PATIENCE
    with pytest.raises(ConnectionError):  # noqa: PT012
        while time.monotonic() < end:
            connection.sendall(b"x")
            time.sleep(0.05)


def test_a_silent_connection_is_closed_and_not_at_once():
    begun = time.monotonic()
    with serving(patient(header_timeout=LIMIT)) as port, connected(port) as connection:
        assert received(connection) == b""
    assert time.monotonic() - begun > 0.9 * LIMIT


@pytest.mark.parametrize("is_kept_alive", [False, True])
def test_a_slow_head_is_not_waited_for(is_kept_alive):
    settings = patient(header_timeout=600 if is_kept_alive else LIMIT)
    with serving(settings) as port, connected(port) as connection:
        if is_kept_alive:
            connection.sendall(GET + b"\r\n")
            assert next_answer(connection).startswith(b"HTTP/1.1 200")
            object.__setattr__(settings, "header_timeout", LIMIT)  # of the next head alone
        with suppress(ConnectionError):  # where this process was too slow for the limit
            connection.sendall(GET + b"x: ")
        trickle(connection)


def test_a_slow_body_gets_408_in_time_though_it_keeps_coming():
    with serving(patient(body_timeout=LIMIT)) as port:
        with connected(port) as connection:
            connection.sendall(HEAD + b"content-length: 1000000\r\n\r\n")
            trickle(connection)
        with connected(port) as connection:
            connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
            status, message = status_and_error(received(connection))
            assert (status, "within 0.4 seconds" in message) == (408, True)


def test_an_idle_connection_is_kept_for_a_while_and_then_closed():
    with serving(patient()) as port, connected(port) as connection:
        for _ in range(2):
            connection.sendall(GET + b"\r\n")
            assert next_answer(connection).startswith(b"HTTP/1.1 200")
    with serving(patient(idle_timeout=LIMIT)) as port, connected(port) as connection:
        begun = time.monotonic()
        connection.sendall(GET + b"\r\n")
        assert received(connection).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - begun > 0.9 * LIMIT


def test_a_client_that_takes_no_answer_is_cut_off(capsys):
    with serving(patient(idle_timeout=LIMIT)) as port, connected(port) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n")
        eventually(lambda: "/large" in capsys.readouterr().err)  # which is logged once nobody waits any more
        assert len(received(connection)) < 200 * 2**18


def test_a_slow_client_that_keeps_taking_gets_everything():
    with serving(patient()) as port, connected(port) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        size = 0
        while part := connection.recv(2**19):
            size += len(part)
            time.sleep(0.001)
        assert size > 200 * 2**18


def test_connections_beyond_the_bound_are_refused_and_the_others_go_on():
    with serving(patient(max_connections=3)) as port, ExitStack() as stack:
        first = [stack.enter_context(connected(port)) for _ in range(3)]
        with connected(port) as one_more:  # they are taken in the order in which they came
            status, message = status_and_error(received(one_more))
            assert (status, "takes no more" in message) == (503, True)
        for connection in first:
            connection.sendall(GET + b"connection: close\r\n\r\n")
            assert received(connection).startswith(b"HTTP/1.1 200")
        with connected(port) as another:  # those that it has closed count no more
            another.sendall(GET + b"connection: close\r\n\r\n")
            assert received(another).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
        (b"GET /health\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),  # no host
        (GET + b"host: other\r\n\r\n", 400),
        (GET + b"bad header\r\n\r\n", 400),
        (HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
        (HEAD + b"content-length: -1\r\n\r\n", 400),
        (HEAD + b"transfer-encoding: gzip\r\n\r\n", 501),
        (GET + b"x-long: " + b"x" * 2**17, 431),
        (GET + b"x-long: " + b"x" * 2**14 + b"\r\n\r\n", 431),
        (GET + b"x-many: 1\r\n" * 100 + b"\r\n", 431),
        (b"GET /" + b"x" * 2**14 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 431),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n", 400),
    ],
)
def test_what_is_no_http_gets_an_error_in_the_form_of_the_others_and_a_line(sent, status, capsys):
    with serving(patient(idle_timeout=LIMIT)) as port, connected(port) as connection:
        with suppress(ConnectionError):  # it may be refused before it has been sent as a whole
            connection.sendall(sent)
        assert status_and_error(received(connection))[0] == status
    line, *_ = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["client"], line["status"]) == ("127.0.0.1", status)


@pytest.mark.parametrize("expects", [b"", b"expect: 100-continue\r\n"])
def test_a_body_too_long_is_refused_to_a_client_that_sends_it_all_before_it_listens(expects, monkeypatch):
    monkeypatch.setattr(bodies, "SECONDS", PATIENCE)
    with serving(patient(idle_timeout=LIMIT)) as port, connected(port) as connection:
        connection.sendall(HEAD + expects + b"content-length: 3000000\r\n\r\n")
        if not expects:
            connection.sendall(b"x" * 3_000_000)
        assert status_and_error(received(connection))[0] == 413


def test_a_refused_request_leaves_a_connection_that_can_be_used():
    with serving(patient(api_keys="k")) as port, connected(port) as connection:
        connection.sendall(HEAD + b"content-length: 2\r\n\r\n{}")
        assert next_answer(connection).startswith(b"HTTP/1.1 401")
        connection.sendall(HEAD + b"x-api-key: k\r\ncontent-length: 2\r\n\r\n{}")
        assert next_answer(connection).startswith(b"HTTP/1.1 200")


def test_requests_in_a_row_are_answered_in_a_row():
    requests = [HEAD + more + b"content-length: 2\r\n\r\n{}" for more in (b"", b"", b"connection: close\r\n")]
    with serving(patient()) as port, connected(port) as connection:
        connection.sendall(b"".join(requests))
        assert received(connection).count(b"HTTP/1.1 200 OK") == 3


def test_a_failure_after_the_beginning_of_an_answer_ends_the_connection():
    with serving(patient()) as port, connected(port) as connection:
        connection.sendall(b"GET /fail-late HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"begun" in answer
        assert b"0\r\n\r\n" not in answer  # the end of what comes in chunks


def test_a_unix_socket_serves_too(tmp_path):
    with serving(Settings(uds=str(tmp_path / "socket"))) as path, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: any.example\r\nconnection: close\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 200")
