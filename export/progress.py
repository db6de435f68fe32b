"""Reports the progress of an export on standard error: a bar with the time left on a terminal, else plain lines."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator

from diffutron_ort.cli.terminal import drawing
from diffutron_ort.errors import DiffutronWarning

Report = Callable[[str, float], None]
"""Called as a stage begins, with its name and its share of the whole work."""


def silent(stage: str, share: float) -> None:
    """Report nothing."""


def line(stage: str, share: float) -> None:  # noqa: ARG001
    """Print the stage on a line."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):  # the reader is gone, which is no reason to stop
        sys.stderr.write(f"{shown(stage)}\n")
        sys.stderr.flush()


def note(text: str) -> None:
    """Warn of something that the user should know about the result; the command prints it."""
    warnings.warn(text, DiffutronWarning, stacklevel=2)


def shown(text: str) -> str:
    """Return a text as one line, its unprintable characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextlib.contextmanager
def progress() -> Iterator[Report]:
    """Yield the report for a terminal or for a file, whichever standard error is."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield line
        return
    with bar() as report:
        yield report


@contextlib.contextmanager
def bar() -> Iterator[Report]:
    """Yield a report that draws a bar with the time left."""
    from rich.console import Console  # needed on a terminal only
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    named = TextColumn("{task.description}", markup=False)
    columns = (named, BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=drawing(sys.stderr)), transient=True) as drawn:
        task = drawn.add_task("", total=1.0)
        pending = 0.0

        def report(stage: str, share: float) -> None:
            nonlocal pending
            drawn.update(task, advance=pending, description=shown(stage))
            pending = share

        yield report
