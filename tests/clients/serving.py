"""A server in a process of its own, as clients meet it, and what they ask of it."""

import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.command import COMMAND

QUESTION = "büyükten küçüğe sırala: beş, kırk, sekiz"
MESSAGES = [{"role": "user", "content": QUESTION}]
TOO_LONG = [{"role": "user", "content": "On iki artı beş kaç eder? " * 40}]

# Nothing can end these answers before their last token.
UNENDING = {"suppress_tokens": [0, 1, 1773]}  # <pad>, <eos> and [/Answer]
MANY_PIECES = {**UNENDING, "max_new_tokens": 16, "block_length": 4}
SLOW = {**UNENDING, "max_new_tokens": 200, "block_length": 1, "steps": 200, "n": 64}  # seconds

ADDRESS = re.compile(r"http://[\d.]+:\d+")


class Server(NamedTuple):
    """A running server.

    Attributes:
        root: Its address; `base` is what clients are told.
    """

    root: str

    @property
    def base(self) -> str:
        return f"{self.root}/v1"

    def get(self, path: str) -> str:
        """Return what stands at a path."""
        with urllib.request.urlopen(self.root + path, timeout=30) as answer:
            return answer.read().decode()

    def figure(self, name: str) -> float:
        """Return a figure of /metrics, by its name and labels; 0 if it is not there yet."""
        lines = (line.rpartition(" ") for line in self.get("/metrics").splitlines())
        return next((float(value) for key, _, value in lines if key == name), 0.0)

    def ended(self, how: str) -> float:
        """Return how many requests ended in a way."""
        return self.figure(f'diffutron_requests_total{{end="{how}"}}')

    @contextmanager
    def left_by_a_client(self) -> Iterator[None]:
        """Expect that one client hangs up within the block, and that the engine is soon free of its request."""
        before = self.ended("gone")
        yield
        until(lambda: self.ended("gone") == before + 1)
        self.becomes_idle()

    def becomes_idle(self) -> None:
        """Wait until the engine has nothing to do: well before a slow answer would be done."""
        until(lambda: self.figure("diffutron_running_sequences") + self.figure("diffutron_waiting_sequences") == 0)


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Server]:
    """Run a server with the embedded model on a free port until the end of the block; its log is in the folder."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, "serve", "--port", "0", *flags], stderr=log)
    try:
        text = until(lambda: process.poll() or ADDRESS.search((folder / "log").read_text("utf-8")))
        assert isinstance(text, re.Match), (folder / "log").read_text("utf-8")
        server = Server(text[0])
        until(lambda: _is_ready(server))
        yield server
    finally:
        process.terminate()
        process.wait(30)


def until(condition: Callable[[], object], seconds: float = 60.0) -> object:
    """Return what a condition returns as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
    return found


def _is_ready(server: Server) -> bool:
    try:
        server.get("/ready")
    except urllib.error.HTTPError:
        return False
    return True
