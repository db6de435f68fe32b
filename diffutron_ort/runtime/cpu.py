"""Choose a number of threads: how many processors this process may use, and whether they are free."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from diffutron_ort.brief import brief
from diffutron_ort.errors import OptionError

MOST_THREADS = 1024
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
LOAD = Path("/proc/loadavg")
# Bytes of weights up to which a model takes one thread on a busy machine: the threads of an operator wait for the
# slowest one, and that one waits for a processor. On two processors at a load of 8 to 11, one thread takes half the
# time of two for a pass at 16 and 59 MB, and 0.6 of it at 236 MB. With one other process at work, the embedded model
# answers in 0.28 s with one thread and in 0.37 to 0.47 s with two; alone, in 0.25 and 0.19. So a wrong guess costs it
# a tenth of a second or two, but the real model, from 311 MB on, seconds.
SMALL = 250e6


def choose_threads(asked: int | None, weights: int) -> int:
    """Return the number of threads of an operator.

    Args:
        asked: The user's number; None takes one for each processor that this process may use, or a single one if the
            model is small and the machine is busy.
        weights: Size of the model's weights in bytes.

    Raises:
        OptionError: `asked` is not a number of threads.
    """
    if asked is None:
        return 1 if weights <= SMALL and is_busy() else usable_threads()
    if type(asked) is not int or not 1 <= asked <= MOST_THREADS:
        raise OptionError(f"threads={brief(asked)}: must be an integer from 1 to {MOST_THREADS}")
    return asked


def usable_threads() -> int:
    """Return how many processors this process may use: the least of its affinity, its quotas and MOST_THREADS."""
    return max(1, min(affinity(), MOST_THREADS, *cgroup_quotas()))


def affinity() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_busy(load: Path = LOAD) -> bool:
    """Return whether each processor has something to run, this thread included; False if the system does not say.

    Linux says how much is running now. Elsewhere only the load average is known, which lags by a minute.
    """
    processors = os.cpu_count() or 1
    with suppress(OSError, ValueError, IndexError):
        return int(load.read_text("ascii").split()[3].partition("/")[0]) >= processors
    with suppress(AttributeError, OSError):  # Windows has no load average
        return os.getloadavg()[0] > processors - 1
    return False


def cgroup_quotas(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> list[int]:
    """Return the number of whole processors that each readable cgroup of this process grants."""
    quotas = [_quota(folder) for folder in cgroups("cpu", root, own)]
    return [quota for quota in quotas if quota is not None]


def cgroups(controller: str, root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> Iterator[Path]:
    """Yield the folders of this process's cgroups in which a controller can set limits, up to each hierarchy's root.

    In a container the paths can be the host's; then only the roots exist.

    Args:
        controller: `cpu` or `memory`.
        root: Where the hierarchies are.
        own: The file that says which cgroups are this process's.
    """
    yield from (root, root / controller)
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            controllers, _, path = line.partition(":")[2].partition(":")
            if controllers and controller not in controllers.split(","):
                continue
            # Version 1; or version 2, with or without 1 beside it.
            names = (controllers, controller) if controllers else ("", "unified")
            for group in (PurePosixPath(path), *PurePosixPath(path).parents):
                yield from (root / name / str(group).lstrip("/") for name in names)


def _quota(folder: Path) -> int | None:
    """Return the number of whole processors that a cgroup grants; None if it grants all, or cannot be read."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # version 2, and 1
        with suppress(OSError, ValueError):
            quota, period = map(int, " ".join((folder / name).read_text() for name in names).split())
            if quota > 0 and period > 0:
                return quota // period
    return None
