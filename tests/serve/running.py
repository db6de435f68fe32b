"""The real server in a process of its own, and what can be seen of it from outside."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SECONDS = 60.0  # for a start, and for whatever else is waited for: a busy machine may stand still for a while
PAGES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Vitals(NamedTuple):
    """What a process holds.

    Attributes:
        memory: Resident, in bytes.
        files: Open ones, sockets included.
        threads: Their number.
    """

    memory: int
    files: int
    threads: int


class Running:
    """A server that has started.

    Attributes:
        port: It listens on, on the loopback.
        pid: Of its process.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.pid, self._process, self._log = process.pid, process, log
        self.port = int(self._wait_for(r"http://127\.0\.0\.1:(\d+)"))
        self._wait_for("ready after")

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def vitals(self) -> Vitals:
        """Return what its process holds now."""
        process = Path(f"/proc/{self.pid}")
        pages = int((process / "statm").read_text().split()[1])
        return Vitals(pages * PAGES, *(len(list((process / name).iterdir())) for name in ("fd", "task")))

    def metrics(self) -> dict[str, float]:
        """Return its figures by their names, labels included."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=SECONDS) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def jobs(self) -> float:
        """Return how many sequences wait or run."""
        found = self.metrics()
        return found["diffutron_waiting_sequences"] + found["diffutron_running_sequences"]

    def settle(self, seconds: float = SECONDS) -> None:
        """Wait until no sequence waits or runs.

        Raises:
            TimeoutError: Some still do.
        """
        end = time.monotonic() + seconds
        while self.jobs():
            if time.monotonic() > end:
                raise TimeoutError(f"{self.jobs():g} sequences are left after {seconds:g} s")
            time.sleep(0.05)

    def lines(self) -> list[dict[str, object]]:
        """Return the lines of the access log, and those of errors."""
        found = (line for line in self._log.read_text("utf-8").splitlines() if line.startswith("{"))
        return [json.loads(line) for line in found]

    def statuses(self) -> Counter[int]:
        """Return how many requests got which status."""
        return Counter(int(str(line["status"])) for line in self.lines() if "status" in line)

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.send_signal(signal.SIGTERM)

    def ended(self, seconds: float) -> int:
        """Wait for its end, and return its exit code."""
        return self._process.wait(seconds)

    def _wait_for(self, pattern: str) -> str:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            if found := re.search(pattern, self._log.read_text("utf-8")):
                return found[found.lastindex or 0]
            time.sleep(0.02)
        raise RuntimeError(f"the server did not start: {self._log.read_text('utf-8')[-2000:]}")


@contextmanager
def running(*arguments: str, prefix: tuple[str, ...] = ()) -> Iterator[Running]:
    """Start `diffutron-ort serve` on a free port, and end it.

    Args:
        arguments: Of the command.
        prefix: What the command is started by, such as `chrt -f 50`.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [*prefix, sys.executable, "-m", "diffutron_ort", "serve", "--port", "0", *arguments]
        with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
            try:
                yield Running(process, log)
            finally:
                process.kill()
