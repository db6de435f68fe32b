"""Whether the memory suffices for the model.

The estimate of a process's peak, in bytes, is BASE + TOKENIZER x the size of tokenizer.json + WEIGHTS x the size of the
weights, whose mapped pages count, + ARRAYS arrays, float32 [ROWS, vocabulary], of the head. It fits the peaks in
benchmarks/RESULTS.md to within a tenth, which a test checks.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from diffutron_ort.bundle.load import TOKENIZER as TOKENIZER_FILE
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.doctor.findings import ERROR, NOTE, OK, WARNING, Finding
from diffutron_ort.doctor.subject import Subject
from diffutron_ort.runtime.cpu import CGROUPS, OWN_CGROUPS, cgroups

TOPIC = "memory"
BASE, TOKENIZER, WEIGHTS, ARRAYS, ROWS = 76e6, 5.25, 1.03, 5.25, 32
MARGIN = 1.25  # what should be free, in units of the estimate
MEMINFO = Path("/proc/meminfo")


class Room(NamedTuple):
    """Memory in bytes; None where it is not known.

    Attributes:
        total: What this process may use at most.
        free: What is left of it.
        limit: What sets that bound: the machine, or the cgroup.
    """

    total: int | None
    free: int | None
    limit: str


def check(subject: Subject) -> Iterator[Finding]:
    """Compare the memory that is there with the estimate for the model."""
    room = smallest([machine(), *cgroup()])
    need = needed(subject.bundle, subject.running)
    facts = {"need": need, "total": room.total, "free": room.free, "limit": room.limit}
    said = f"{subject.running} needs about {_megabytes(need)}"
    if room.free is None or room.total is None:
        yield Finding(TOPIC, NOTE, f"{said}; how much is free is not known", facts=facts)
        return
    text = f"{said}; {_megabytes(room.free)} of the {room.limit}'s {_megabytes(room.total)} are free"
    remedy = "take a smaller variant (int8), or raise the limit"
    if room.total < need:
        yield Finding(TOPIC, ERROR, text, remedy, facts)
    elif room.free < MARGIN * need:
        yield Finding(TOPIC, WARNING, text, f"end other programs, or {remedy}", facts)
    else:
        yield Finding(TOPIC, OK, text, facts=facts)


def needed(bundle: Bundle, variant: str) -> int:
    """Return an estimate of the peak of a process that generates, in bytes."""
    weights = bundle.files[bundle.variant(variant).weights].size
    return estimate(bundle.files[TOKENIZER_FILE].size, weights, bundle.columns)


def estimate(tokenizer: float, weights: float, columns: int) -> int:
    """Return the estimate for files of these sizes in bytes, and a vocabulary of so many predictable pieces."""
    return round(BASE + TOKENIZER * tokenizer + WEIGHTS * weights + ARRAYS * ROWS * columns * 4)


def smallest(rooms: list[Room]) -> Room:
    """Return the room with the least free memory, or an unknown one if no room is known."""
    known = [room for room in rooms if room.free is not None]
    return min(known, key=lambda room: room.free or 0, default=rooms[0])


def machine(meminfo: Path = MEMINFO) -> Room:
    """Return the machine's memory."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text("ascii").splitlines())
        total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError, IndexError):
        return Room(_physical(), None, "machine")
    return Room(total, free, "machine")


def _physical() -> int | None:
    with suppress(AttributeError, OSError, ValueError):  # not everywhere
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def cgroup(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> list[Room]:
    """Return what each cgroup of this process that limits memory grants; unreadable ones say nothing."""
    rooms = [_granted(folder) for folder in dict.fromkeys(cgroups("memory", root, own))]
    return [room for room in rooms if room is not None]


def _granted(folder: Path) -> Room | None:
    """Return what a cgroup grants; what it has cached of files can be taken back, and counts as free."""
    versions = (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    for limit, usage, cached in versions:
        with suppress(OSError, ValueError):  # `max`, which is no number, is no limit
            total, used = (int((folder / name).read_text()) for name in (limit, usage))
            if total < 2**60:  # version 1 writes a huge number where there is no limit
                return Room(total, max(0, total - used + _statistic(folder, cached)), "cgroup")
    return None


def _statistic(folder: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        pairs = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return next((int(value) for key, value in pairs if key == name), 0)
    return 0


def _megabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
