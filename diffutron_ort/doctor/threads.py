"""How many threads an operator gets, and whether the processors are free."""

import os
from collections.abc import Iterator

from diffutron_ort.doctor.findings import NOTE, OK, WARNING, Finding
from diffutron_ort.doctor.subject import Subject
from diffutron_ort.runtime.cpu import affinity, cgroup_quotas, is_busy, usable_threads

TOPIC = "threads"


def check(subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """Report the number of threads, what limits it, and the load."""
    present, allowed, quotas = os.cpu_count() or 1, affinity(), cgroup_quotas()
    limits = [f"{_count(present, 'processor')}"]
    if allowed < present:
        limits.append(f"affinity allows {allowed}")
    limits.append(f"the cgroup's quota is {_count(min(quotas), 'whole processor')}" if quotas else "no quota")
    threads, quota = usable_threads(), min(quotas, default=None)
    facts = {"processors": present, "affinity": allowed, "quota": quota, "threads": threads}
    yield Finding(TOPIC, OK, f"{_count(threads, 'thread')}: {', '.join(limits)}", facts=facts)
    if quota == 0:
        text = "the cgroup grants less than one processor, so every pass is stopped now and then"
        remedy = "raise the quota: docker run --cpus 1, or CPUQuota=100% of a systemd unit"
        yield Finding(TOPIC, WARNING, text, remedy)
    yield _load()


def _load() -> Finding:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    said = "load unknown" if load is None else f"load {load:.1f}"
    facts = {"load": load, "busy": is_busy()}
    if not facts["busy"]:
        return Finding(TOPIC, OK, f"a processor is free ({said})", facts=facts)
    remedy = "run the doctor again when the machine is idle"
    return Finding(TOPIC, NOTE, f"all processors are busy ({said}): the times below are too long", remedy, facts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
