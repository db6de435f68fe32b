"""What one request has the model do: sequences, which take steps through the engine, or a work, which makes passes."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from diffutron_ort.completion import Completion, Tally
from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.sampler.sequence import Step
from diffutron_ort.scoring.work import Work

Item = TypeVar("Item")
Result = TypeVar("Result")


class Job(Generic[Item]):
    """What one request has the model do, and what it has come to so far.

    The engine's thread posts items; the event loop's thread, which makes the job, takes them and can cancel it.

    Attributes:
        cancelled: Whether nobody waits for the job any more.
        queued: When it was made; `begun` is when it joined the engine, or the first of its sequences did, None before.
    """

    def __init__(self) -> None:
        """Set up the job; an event loop must be running."""
        self.queued = time.monotonic()
        self.begun: float | None = None
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[Item | Exception] = asyncio.Queue()

    # In the engine's thread.

    def fail(self, error: Exception) -> None:
        """End the job with an error."""
        self.cancelled = True
        self._post(error)

    def _post(self, item: Item | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, item)
        except RuntimeError:  # the loop has ended, and nobody waits for it
            self.cancelled = True

    # In the event loop's thread.

    def cancel(self) -> None:
        """Let the engine drop the job before its next pass."""
        self.cancelled = True

    async def _next(self) -> Item:
        """Return the next item.

        Raises:
            Exception: What the job failed with.
        """
        item = await self._outbox.get()
        if isinstance(item, Exception):
            raise item
        return item


class Taken(NamedTuple):
    """A step of one of a job's sequences.

    Attributes:
        choice: Number of the sequence in its job, from 0.
        step: The step.
    """

    choice: int
    step: Step


class Generation(Job[Taken]):
    """The sequences of one request.

    Attributes:
        sequences: They share passes with each other and with those of other jobs.
    """

    def __init__(self, sequences: Sequence[sampler.Sequence], *, streamed: bool) -> None:
        """Set up the job.

        Args:
            sequences: At least one; none has taken a step.
            streamed: Whether every step is read, and not only the last of each sequence.
        """
        super().__init__()
        self.sequences, self._streamed = sequences, streamed
        self._tallies = [Tally() for _ in sequences]
        self._left = len(sequences)

    def add(self, index: int, step: Step) -> None:
        """Add a step of sequence `index`; in the engine's thread."""
        self._tallies[index].add(step)
        if self._streamed or step.is_last:
            self._post(Taken(index, step))

    async def steps(self) -> AsyncIterator[Taken]:
        """Yield the steps as they are taken, until every sequence has ended; without `streamed`, only the last of each.

        Raises:
            Exception: What the engine failed with.
        """
        while self._left:
            taken = await self._next()
            self._left -= taken.step.is_last
            yield taken

    def completion(self, index: int) -> Completion:
        """Return the completion of a sequence that has ended."""
        return self._tallies[index].completion()


class Done(NamedTuple, Generic[Result]):
    """The end of a work.

    Attributes:
        result: What it has returned.
    """

    result: Result


class Task(Job[Done[Result]]):
    """The work of one request.

    Attributes:
        ended: Whether it has returned, or failed.
    """

    def __init__(self, work: Work[Result]) -> None:
        """Set up the job.

        Args:
            work: None of its passes has been made. It is advanced in the engine's thread alone.
        """
        super().__init__()
        self._work, self.ended = work, False

    def advance(self) -> None:
        """Make one pass, unless nobody waits for it; in the engine's thread."""
        if self.cancelled:
            return
        try:
            next(self._work)
        except StopIteration as end:
            self.ended = True
            self._post(Done(end.value))
        except Exception as error:
            self.fail(error)

    def close(self) -> None:
        """Let go of what the work holds, whether it has ended or not; in the engine's thread."""
        with suppress(Exception):  # nobody waits to be told
            self._work.close()

    async def result(self) -> Result:
        """Wait for the end of the work, and return its result.

        Raises:
            Exception: What it failed with.
        """
        return (await self._next()).result
