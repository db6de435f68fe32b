"""A server as its users start it: a process of its own, whose standard error is read as it comes."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

QUESTION = "On iki artı beş kaç eder?"
ANSWER = "on yedi"
SLOW = {"n": 4, "early_end": False, "steps": 16}  # takes a while even with the embedded model
SLOWER = {"n": 48, "early_end": False, "steps": 64}  # outlasts the seconds in which a busy machine notices a hang-up
CLIENT = httpx.Client(verify=False, trust_env=False, timeout=120, headers={"connection": "close"})  # quick to make, and
# every request has a connection of its own, lest one of a killed process is used again


class Program:
    """A running server.

    Attributes:
        lines: Of its standard error, so far.
    """

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def found(self, pattern: str, count: int = 1, seconds: float = 60) -> re.Match:
        """Wait until as many lines hold a pattern; return the last match."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            matches = [match for line in list(self.lines) if (match := re.search(pattern, line))]
            if len(matches) >= count:
                return matches[count - 1]
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} is not in {self.lines}")

    @property
    def url(self) -> str:
        return self.found(r"(http://\S+)")[1]

    def ended(self, seconds: float = 60) -> int:
        """Wait for the end, and return the exit code; nothing is on standard output."""
        code = self.process.wait(seconds)
        self._reader.join(10)
        assert self.process.stdout.read() == ""
        return code


@contextmanager
def started(*flags: str, module: str = "diffutron_ort") -> Iterator[Program]:
    """Start a server at a free port."""
    command = [sys.executable, "-m", module, *(["serve"] if module == "diffutron_ort" else []), "--port", "0", *flags]
    program = Program(command)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGTERM)
            program.process.send_signal(signal.SIGTERM)
        try:
            program.ended(20)
        finally:
            program.process.kill()


def ask(url: str, **fields) -> httpx.Response:
    """Ask the question."""
    body = {"messages": [{"role": "user", "content": QUESTION}], **fields}
    return CLIENT.post(f"{url}/v1/chat/completions", json=body)


def hang_up(url: str, **fields) -> None:
    """Ask, and close the connection once the request runs; of a stream, once it has begun."""
    there = httpx.URL(url)
    body = json.dumps({"messages": [{"role": "user", "content": QUESTION}], **fields}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection((there.host, there.port)) as connection:
        connection.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        while not figure(url, "diffutron_running_"):
            time.sleep(0.01)
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


def asked_slowly(url: str) -> list[Asking]:
    """Ask six times, by turns for a stream; return once all are accepted, and before most are answered."""
    asking = [Asking(url, stream=streams, **SLOW) for streams in (False, True) * 3]
    for _ in range(2000):
        done = figure(url, 'diffutron_requests_total{end="ok"}')
        if 4 * done + figure(url, "diffutron_waiting_") + figure(url, "diffutron_running_") >= 4 * len(asking):
            assert done < len(asking) / 2
            return asking
        time.sleep(0.01)
    raise AssertionError("never accepted")


def wait_until_ready(url: str) -> None:
    for _ in range(600):
        if CLIENT.get(f"{url}/ready").status_code == 200:
            return
        time.sleep(0.1)
    raise AssertionError("never ready")


def figure(url: str, name: str) -> float:
    """Return one of the server's figures, or the sum of those whose names begin so."""
    text = CLIENT.get(f"{url}/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def eventually(condition, seconds=20):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.02)
