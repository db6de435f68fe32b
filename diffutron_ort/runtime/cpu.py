"""How many processors this process may keep busy, and whether they are free."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from diffutron_ort.brief import brief
from diffutron_ort.errors import OptionError

MOST_THREADS = 1024
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
# Bytes of weights up to which a model takes one thread on a busy machine: the threads of an operator wait for the
# slowest of them, and that one for a processor. On two processors at a load of 8 to 11, one thread halves the time of a
# pass at 16 and 59 MB, and takes 0.6 of it at 236 MB. The load average lags by a minute, and a wrong guess costs the
# demonstration a tenth of a second an answer, but the real size, 311 MB or more, seconds.
SMALL = 250e6


def choose_threads(asked: int | None, weights: int) -> int:
    """Return how many threads run an operator.

    Args:
        asked: What the user says; None takes all processors that this process may use, but one thread where the model
            is small and others keep the machine busy.
        weights: Bytes of the model's.

    Raises:
        OptionError: `asked` is no number of threads.
    """
    if asked is None:
        return 1 if weights <= SMALL and is_busy() else usable_threads()
    if type(asked) is not int or not 1 <= asked <= MOST_THREADS:
        raise OptionError(f"threads={brief(asked)}: must be an integer from 1 to {MOST_THREADS}")
    return asked


def usable_threads() -> int:
    """Return how many threads this process can keep busy: the least of its affinity, its quotas and MOST_THREADS."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, MOST_THREADS, *cgroup_quotas()))


def is_busy() -> bool:
    """Return whether less than one processor of the machine was free in the last minute, as far as it says."""
    try:
        return os.getloadavg()[0] > (os.cpu_count() or 1) - 1
    except (AttributeError, OSError):  # Windows has no load average
        return False


def cgroup_quotas(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> list[int]:
    """Return the whole processors that each of this process's cgroups grants, of those that can be read."""
    quotas = [_quota(folder) for folder in _cgroups(root, own)]
    return [quota for quota in quotas if quota is not None]


def _cgroups(root: Path, own: Path) -> Iterator[Path]:
    """Yield the folders of this process's cgroups that may limit processors, up to the root of each hierarchy.

    In a container the paths may be the host's, of which only the root is there.
    """
    yield from (root, root / "cpu")
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            controllers, _, path = line.partition(":")[2].partition(":")
            if controllers and "cpu" not in controllers.split(","):
                continue
            names = (controllers, "cpu") if controllers else ("", "unified")  # version 1; version 2, alone or beside 1
            for group in (PurePosixPath(path), *PurePosixPath(path).parents):
                yield from (root / name / str(group).lstrip("/") for name in names)


def _quota(folder: Path) -> int | None:
    """Return the whole processors that a cgroup grants; None where it grants all, or does not say."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # of version 2, and of 1
        with suppress(OSError, ValueError):
            quota, period = map(int, " ".join((folder / name).read_text() for name in names).split())
            if quota > 0 and period > 0:
                return quota // period
    return None
