"""One of several processes that serve: what it tells the process that started it."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Protocol

from diffutron_ort.brief import in_brief
from diffutron_ort.errors import DiffutronError
from diffutron_ort.serve import logs
from diffutron_ort.serve.settings import Settings

SECONDS = 1.0  # between two signs of life
IGNORED = (signal.SIGINT, signal.SIGHUP)  # a terminal sends them to all, and the supervisor acts on its own

Report = Callable[[str], object]


class Work(Protocol):
    """What each of several processes runs."""

    def __call__(self, listener: socket.socket, settings: Settings, report: Report, *, loads_first: bool) -> int:
        """Serve on a socket until a signal, and return the exit code; `report` is told the service's state."""


def start(work: Work, listener: socket.socket, settings: Settings, pipe: Connection, loads_first: bool) -> None:
    """Do the work of this process, and exit with its code.

    The pipe gets pairs: the state of the service at each sign of life, and in the end what it failed with, if it did.
    """
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    sys.stdout = sys.stderr
    try:
        code = work(listener, settings, _Pulse(pipe), loads_first=loads_first)
    except Exception as error:
        if not isinstance(error, DiffutronError):
            logs.write({"level": "error", "trace": logs.trace(error, with_message=settings.log_text)})
        pipe.send(("failed", _message(error)))
        code = 1
    sys.exit(code)


class _Pulse:
    """Sends the state now and then, and ends this process when nobody listens any more."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._state, self._next = pipe, "", 0.0

    def __call__(self, state: str) -> None:
        """Send the state if it is new, or as a sign of life."""
        now = time.monotonic()
        if state != self._state or now >= self._next:
            self._state, self._next = state, now + SECONDS
            try:
                self._pipe.send((state, ""))
            except OSError:
                self._next = float("inf")
                os.kill(os.getpid(), signal.SIGTERM)


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, DiffutronError) else f"{type(error).__name__}: {in_brief(error)}"
