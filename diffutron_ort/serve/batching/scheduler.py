"""Continuous batching: jobs wait in a queue, join the engine between two passes, and leave when they have ended."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import compress
from typing import Any

from diffutron_ort.errors import DiffutronError
from diffutron_ort.sampler.engine import Engine
from diffutron_ort.serve.batching.jobs import Generation, Job, Task
from diffutron_ort.serve.batching.metrics import Metrics
from diffutron_ort.serve.batching.places import Place, SequencePlace, WorkPlace, places_of


class QueueFullError(DiffutronError):
    """There are as many sequences in the queue as may wait."""


class Scheduler:
    """Runs the sequences and works of all jobs on one thread, first come, first served.

    In every round, every running sequence takes a step, and then a work makes a pass, another one each time: so none
    waits for another to end once it has joined. While there are both, works get as much time as sequences at most: a
    pass of a work can take as long as many steps. A work counts as one sequence wherever these are counted.
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
        self._turn = 0  # of the works
        self._ahead = 0.0  # seconds that works have had more than the sequences beside them

    @property
    def capacity(self) -> int:
        """The number of sequences that may run or wait."""
        return self._most + self._most_waiting

    def submit(self, job: Generation | Task[Any], *, taken: bool = False) -> None:
        """Put the sequences of a job, all of them or none, or its work into the queue.

        Args:
            job: The job.
            taken: Whether it ends a request that was taken before. Then it goes first, whether there is room or not.

        Raises:
            QueueFullError: There is no room.
        """
        wanted = places_of(job)
        with self._changed:
            self._waiting = deque(place for place in self._waiting if not place.job.cancelled)
            running = sum(not place.is_over for place in self._running)
            room = self.capacity - running - len(self._waiting)
            if len(wanted) > room and not taken:
                raise QueueFullError(f"{len(self._waiting)} sequences are waiting already: try again later")
            (self._waiting.extendleft if taken else self._waiting.extend)(wanted)
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
            left, self._running = [*self._running, *self._waiting], []
            self._waiting.clear()
        jobs: dict[int, Job[Any]] = {id(place.job): place.job for place in left}
        for job in jobs.values():
            job.fail(error)

    def run(self, engine: Engine) -> None:
        """Run jobs until the scheduler is closed; this is the engine's thread."""
        while self._admit():
            self._go_round(engine, self._running)

    def _admit(self) -> bool:
        """Let go of what has ended, take in what waits; return whether to go on once there is something to do."""
        with self._changed:
            self._part()
            self._join()
            while not (self._closed or self._running):
                self._changed.wait()
                self._join()
            return not self._closed

    def _part(self) -> None:
        """Let those leave that have ended, or that nobody waits for."""
        over = [place.is_over for place in self._running]
        for place in compress(self._running, over):
            place.leave()
        self._running = [place for place, is_over in zip(self._running, over, strict=True) if not is_over]

    def _join(self) -> None:
        """Let those that wait join, as many as there is room for."""
        while self._waiting and len(self._running) < self._most:
            place = self._waiting.popleft()
            if not place.job.cancelled:
                self._running.append(place)
                self._note_begin(place.job)
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.running.set(len(self._running))

    def _note_begin(self, job: Job[Any]) -> None:
        if job.begun is None:
            job.begun = time.monotonic()
            self._metrics.queue_seconds.observe(job.begun - job.queued)

    def _go_round(self, engine: Engine, running: Sequence[Place]) -> None:
        """Take a step with each of the sequences, which share passes, and make a pass of one of the works."""
        begun = time.monotonic()
        sequences = [place for place in running if isinstance(place, SequencePlace)]
        if sequences:
            self._take(engine, sequences)
        stepped = time.monotonic()
        self._ahead = max(0.0, self._ahead - (stepped - begun)) if sequences else 0.0
        works = [place for place in running if isinstance(place, WorkPlace)]
        if works and not self._ahead:
            works[self._turn % len(works)].job.advance()
            self._turn += 1
            self._ahead = time.monotonic() - stepped

    def _take(self, engine: Engine, places: Sequence[SequencePlace]) -> None:
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
