"""A request on its way through the engine: its sequences, and the steps that they have taken."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from diffutron_ort.completion import Completion, Tally
from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.sampler.sequence import Step


class Taken(NamedTuple):
    """A step of one of a job's sequences.

    Attributes:
        choice: Number of the sequence in its job, from 0.
        step: The step.
    """

    choice: int
    step: Step


class Job:
    """The sequences of one request.

    The engine's thread adds steps; the event loop's thread, which makes the job, reads them and can cancel it.

    Attributes:
        sequences: They share passes with each other and with those of other jobs.
        cancelled: Whether nobody waits for the job any more.
        queued: When it was made; `begun` is when its first sequence joined the engine, None before.
    """

    def __init__(self, sequences: Sequence[sampler.Sequence], *, streamed: bool) -> None:
        """Set up the job.

        Args:
            sequences: At least one; none has taken a step.
            streamed: Whether every step is read, and not only the last of each sequence.
        """
        self.sequences, self._streamed = sequences, streamed
        self.queued = time.monotonic()
        self.begun: float | None = None
        self.cancelled = False
        self._tallies = [Tally() for _ in sequences]
        self._left = len(sequences)
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[Taken | Exception] = asyncio.Queue()

    # In the engine's thread.

    def add(self, index: int, step: Step) -> None:
        """Add a step of sequence `index`."""
        self._tallies[index].add(step)
        if self._streamed or step.is_last:
            self._post(Taken(index, step))

    def fail(self, error: Exception) -> None:
        """End the job with an error."""
        self.cancelled = True
        self._post(error)

    def _post(self, item: Taken | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, item)
        except RuntimeError:  # the loop has ended, and nobody waits for it
            self.cancelled = True

    # In the event loop's thread.

    async def steps(self) -> AsyncIterator[Taken]:
        """Yield the steps as they are taken, until every sequence has ended; without `streamed`, only the last of each.

        Raises:
            Exception: What the engine failed with.
        """
        while self._left:
            item = await self._outbox.get()
            if isinstance(item, Exception):
                raise item
            self._left -= item.step.is_last
            yield item

    def cancel(self) -> None:
        """Let the engine drop the sequences before its next pass."""
        self.cancelled = True

    def completion(self, index: int) -> Completion:
        """Return the completion of a sequence that has ended."""
        return self._tallies[index].completion()
