"""What an export says while it runs: how far it is, and what the user should know about the result."""

import warnings
from collections.abc import Callable

from diffutron_ort.errors import DiffutronWarning
from diffutron_ort.types import Progress

Report = Callable[[str, float], None]
"""Called as a stage begins, with its name and its share of the whole work."""


def silent(stage: str, done: float) -> None:
    """Report nothing."""


def note(text: str) -> None:
    """Warn of something that the user should know about the result; the command prints it."""
    warnings.warn(text, DiffutronWarning, stacklevel=2)


def summed(progress: Progress) -> Report:
    """Return a report that takes the share of each stage, and passes on how much is done as it begins."""
    done = 0.0

    def report(stage: str, share: float) -> None:
        nonlocal done
        progress(stage, done)
        done = min(done + share, 1.0)

    return report
