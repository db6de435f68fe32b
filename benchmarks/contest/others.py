"""How much of the processor others had while something was measured: figures from a busy machine show it."""

import os
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
IDLE = (3, 4)
"""Columns of /proc/stat in which nothing runs: idle, and waiting for a disk."""
COUNTED = 8
"""Columns that add up; guests' time, which follows, is counted in them already."""


class Others:
    """Compares the whole machine's work with one process's, from when it is made on."""

    def __init__(self, process: int) -> None:
        self.process = process
        self.before = self._seconds()

    def share(self) -> float:
        """Return which part of all processors' time went to other processes, 0 to 1."""
        total, busy, own = (now - then for now, then in zip(self._seconds(), self.before, strict=True))
        return min(1.0, max(0.0, busy - own) / total) if total else 0.0  # rounding can exceed the whole

    def _seconds(self) -> tuple[float, float, float]:
        """Return the seconds of all processors so far: all there were, busy ones, and those of the process."""
        first, *_ = Path("/proc/stat").read_text("utf-8").splitlines()
        ticks = [int(value) for value in first.split()[1 : COUNTED + 1]]
        idle = sum(ticks[column] for column in IDLE)
        after_name = Path(f"/proc/{self.process}/stat").read_text("utf-8").rpartition(")")[2].split()
        own = int(after_name[11]) + int(after_name[12])  # utime and stime, which are fields 14 and 15
        return sum(ticks) / TICK, (sum(ticks) - idle) / TICK, own / TICK
