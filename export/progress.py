"""Says how far an export is, on standard error: a bar with the time left on a terminal, plain lines elsewhere."""

import contextlib
import sys
from collections.abc import Callable, Iterator

Report = Callable[[str, float], None]
"""Called as a stage begins, with its name and its share of the whole."""


def silent(stage: str, share: float) -> None:
    """Says nothing."""


def line(stage: str, share: float) -> None:  # noqa: ARG001
    """Says the stage on a line."""
    sys.stderr.write(f"{stage}\n")


def note(text: str) -> None:
    """Says something that a user should know of the result."""
    sys.stderr.write(f"diffutron-ort: {text}\n")


@contextlib.contextmanager
def progress() -> Iterator[Report]:
    """A report that fits where standard error goes."""
    if not sys.stderr.isatty():
        yield line
        return
    with bar() as report:
        yield report


@contextlib.contextmanager
def bar() -> Iterator[Report]:
    """A report that draws a bar with the time left."""
    from rich.console import Console  # only a terminal needs it
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task("", total=1.0)
        pending = 0.0

        def report(stage: str, share: float) -> None:
            nonlocal pending
            drawn.update(task, advance=pending, description=stage)
            pending = share

        yield report
