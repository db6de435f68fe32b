"""Measures contenders in turn, each in a process of its own, and writes down every sample."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

from contest.contenders import CONTENDERS, Contender
from contest.others import Others

BENCHMARKS = Path(__file__).parents[1]
WHOLE_BELOW = 45.0
"""Seconds: composed answers of peers that take less are checked against a whole one."""


class Sample(NamedTuple):
    """One measurement: of whom, of what, beside which peers, in which round, and what came out.

    Also, which part of the processors' time other processes took meanwhile.
    """

    contender: str
    measure: str
    group: str
    round: int
    value: float
    others: float = 0.0


class WorkerError(RuntimeError):
    """A contender could not do what it was asked to."""


class Worker:
    """A contender's process, seen from outside."""

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.started = name, time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "contest.worker", name, str(work.resolve())],
            cwd=BENCHMARKS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONWARNINGS": "ignore", "TOKENIZERS_PARALLELISM": "false"},
        )
        self.others = Others(self.process.pid)
        self.measures: list[str] = []

    def __enter__(self) -> Self:
        """Wait until the contender has loaded."""
        try:
            self.measures = self._read()["measures"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def __call__(self, command: str) -> Any:
        """Have a command done, and return its value."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._read()["value"]

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise WorkerError(f"{self.name}: {answer['error'].strip().splitlines()[-1]}\n{answer['error']}")
        return answer


class Contest:
    """Runs the rounds.

    Peers are measured in groups of one framework, since all at once would not fit into memory; ours and the floors are
    measured in every round of every group, so that each ratio is of figures from the same minutes.
    """

    def __init__(self, contenders: Sequence[Contender], work: Path, wanted: Callable[[str], bool], rounds: int) -> None:
        self.peers = [contender for contender in contenders if not contender.accompanies]
        self.company = [contender for contender in contenders if contender.accompanies]
        self.work, self.wanted, self.rounds = work, wanted, rounds
        self.samples: list[Sample] = []
        self.failures: list[str] = []

    def interleaved(self) -> None:
        """Measure every group, round by round."""
        groups = list(dict.fromkeys(peer.group for peer in self.peers)) or ["ours"]
        with ExitStack() as kept:
            company = self._start(kept, self.company)
            for group in groups:
                with ExitStack() as stack:
                    peers = self._start(stack, [peer for peer in self.peers if peer.group == group])
                    for number in range(self.rounds):
                        for worker in (*peers, *company):
                            self._measure(worker, group, number, filter(self.wanted, worker.measures))
                    self._check_whole(peers, group)

    def fresh(self, contenders: Iterable[Contender], times: int) -> None:
        """Measure what only a new process can show: seconds to the end of the first step, and peak memory."""
        chosen = [contender for contender in contenders if contender.group != "floor"]
        for number in range(times):
            for contender in chosen:
                try:
                    with Worker(contender.name, self.work) as worker:
                        worker("first")
                        seconds = time.perf_counter() - worker.started
                        self._add(worker, "start", "fresh", number, seconds, worker.others)
                        worker("generation")
                        self._add(worker, "peak", "fresh", number, worker("peak"), worker.others)
                except WorkerError as error:
                    self._fail(error)

    def _start(self, stack: ExitStack, contenders: Iterable[Contender]) -> list[Worker]:
        workers = []
        for contender in contenders:
            try:
                workers.append(stack.enter_context(Worker(contender.name, self.work)))
            except WorkerError as error:
                self._fail(error)
        return workers

    def _measure(self, worker: Worker, group: str, number: int, names: Iterable[str]) -> None:
        for name in names:
            others = Others(worker.process.pid)
            try:
                self._add(worker, name, group, number, worker(name), others)
            except WorkerError as error:
                self._fail(error)

    def _check_whole(self, peers: Sequence[Worker], group: str) -> None:
        """Time one whole answer of each kind by the peer that is fastest at it, if that is a matter of seconds."""
        for kind in ("written", "cut"):
            composed: dict[str, list[float]] = {}
            for sample in self.samples:
                if (sample.group, sample.measure) == (group, f"answer {kind}"):
                    composed.setdefault(sample.contender, []).append(sample.value)
            found = [(median(composed[worker.name]), worker) for worker in peers if worker.name in composed]
            if found and (fastest := min(found, key=itemgetter(0)))[0] < WHOLE_BELOW:
                self._measure(fastest[1], group, self.rounds, [f"whole {kind}"])

    def _add(self, worker: Worker, measure: str, group: str, number: int, value: float, others: Others) -> None:
        sample = Sample(worker.name, measure, group, number, value, others.share())
        self.samples.append(sample)
        told = f"{group} {number + 1}: {worker.name} {measure}: {value:.3f}, others {sample.others:.0%}"
        print(told, file=sys.stderr, flush=True)

    def _fail(self, error: WorkerError) -> None:
        told = str(error).splitlines()[0]
        if told not in self.failures:
            self.failures.append(told)
            print(error, file=sys.stderr, flush=True)


def labels() -> dict[str, str]:
    """Return what each contender is called in print."""
    return {contender.name: contender.label for contender in CONTENDERS}
