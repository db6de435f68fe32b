"""A server in a process of its own, as clients meet it, and what they ask of it."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.command import COMMAND
from tests.serve.gated import GATE

QUESTION = "büyükten küçüğe sırala: beş, kırk, sekiz"
MESSAGES = [{"role": "user", "content": QUESTION}]
TOO_LONG = [{"role": "user", "content": "On iki artı beş kaç eder? " * 40}]

# Nothing can end these answers before their last token.
UNENDING = {"suppress_tokens": [0, 1, 1773]}  # <pad>, <eos> and [/Answer]
MANY_PIECES = {**UNENDING, "max_new_tokens": 16, "block_length": 4}

SECONDS = 60.0  # for whatever is waited for: a busy machine may stand still for a while
ADDRESS = re.compile(r"http://[\d.]+:\d+")


class Server(NamedTuple):
    """A running server.

    Attributes:
        root: Its address; `base` is what clients are told.
        gate: A file without which no pass of its model ends, if there is one.
    """

    root: str
    gate: Path | None = None

    @property
    def base(self) -> str:
        return f"{self.root}/v1"

    def get(self, path: str) -> str:
        """Return what stands at a path."""
        with urllib.request.urlopen(self.root + path, timeout=SECONDS) as answer:
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
        """Expect that one client hangs up within the block, while the gate is shut, and that its request then ends."""
        before, passes = self.ended("gone"), self.figure("diffutron_pass_sequences_count")
        yield
        until(lambda: self.ended("gone") == before + 1)
        self.gate.touch()
        self.becomes_idle()
        assert self.figure("diffutron_pass_sequences_count") <= passes + 1  # with the one that ran meanwhile
        self.gate.unlink()

    def becomes_idle(self) -> None:
        """Wait until the engine has nothing to do."""
        until(lambda: self.figure("diffutron_running_sequences") + self.figure("diffutron_waiting_sequences") == 0)


@contextmanager
def serving(folder: Path, *flags: str, is_gated: bool = False) -> Iterator[Server]:
    """Run a server with the embedded model on a free port until the end of the block; its log is in the folder.

    Its gate, if it has one, is shut at first.
    """
    gate = folder / "gate"
    command = [sys.executable, "-m", "tests.serve.gated"] if is_gated else [*COMMAND, "serve"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", "0", *flags], stderr=log, env=os.environ | {GATE: str(gate)})
    try:
        text = until(lambda: process.poll() or ADDRESS.search((folder / "log").read_text("utf-8")))
        assert isinstance(text, re.Match), (folder / "log").read_text("utf-8")
        server = Server(text[0], gate if is_gated else None)
        until(lambda: _is_ready(server))
        yield server
    finally:
        gate.touch()
        process.terminate()
        process.wait(SECONDS)


def until(condition: Callable[[], object]) -> object:
    """Return what a condition returns as soon as that is true."""
    end = time.monotonic() + SECONDS
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
