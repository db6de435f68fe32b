"""Progress on standard error, with the time left: a bar on a terminal that rich can draw on, else plain lines."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from diffutron_ort.cli.terminal import drawing
from diffutron_ort.types import Progress

OFTEN = 10.0  # seconds between two lines about the same stage


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield the report for a terminal or for a file, whichever standard error is."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lines()
        return
    try:
        import rich.progress  # noqa: F401  # comes with the extras `[cli]` and `[export]`
    except ImportError:
        yield lines()
        return
    with bar() as report:
        yield report


class TimeLeft:
    """Estimates the time left from the time that the part which is done has taken."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._done = 0.0
        self._end: float | None = None

    def note(self, done: float) -> None:
        """Note the part that is done, from 0 to 1; a smaller one than before begins something new."""
        now = time.monotonic()
        if done < self._done:
            self._begun = now
        self._done = done
        self._end = self._begun + (now - self._begun) / done if done else None

    def __str__(self) -> str:
        """Return the estimate in words; nothing if there is none."""
        seconds = 0.0 if self._end is None else self._end - time.monotonic()
        if seconds < 1:
            return ""
        return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"


def lines() -> Progress:
    """Return a report that prints a line for each stage, and one from time to time while it lasts."""
    left, shown, printed = TimeLeft(), "", 0.0

    def report(stage: str, done: float) -> None:
        nonlocal shown, printed
        left.note(done)
        if stage != shown or time.monotonic() > printed + OFTEN:
            shown, printed = stage, time.monotonic()
            _print(f"{one_line(stage)} ({left})" if str(left) else one_line(stage))

    return report


def _print(text: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # the reader is gone, which is no reason to stop
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def one_line(text: str) -> str:
    """Return a text as one line, its unprintable characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def bar() -> Iterator[Progress]:
    """Yield a report that draws a bar."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    left = TimeLeft()

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:  # noqa: ARG002
            return Text(str(left))

    named = TextColumn("{task.description}", markup=False)
    console = Console(file=drawing(sys.stderr))
    with Progress(named, BarColumn(), TimeElapsedColumn(), Left(), console=console, transient=True) as drawn:
        task = drawn.add_task("", total=1.0)

        def report(stage: str, done: float) -> None:
            left.note(done)
            drawn.update(task, completed=done, description=one_line(stage))

        yield report
