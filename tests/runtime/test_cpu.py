"""How many threads are taken, by what a made-up machine says of itself."""

import os

import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.errors import OptionError
from diffutron_ort.runtime import cpu as processors
from diffutron_ort.runtime.cpu import MOST_THREADS, SMALL, choose_threads, usable_threads
from diffutron_ort.runtime.generation import Generation
from diffutron_ort.runtime.session import Session


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that makes files of cgroups and of the load, and says which of the former are this process's.

    With `running` None, there is a load average, but no file of the load.
    """

    def make(files, own=None, cores=8, running=1, load=0.0):
        root = tmp_path / "cgroup"
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        said = tmp_path / "own"
        if own is not None:
            said.write_text(own)
        monkeypatch.setattr(processors.cgroup_quotas, "__defaults__", (root, said))
        if running is not None:
            (tmp_path / "loadavg").write_text(f"{load} 0.00 0.00 {running}/321 4567\n")
        monkeypatch.setattr(processors.is_busy, "__defaults__", (tmp_path / "loadavg",))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)

    return make


V1 = "5:memory:/a\n4:cpu,cpuacct:/a/b\n1:name=systemd:/a\n"


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({}, None, 8),
        ({"cpu.max": "150000 100000"}, None, 1),
        ({"cpu.max": "50000 100000"}, None, 1),
        ({"cpu.max": "max 100000"}, None, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, 8),
        # Groups below the root: a service's CPUQuota, a pod in a pod.
        ({"system.slice/a.service/cpu.max": "200000 100000"}, "0::/system.slice/a.service\n", 2),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "500000 100000"}, "0::/a/b\n", 3),
        ({"a/cpu.max": "500000 100000", "a/b/cpu.max": "300000 100000"}, "0::/a/b\n", 3),
        ({"a/cpu.max": "max 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 8),
        ({"b/cpu.max": "200000 100000"}, "0::/a\n", 8),  # another's
        ({"cpu.max": "400000 100000"}, "0::/docker/of/the/host\n", 4),
        ({"unified/a/cpu.max": "200000 100000"}, "0::/a\n", 2),
        ({"cpu/a/b/cpu.cfs_quota_us": "200000", "cpu/a/b/cpu.cfs_period_us": "100000"}, V1, 2),
        ({"cpu,cpuacct/a/cpu.cfs_quota_us": "200000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, V1, 2),
        ({"memory/a/cpu.max": "100000 100000"}, V1, 8),
        # Files that are empty or odd say nothing, and hide nothing.
        ({"cpu.max": ""}, "0::/\n", 8),
        ({"cpu.max": "200000"}, "0::/\n", 8),
        ({"cpu.max": "200000 0"}, "0::/\n", 8),
        ({"cpu.max": "200000 -100000"}, "0::/\n", 8),
        ({"cpu.max": "0 100000"}, "0::/\n", 8),
        ({"cpu.max": "a lot of it"}, "0::/\n", 8),
        ({"cpu.max": b"\xff\xfe"}, "0::/\n", 8),
        ({"cpu.max": "9" * 5000 + " 100000"}, "0::/\n", 8),
        ({"cpu.max": "9" * 400 + " 1"}, "0::/\n", 8),
        ({"cpu.max": "", "a/cpu.max": "200000 100000"}, "0::/a\n", 2),
        ({"cpu/cpu.cfs_quota_us": "", "cpu/cpu.cfs_period_us": ""}, V1, 8),
        ({"cpu/cpu.cfs_quota_us": "200000"}, V1, 8),
        ({"cpu.max": "200000 100000"}, "", 2),
        ({"cpu.max": "200000 100000"}, "rubbish\n\n:\n0::\n", 2),
        ({"cpu.max": "200000 100000"}, "0::/../../x\0y\n", 2),
        ({"a/cpu.max/x": "a folder"}, "0::/a\n", 8),
    ],
)
def test_threads_follow_affinity_and_the_least_quota(machine, files, own, expected):
    machine(files, own)
    assert usable_threads() == expected


def test_a_machine_of_very_many_processors_is_none_too_many(machine):
    machine({}, cores=4096)
    assert choose_threads(None, 10**9) == MOST_THREADS
    assert usable_threads() == MOST_THREADS


@pytest.mark.parametrize(
    ("cores", "running", "weights", "expected"),
    [
        (2, 0, 16e6, 2),  # a sandbox that counts nothing
        (2, 1, 16e6, 2),  # itself
        (2, 2, 16e6, 1),
        (2, 9, 16e6, 1),
        (2, 9, SMALL, 1),
        (2, 9, SMALL + 1, 2),
        (2, 9, 311e6, 2),
        (64, 63, 16e6, 64),
        (64, 64, 16e6, 1),
        (1, 9, 16e6, 1),
    ],
)
def test_a_small_model_takes_one_thread_on_a_busy_machine(machine, cores, running, weights, expected):
    machine({}, cores=cores, running=running, load=cores - running)  # the average says the opposite
    assert choose_threads(None, weights) == expected


@pytest.mark.parametrize(("load", "expected"), [(0.0, 2), (1.0, 2), (1.1, 1), (9.0, 1)])
def test_the_load_average_counts_where_nothing_else_is_known(machine, load, expected):
    machine({}, cores=2, running=None, load=load)
    assert choose_threads(None, 16e6) == expected


@pytest.mark.parametrize("content", [b"", b"0.1 0.1", b"0.1 0.1 0.1 x/9 1", b"0.1 0.1 0.1 \xff/9 1"])
def test_a_damaged_file_of_the_load_says_nothing(machine, tmp_path, content):
    machine({}, cores=2, load=9.0)
    (tmp_path / "loadavg").write_bytes(content)
    assert choose_threads(None, 16e6) == 1


def test_what_is_asked_for_is_taken_however_busy_the_machine_is(machine):
    machine({}, cores=2, running=99)
    assert choose_threads(2, 16e6) == 2
    assert Session(load_bundle(), threads=2).threads == 2
    assert Session(load_bundle()).threads == 1
    assert Generation(load_bundle())._session.get_session_options().intra_op_num_threads == 1
    assert Generation(load_bundle(), threads=2)._session.get_session_options().intra_op_num_threads == 2


@pytest.mark.parametrize("error", [AttributeError, OSError])
def test_a_machine_that_does_not_say_how_busy_it_is_counts_as_quiet(machine, monkeypatch, error):
    machine({}, cores=2, running=None)

    def no_load():
        raise error

    monkeypatch.setattr(os, "getloadavg", no_load, raising=False)
    assert choose_threads(None, 16e6) == 2


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", 2**40, MOST_THREADS + 1])
def test_threads_must_be_a_number_of_threads(threads):
    for opened in (Session, Generation):
        with pytest.raises(OptionError, match="threads="):
            opened(load_bundle(), threads=threads)
