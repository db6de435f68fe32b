"""Continuous batching: jobs wait in a queue, join the engine between two passes, and leave when they have ended."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from diffutron_ort.errors import DiffutronError
from diffutron_ort.sampler import sequence as sampler
from diffutron_ort.sampler.engine import Engine
from diffutron_ort.serve.batching.jobs import Job
from diffutron_ort.serve.batching.metrics import Metrics


class QueueFullError(DiffutronError):
    """There are as many sequences in the queue as may wait."""


class Place(NamedTuple):
    """One sequence of a job.

    Attributes:
        job: Whose it is.
        choice: Its number in the job.
    """

    job: Job
    choice: int

    @property
    def sequence(self) -> sampler.Sequence:
        """The sequence."""
        return self.job.sequences[self.choice]

    @property
    def is_over(self) -> bool:
        """Whether the sequence has ended, or nobody waits for it any more."""
        return self.sequence.finished or self.job.cancelled


class Scheduler:
    """Runs the sequences of all jobs on one thread, first come, first served.

    Every running sequence takes a step in every round, so none waits for another to end once it has joined.
    """

    def __init__(self, max_batch: int, max_queue: int, metrics: Metrics) -> None:
        """Set up a scheduler without jobs.

        Args:
            max_batch: Sequences that run at a time.
            max_queue: Sequences that may wait for that.
            metrics: Count what is done.
        """
        self._most, self._most_waiting, self._metrics = max_batch, max_queue, metrics
        self._waiting: deque[Place] = deque()
        self._running: list[Place] = []
        self._changed = threading.Condition()
        self._closed = False

    @property
    def capacity(self) -> int:
        """The number of sequences that may run or wait."""
        return self._most + self._most_waiting

    def submit(self, job: Job) -> None:
        """Put the sequences of a job into the queue, all of them or none.

        Raises:
            QueueFullError: There is no room.
        """
        with self._changed:
            self._waiting = deque(place for place in self._waiting if not place.job.cancelled)
            running = sum(not place.is_over for place in self._running)
            room = self.capacity - running - len(self._waiting)
            if len(job.sequences) > room:
                raise QueueFullError(f"{len(self._waiting)} sequences are waiting already: try again later")
            self._waiting.extend(Place(job, index) for index in range(len(job.sequences)))
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify()

    def close(self) -> None:
        """Let `run` return after the pass that runs now."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def abandon(self, error: Exception) -> None:
        """End all jobs with an error, whatever the engine is doing."""
        with self._changed:
            places, self._running = [*self._running, *self._waiting], []
            self._waiting.clear()
        for job in {id(place.job): place.job for place in places}.values():
            job.fail(error)

    def run(self, engine: Engine) -> None:
        """Run jobs until the scheduler is closed; this is the engine's thread."""
        while self._admit():
            self._take(engine, self._running)

    def _admit(self) -> bool:
        """Let go of sequences that have ended, take in those that wait; return whether to go on once there are some."""
        with self._changed:
            self._running = [place for place in self._running if not place.is_over]
            self._join()
            while not (self._closed or self._running):
                self._changed.wait()
                self._join()
            return not self._closed

    def _join(self) -> None:
        """Let those that wait join, as many as there is room for."""
        while self._waiting and len(self._running) < self._most:
            place = self._waiting.popleft()
            if not place.job.cancelled:
                self._running.append(place)
                self._note_begin(place.job)
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.running.set(len(self._running))

    def _note_begin(self, job: Job) -> None:
        if job.begun is None:
            job.begun = time.monotonic()
            self._metrics.queue_seconds.observe(job.begun - job.queued)

    def _take(self, engine: Engine, places: Sequence[Place]) -> None:
        """Take a step with each of the sequences.

        If that fails, no sequence has changed, and each takes its step alone, so that only the jobs at fault fail.
        """
        try:
            steps = engine.step([place.sequence for place in places])
        except Exception as error:
            if len(places) > 1:
                for place in places:
                    if not place.job.cancelled:  # by another of its sequences
                        self._take(engine, [place])
                return
            places[0].job.fail(error)
            return
        for (job, choice), step in zip(places, steps, strict=True):
            job.add(choice, step)
