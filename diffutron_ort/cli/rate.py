"""Progress through the lines of a file: a bar where one can be drawn, else a line from time to time."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

from diffutron_ort.bulk.job import Report, State
from diffutron_ort.cli.progress import OFTEN, TimeLeft, bar
from diffutron_ort.cli.terminal import say
from diffutron_ort.types import Progress

REDRAW = 0.2  # seconds


class Rate:
    """Describes how far a run is, and how fast it has been since the first line."""

    def __init__(self) -> None:
        self._begun: float | None = None
        self._first = 0

    def text(self, state: State) -> str:
        """Return how far it is, in words."""
        now = time.monotonic()
        if self._begun is None:
            self._begun, self._first = now, state.lines
        of = f"{state.lines}" if state.total is None else f"{state.lines} of {state.total}"
        failed = f", {state.failed} failed" if state.failed else ""
        seconds, lines = now - self._begun, state.lines - self._first
        speed = f", {_round(lines / seconds)} a second" if lines and seconds else ""
        return f"{of} lines{failed}{speed}"


def share(state: State) -> float:
    """Return the part of what this run has to do that is done, from 0 to 1; 0 if that is not known."""
    left = (state.total or 0) - state.resumed
    return min(1.0, (state.lines - state.resumed) / left) if left > 0 else 0.0


@contextmanager
def rate() -> Iterator[Report]:
    """Yield the report of a run for standard error. Nothing is shown before its first call."""
    described = Rate()
    with often() as report:
        yield lambda state: report(described.text(state), share(state))


@contextmanager
def often() -> Iterator[Progress]:
    """Yield a report whose text changes all the time: it is drawn, or said from time to time.

    Nothing is shown before its first call.
    """
    with ExitStack() as stack:
        report: Progress | None = None

        def first(text: str, done: float) -> None:
            nonlocal report
            if report is None:
                report = stack.enter_context(_drawn()) if _is_drawable() else _said()
            report(text, done)

        yield first


def _is_drawable() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and find_spec("rich") is not None


@contextmanager
def _drawn() -> Iterator[Progress]:
    drawn = 0.0
    with bar() as draw:

        def report(text: str, done: float) -> None:
            nonlocal drawn
            if time.monotonic() > drawn + REDRAW:
                draw(text, done)
                drawn = time.monotonic()

        yield report


def _said() -> Progress:
    left, said = TimeLeft(), time.monotonic()

    def report(text: str, done: float) -> None:
        nonlocal said
        if time.monotonic() > said + OFTEN:
            left.note(done)
            say(f"{text}, {left}" if str(left) else text)
            said = time.monotonic()

    return report


def _round(number: float) -> str:
    """Return a number with two digits or all before the point."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"
