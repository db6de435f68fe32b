"""A server as its users start it: a process of its own, whose standard error is read as it comes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.serve.gated import GATE

QUESTION = "On iki artı beş kaç eder?"
ANSWER = "on yedi"
SECONDS = 60.0  # for whatever is waited for: a busy machine may stand still for a while
CLIENT = httpx.Client(verify=False, trust_env=False, timeout=120, headers={"connection": "close"})  # quick to make, and
# every request has a connection of its own, lest one of a killed process is used again


class Program:
    """A running server.

    Attributes:
        lines: Of its standard error, so far.
    """

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=os.environ | environment, text=True, **pipes)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def found(self, pattern: str, count: int = 1) -> re.Match:
        """Wait until as many lines hold a pattern; return the last match."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            matches = [match for line in list(self.lines) if (match := re.search(pattern, line))]
            if len(matches) >= count:
                return matches[count - 1]
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} is not in {self.lines}")

    @property
    def url(self) -> str:
        return self.found(r"(http://\S+)")[1]

    def ended(self) -> int:
        """Wait for the end, and return the exit code; nothing is on standard output."""
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert self.process.stdout.read() == ""
        return code


@contextmanager
def started(*flags: str, gate: Path | None = None, **environment: str) -> Iterator[Program]:
    """Start a server at a free port.

    Args:
        flags: Of the command.
        gate: A file without which no pass ends; None lets all of them go.
        environment: Of the process, in addition to this one's.
    """
    module = ["diffutron_ort", "serve"] if gate is None else ["tests.serve.gated"]
    environment |= {} if gate is None else {GATE: str(gate)}
    program = Program([sys.executable, "-m", *module, "--port", "0", *flags], environment)
    try:
        yield program
    finally:
        if gate is not None:
            gate.touch()
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGTERM)
            program.process.send_signal(signal.SIGTERM)
        try:
            program.ended()
        finally:
            program.process.kill()


def ask(url: str, **fields) -> httpx.Response:
    """Ask the question."""
    body = {"messages": [{"role": "user", "content": QUESTION}], **fields}
    return CLIENT.post(f"{url}/v1/chat/completions", json=body)


def hang_up(url: str, **fields) -> None:
    """Ask a server whose gate is shut, and close the connection once the request runs, or once its stream has begun."""
    there = httpx.URL(url)
    body = json.dumps({"messages": [{"role": "user", "content": QUESTION}], **fields}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection((there.host, there.port)) as connection:
        connection.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        eventually(lambda: figure(url, "diffutron_running_"))
        if fields.get("stream"):  # the request before it may have been the one that ran
            connection.recv(1)


class Asking(threading.Thread):
    """Asks in a thread of its own.

    Attributes:
        answer: What came, or how that failed.
    """

    def __init__(self, url: str, **fields) -> None:
        super().__init__()
        self._url, self._fields = url, fields
        self.answer: httpx.Response | httpx.HTTPError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = ask(self._url, **self._fields)
        except httpx.HTTPError as error:
            self.answer = error

    def answered(self) -> httpx.Response | httpx.HTTPError | None:
        """Wait for the answer."""
        self.join(SECONDS)
        return self.answer


def accepted(url: str) -> list[Asking]:
    """Ask a server whose gate is shut six times, by turns for a stream; return once all of that is accepted."""
    asking = [Asking(url, n=4, stream=streams) for streams in (False, True) * 3]
    eventually(lambda: figure(url, "diffutron_waiting_") + figure(url, "diffutron_running_") == 4 * len(asking))
    return asking


def wait_until_ready(url: str) -> None:
    eventually(lambda: CLIENT.get(f"{url}/ready").status_code == 200)


def figure(url: str, name: str) -> float:
    """Return one of the server's figures, or the sum of those whose names begin so."""
    text = CLIENT.get(f"{url}/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def eventually(condition):
    """Wait until a condition holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.02)
