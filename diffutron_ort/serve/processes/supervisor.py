"""Several processes that serve on one socket: started, watched, replaced, and ended together.

Each is started afresh and loads its own model: threads and locks of a loaded one would not survive a fork. Weights are
mapped, so that the system holds them once.
"""

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import connection, get_context
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from diffutron_ort.errors import DiffutronError
from diffutron_ort.runtime.cpu import usable_threads
from diffutron_ort.serve.processes import worker
from diffutron_ort.serve.processes.worker import Work
from diffutron_ort.serve.settings import Settings
from diffutron_ort.signals import held_back

METRICS = "PROMETHEUS_MULTIPROC_DIR"
LAST = 15.0  # seconds to end, beyond the grace
START = 120.0  # seconds for a process to give its first sign of life, which takes imports alone
SILENCE = 5.0  # seconds without a sign of life, beyond the limit of a pass
DEATHS = 5  # in a row, of processes that were never ready
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Process:
    """A process that serves, as its supervisor sees it.

    Attributes:
        was_ready: Whether it has taken requests.
        failure: What it failed with, if it has told.
    """

    def __init__(self, work: Work, listener: socket.socket, settings: Settings, *, loads_first: bool) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe(duplex=False)
        given = (work, listener, settings, theirs, loads_first)
        self._process = context.Process(target=worker.start, args=given, daemon=True)
        with held_back(worker.IGNORED):
            self._process.start()
        theirs.close()
        self._silent_until = time.monotonic() + START
        self._patience = settings.pass_timeout + SILENCE
        self.failure, self.was_ready = "", False

    @property
    def id(self) -> int:
        """The system's number of the process."""
        return self._process.pid or 0

    @property
    def has_ended(self) -> bool:
        """Whether it is no more."""
        return not self._process.is_alive()

    @property
    def is_silent(self) -> bool:
        """Whether it should have given a sign of life."""
        return time.monotonic() > self._silent_until

    @property
    def end(self) -> str:
        """How it has ended, in words."""
        code = self._process.exitcode or 0
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"

    def hear(self) -> None:
        """Take all that it has told."""
        try:
            while self.pipe.poll():
                state, self.failure = self.pipe.recv()
                self.was_ready |= state == "ready"
                self._silent_until = time.monotonic() + self._patience
        except (EOFError, OSError):
            self._process.join(SILENCE)

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if not self.has_ended:
            os.kill(self.id, number)

    def bury(self) -> None:
        """Wait until it has ended, and forget it."""
        self._process.join()
        mark_process_dead(self.id)  # type: ignore[no-untyped-call]
        self.pipe.close()


class Supervisor:
    """Keeps as many processes serving as the settings say."""

    def __init__(self, listener: socket.socket, settings: Settings, say: Callable[[str], object], work: Work) -> None:
        """Set up a supervisor.

        Args:
            listener: The socket that all of them accept from.
            settings: What they serve; where it leaves the threads open, they are divided.
            say: Called with what people should know.
            work: What each of them runs. It must be importable, for it is sent to them by name.
        """
        threads = settings.threads or max(1, usable_threads() // settings.processes)
        self._listener, self._settings = listener, replace(settings, threads=threads)
        self._say, self._work = say, work
        self._processes: list[Process] = []
        self._deaths = 0
        self._told, self._tell = connection.Pipe(duplex=False)

    def run(self) -> int:
        """Serve until a signal, and return the exit code.

        Raises:
            DiffutronError: The model cannot be loaded.
        """
        with _metrics_folder(), self._handling_signals():
            try:
                for _ in range(self._settings.processes):
                    self._processes.append(self._start(loads_first=False))
                code = self._watch()
            finally:
                at_once = self._end()
        return at_once or code

    def _start(self, *, loads_first: bool) -> Process:
        return Process(self._work, self._listener, self._settings, loads_first=loads_first)

    def _watch(self) -> int:
        """Replace processes that end or hang, until a signal; return the exit code that it asks for."""
        while not self._told.poll():
            connection.wait([self._told, *(one.pipe for one in self._processes)], timeout=1)
            for place, process in enumerate(self._processes):
                self._processes[place] = self._looked_after(process)
        return 130 if self._told.recv() == signal.SIGINT else 0

    def _looked_after(self, process: Process) -> Process:
        """Return a process, or another in its place."""
        was_ready, has_ended = process.was_ready, process.has_ended  # before it is heard, lest its last words be missed
        process.hear()
        if process.was_ready and not was_ready:
            self._deaths = 0
        if process.failure and not process.was_ready:
            raise DiffutronError(process.failure)
        if process.is_silent and not process.has_ended:
            self._say(f"worker {process.id} gives no sign of life: killing it")
            process.signal(signal.SIGKILL)
            process.bury()
            has_ended = True
        return self._replaced(process) if has_ended and not self._told.poll() else process

    def _replaced(self, process: Process) -> Process:
        process.bury()
        self._deaths += not process.was_ready
        if self._deaths >= DEATHS:
            raise DiffutronError(
                f"{DEATHS} workers in a row have ended before they could serve, the last {process.end}"
            )
        self._say(f"worker {process.id} has ended {process.end}: starting another")
        return self._start(loads_first=any(one.was_ready for one in self._processes if one is not process))

    def _end(self) -> int:
        """Let all finish what they have accepted; kill what takes too long.

        Returns:
            The exit code that a second signal asks for, which kills all; 0 without one.
        """
        for process in self._processes:
            process.signal(signal.SIGTERM)
        end = time.monotonic() + self._settings.grace + LAST
        while time.monotonic() < end and not self._told.poll():
            if all(one.has_ended for one in self._processes):
                break
            connection.wait([self._told], timeout=0.05)
            for process in self._processes:
                process.hear()  # lest they wait for room in their pipes
        for process in self._processes:
            process.signal(signal.SIGKILL)
            process.bury()
        return 128 + int(self._told.recv()) if self._told.poll() else 0

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """Note the signals that end a server; one that is ignored, as `nohup` has it, stays so."""

        def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            self._tell.send(number)

        usual = {number: signal.getsignal(number) for number in SIGNALS}
        mine = [number for number in SIGNALS if usual[number] is not signal.SIG_IGN]
        for number in mine:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number in mine:
                signal.signal(number, usual[number])


@contextmanager
def _metrics_folder() -> Iterator[None]:
    """Give the processes a folder in which their figures are added up."""
    if METRICS in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="diffutron-metrics-") as folder:
        os.environ[METRICS] = folder
        try:
            yield
        finally:
            del os.environ[METRICS]
