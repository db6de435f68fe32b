"""Do a work of several passes, and show how far it is once that takes a while."""

import time
from typing import TypeVar

from diffutron_ort.cli.loading import shown_if_slow
from diffutron_ort.scoring.work import Work, finished

PATIENCE = 1.0  # seconds that pass in silence

Result = TypeVar("Result")


def worked(work: Work[Result], stage: str) -> Result:
    """Do all of a work, and return its result.

    Args:
        work: The work.
        stage: What to call it on standard error.
    """
    begun = time.monotonic()
    with shown_if_slow() as show:

        def report(done: float) -> None:
            if time.monotonic() > begun + PATIENCE:
                show(stage, done)

        return finished(work, report)
