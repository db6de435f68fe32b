"""Answer lines in several processes, each of which has the model; one that dies is replaced.

The processes are spawned, and map the same weight files. Lines are dealt in small portions to whoever has few left. If
a process dies, each of the lines that it had is answered again by itself, so that one that kills its process is found:
it fails when that has happened twice.
"""

import multiprocessing
import os
import signal
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeAlias

from diffutron_ort.bulk.answering import Answers, Line, Outcome, Terms
from diffutron_ort.bulk.formats import Format, Row
from diffutron_ort.bulk.records import failed
from diffutron_ort.errors import DiffutronError, DiffutronWarning, InputError
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.engine import batch_size
from diffutron_ort.signals import held_back

PORTION = 2  # batches dealt at a time
AHEAD = 8  # portions for each process that may be unfinished at a time: what is held while one line takes long
MOST_DEATHS = 2  # of a line that is alone
MOST_IN_A_ROW = 8  # deaths of processes without an answer in between
POLL = 1.0  # seconds

Load: TypeAlias = Callable[[], Diffutron]
"""Loads the model; it can be sent to another process."""

Numbered: TypeAlias = tuple[int, Row]


class Ready(NamedTuple):
    """What a process says once it has loaded the model.

    Attributes:
        most: How many sequences share a pass.
    """

    most: int


class Work(NamedTuple):
    """What every process does.

    Attributes:
        load: Loads the model.
        terms: What holds for all records.
        format: Reads the rows.
    """

    load: Load
    terms: Terms
    format: Format


@dataclass(eq=False)
class _Worker:
    """A process, and what it has to do.

    Attributes:
        lines: The rows that it was given and has not answered, by number.
        most: How many sequences share a pass; 0 until it is ready.
        is_alone: Whether its line may have killed another process, so that it gets no other beside it.
    """

    process: Any
    connection: Connection
    lines: dict[int, Row] = field(default_factory=dict)
    most: int = 0
    is_alone: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether it has loaded the model."""
        return self.most > 0


class Pool:
    """Processes that answer lines; a context, which ends them."""

    def __init__(self, work: Work, count: int) -> None:
        self._work, self._count = work, count
        self._workers: list[_Worker] = []
        self._suspects: deque[Numbered] = deque()
        self._deaths: Counter[int] = Counter()  # of processes that had a line alone, by its number
        self._in_a_row = 0  # deaths of processes since the last answer
        self._done: dict[int, Outcome] = {}

    def __enter__(self) -> "Pool":
        self._workers = [_start(self._work) for _ in range(self._count)]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()

    def answers(self, rows: Iterator[Row], start: int = 0) -> Iterator[Outcome]:
        """Yield the outcomes of rows, the first of which has the number `start`, in order.

        Raises:
            DiffutronError: A process could not load the model or run it, or one after another died.
            OSError: As for `rows`.
        """
        self._rows, self._read, self._has_ended = enumerate(rows, start), start, False
        number = start
        while not self._has_ended or number < self._read:
            self._deal(number)
            for connection in wait([worker.connection for worker in self._workers], POLL):
                self._receive(next(worker for worker in self._workers if worker.connection is connection))
            while number in self._done:
                yield self._done.pop(number)
                number += 1

    def _deal(self, number: int) -> None:
        """Give lines to each process that has few, none of them too far ahead of `number`, the next to be yielded."""
        for worker in self._workers:
            few, most = len(worker.lines) <= worker.most, PORTION * worker.most
            if self._suspects and not worker.lines and worker.is_ready:
                self._give([self._suspects.popleft()], worker, alone=True)
            elif few and worker.is_ready and not self._suspects and not worker.is_alone:
                room = AHEAD * self._count * most - (self._read - number)
                self._give(self._next(min(most, room)), worker, alone=False)

    def _next(self, most: int) -> list[Numbered]:
        portion = list(islice(self._rows, max(0, most)))
        self._read += len(portion)
        self._has_ended = self._has_ended or len(portion) < most
        return portion

    def _give(self, portion: list[Numbered], worker: _Worker, *, alone: bool) -> None:
        if not portion:
            return
        worker.lines.update(portion)
        worker.is_alone = alone
        with suppress(OSError):  # it has died, which is noticed when its answers are awaited
            worker.connection.send(portion)

    def _receive(self, worker: _Worker) -> None:
        """Receive what a process says, or notice that it has died."""
        try:
            said = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return
        match said:
            case Ready(most):
                worker.most = most
            case Outcome(number):
                del worker.lines[number]
                worker.is_alone = worker.is_alone and bool(worker.lines)
                self._in_a_row, self._done[number] = 0, said
            case Exception():
                raise said

    def _replace(self, worker: _Worker) -> None:
        """Replace a process that has died, and suspect the lines that it had."""
        worker.process.join()
        self._in_a_row += 1
        if self._in_a_row > MOST_IN_A_ROW:
            raise DiffutronError(f"{self._in_a_row} worker processes in a row died: {_cause(worker)}")
        for number, row in worker.lines.items():
            self._deaths[number] += worker.is_alone
            if self._deaths[number] < MOST_DEATHS:
                self._suspects.append((number, row))
            else:
                error = InputError(f"the process that answers it died {MOST_DEATHS} times: {_cause(worker)}")
                record = failed(self._work.format.read(number, row).record, error)
                self._done[number] = Outcome(number, record, failed=True)
        self._workers[self._workers.index(worker)] = _start(self._work)


def _cause(worker: _Worker) -> str:
    code = worker.process.exitcode
    if code is not None and code < 0:
        return f"killed by signal {-code}; if memory is short, take fewer processes or a smaller variant"
    return f"exit code {code}"


def _start(work: Work) -> _Worker:
    """Start a process, which never gets the Ctrl-C of the terminal: it is ended by this one."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=answer_lines, args=(theirs, work), daemon=True)
    with held_back({signal.SIGINT}):
        process.start()
    theirs.close()
    return _Worker(process, ours)


def answer_lines(connection: Connection, work: Work) -> None:
    """Answer the lines that come, until this process is ended; say what goes wrong."""
    warnings.simplefilter("ignore", DiffutronWarning)
    portions: SimpleQueue[list[Numbered]] = SimpleQueue()
    Thread(target=_listen, args=(connection, portions), daemon=True).start()

    def more(may_wait: bool) -> list[Line]:
        try:
            return [work.format.read(*numbered) for numbered in portions.get(may_wait)]
        except Empty:
            return []

    try:
        model = work.load()
        model.config(work.terms.preset, **work.terms.options)
        connection.send(Ready(batch_size(model.forward)))
        for outcome in Answers(model, work.terms, more):
            connection.send(outcome)
    except Exception as error:
        known = isinstance(error, DiffutronError)
        connection.send(error if known else DiffutronError(f"a worker process failed: {type(error).__name__}: {error}"))


def _listen(connection: Connection, portions: "SimpleQueue[list[Numbered]]") -> None:
    """Take in what comes, so that nobody waits to send it, and end the process once the other one is gone."""
    try:
        while True:
            portions.put(connection.recv())
    except (EOFError, OSError):
        os._exit(1)
