"""Signals: a process that is asked to end cleans up as it does at Ctrl-C, and spawns others that do not hear of it."""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
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


@contextlib.contextmanager
def held_back(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Hold signals back, from this process for now, and from those that it spawns until they accept them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # else the first process that is spawned starts it, which unblocks SIGINT again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    """End the process as after a signal of this number."""
    raise SystemExit(128 + number)
