"""Says how far an export is, on standard error: a bar with the time left on a terminal, plain lines elsewhere."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator

from diffutron_ort.cli.terminal import drawing
from diffutron_ort.errors import DiffutronWarning

Report = Callable[[str, float], None]
"""Called as a stage begins, with its name and its share of the whole."""


def silent(stage: str, share: float) -> None:
    """Say nothing."""


def line(stage: str, share: float) -> None:  # noqa: ARG001
    """Say the stage on a line."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):  # nobody reads it, which is no reason to end an export
        sys.stderr.write(f"{shown(stage)}\n")
        sys.stderr.flush()


def note(text: str) -> None:
    """Say something that a user should know of the result: the command prints it, a Python program decides."""
    warnings.warn(text, DiffutronWarning, stacklevel=2)


def shown(text: str) -> str:
    """Return a text on one line, with the codes of what could steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextlib.contextmanager
def progress() -> Iterator[Report]:
    """Yield a report that fits where standard error goes."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield line
        return
    with bar() as report:
        yield report


@contextlib.contextmanager
def bar() -> Iterator[Report]:
    """Yield a report that draws a bar with the time left."""
    from rich.console import Console  # only a terminal needs it
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
