"""Ending by a signal: a process that is asked to end cleans up what it was writing, as it does at Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def told_to_end() -> Iterator[None]:
    """Turn signals that would end the process at once into SystemExit, with the exit code that shells expect.

    Only in the main thread, since no other may set handlers, and only for signals without a handler: `nohup` ignores
    SIGHUP.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    mine = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in mine:
            signal.signal(number, end)
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    """End the process as after a signal of this number."""
    raise SystemExit(128 + number)
