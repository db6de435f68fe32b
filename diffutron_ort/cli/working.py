"""Do a work of several passes, and show how far it is once that takes a while."""

import time
from contextlib import ExitStack
from typing import TypeVar

from diffutron_ort.cli.loading import shown_if_slow
from diffutron_ort.scoring.work import Work

PATIENCE = 1.0  # seconds that pass in silence

Result = TypeVar("Result")


def worked(work: Work[Result], stage: str) -> Result:
    """Do all of a work, and return its result.

    Args:
        work: The work.
        stage: What to call it on standard error.
    """
    begun = time.monotonic()
    with ExitStack() as stack:
        report = stack.enter_context(shown_if_slow())
        while True:
            try:
                done = next(work)
            except StopIteration as end:
                result: Result = end.value
                return result
            if time.monotonic() > begun + PATIENCE:
                report(stage, done)
