"""Single checks, on machines that are made up: without /proc, with odd cgroups, with other processors."""

import os
import platform
import re
import tomllib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.cli.doctor import conclusion, lines
from diffutron_ort.doctor import answers, cache, examination, memory, network, processor, runtime, speed, threads
from diffutron_ort.doctor.figures import FIGURES, NANO, REAL
from diffutron_ort.doctor.findings import ERROR, NOTE, OK, WARNING, Finding, worst
from diffutron_ort.doctor.probe import Probed, _read
from diffutron_ort.doctor.subject import Subject
from diffutron_ort.errors import OptionError
from diffutron_ort.extras import EXTRAS
from diffutron_ort.runtime.cuda import Trouble
from tests.doctor.machines import without

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
in_a_checkout = pytest.mark.skipif(not RESULTS.exists(), reason="the results are in a checkout, not in a wheel")


class Here(Subject):
    """A subject whose packages are as they are, without processes of their own."""

    packages: ClassVar = {name: Probed({"version": "1"}, "", "") for name in ("numpy", "tokenizers")}


# The list of checks


def test_a_check_that_breaks_is_an_error_and_the_next_one_is_made(monkeypatch):
    def broken(subject):
        yield Finding("threads", OK, "begun")
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(threads, "check", broken)
    monkeypatch.setattr(examination, "CHECKS", [examination.Check("threads"), examination.Check("terminal")])
    begun, failed, terminal = examination.examine(Here())
    assert begun.text == "begun"
    assert (failed.status, failed.text) == (ERROR, "this check broke: ZeroDivisionError: by zero")
    assert "this is a bug: python -X dev" in failed.remedy
    assert terminal.topic == "terminal"


def test_the_worst_finding_counts():
    findings = [Finding("a", status, "") for status in (OK, WARNING, NOTE)]
    assert worst(findings) is WARNING
    assert worst([*findings, Finding("a", ERROR, "")]) is ERROR
    assert worst([]) is OK


def test_a_process_that_says_nothing_has_failed():
    assert _read(0, "", "").error == "its process ended with exit code 0"
    assert _read(1, "", "a\nlast\n").error == "last"
    assert _read(0, 'noise\n{"version": "1"}\n', "").facts == {"version": "1"}
    assert _read(-9, "", "").error == "its process was ended by SIGKILL"
    assert _read(-200, "", "").error == "its process was ended by signal 200"


# Processors


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "status", "said"),
    [
        ("x86_64", "model name : X\nflags : avx2 avx512_vnni amx_int8\n", OK, "int8 is fast (VNNI and AMX)"),
        ("x86_64", "flags : avx2 avx_vnni\n", OK, "int8 is fast (VNNI)"),
        ("x86_64", "flags : avx2 avx512f\n", NOTE, "without VNNI, its products take about 1.7 times as long"),
        ("aarch64", "Features : fp asimd asimddp\n", OK, "int8 has products of its own here (dotprod)"),
        ("aarch64", "Features : fp asimd asimddp i8mm\n", OK, "(dotprod and i8mm)"),
        ("aarch64", "Features : fp asimd\n", NOTE, "no dotprod, no i8mm"),
        ("arm64", None, NOTE, "whether int8 is fast here is not known"),
        ("x86_64", b"\xff", NOTE, "whether int8 is fast here is not known"),
    ],
)
def test_what_a_processor_means_for_int8(machine, cpuinfo, status, said, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_bytes(cpuinfo if isinstance(cpuinfo, bytes) else cpuinfo.encode())
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for function in (processor.processor_flags, processor.processor_name):
        monkeypatch.setattr(function, "__defaults__", (path,))
    named, found = processor.check(Subject())
    assert named.status is OK
    assert found.status is status
    assert said in found.text


# Threads and memory


@pytest.mark.parametrize(
    ("quotas", "statuses", "said"),
    [
        ([], [OK, OK], "4 threads: 8 processors, affinity allows 4, no quota"),
        ([2], [OK, OK], "2 threads: 8 processors, affinity allows 4, the cgroup's quota is 2 whole processors"),
        ([0], [OK, WARNING, OK], "1 thread: 8 processors"),
    ],
)
def test_threads_follow_affinity_and_quota(quotas, statuses, said, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    for name in ("diffutron_ort.runtime.cpu.cgroup_quotas", "diffutron_ort.doctor.threads.cgroup_quotas"):
        monkeypatch.setattr(name, lambda: quotas)
    monkeypatch.setattr(threads, "is_busy", lambda: False)
    found = list(threads.check(Subject()))
    assert [one.status for one in found] == statuses
    assert found[0].text.startswith(said)


def test_a_busy_machine_is_named_and_one_without_a_load_average_is_not(monkeypatch):
    monkeypatch.setattr(threads, "is_busy", lambda: True)
    *_, load = threads.check(Subject())
    assert (load.status, load.remedy) == (NOTE, "run the doctor again when the machine is idle")
    monkeypatch.setattr(threads, "is_busy", lambda: False)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    *_, load = threads.check(Subject())
    assert load.text == "a processor is free (load unknown)"


def room(tmp_path, files, own):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "own").write_text(own)
    return [(one.total, one.free) for one in memory.cgroup(tmp_path, tmp_path / "own")]


V2 = {"memory.max": "512000000", "memory.current": "300000000", "memory.stat": "anon 1\ninactive_file 100000000\n"}
V1 = {"memory/a/memory.limit_in_bytes": "512000000", "memory/a/memory.usage_in_bytes": "300000000"}


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        (V2, "0::/\n", [(512_000_000, 312_000_000)]),
        ({f"a/b/{name}": text for name, text in V2.items()}, "0::/a/b\n", [(512_000_000, 312_000_000)]),
        (V2 | {"memory.max": "max"}, "0::/\n", []),
        (V2 | {"memory.current": "?"}, "0::/\n", []),
        ({name: text for name, text in V2.items() if name != "memory.stat"}, "", [(512_000_000, 212_000_000)]),
        (V1, "4:memory:/a\n3:cpu:/b\n", [(512_000_000, 212_000_000)]),
        (V1 | {"memory/a/memory.limit_in_bytes": str(2**63 - 4096)}, "4:memory:/a\n", []),
        ({}, "0::/\n", []),
    ],
)
def test_memory_of_cgroups(files, own, expected, tmp_path):
    assert room(tmp_path, files, own) == expected


def test_an_unreadable_cgroup_and_a_missing_proc_say_nothing(tmp_path):
    (tmp_path / "memory.max").mkdir()
    assert memory.cgroup(tmp_path, tmp_path / "none") == []
    found = memory.machine(tmp_path / "none")
    assert found.free is None
    assert found.total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    (tmp_path / "meminfo").write_text("MemTotal: lots\n")
    assert memory.machine(tmp_path / "meminfo").free is None


@pytest.mark.parametrize(
    ("total", "free", "status"),
    [(8e9, 4e9, OK), (8e9, 1e8, WARNING), (5e7, 4e7, ERROR), (8e9, None, NOTE), (None, None, NOTE)],
)
def test_too_little_memory_is_an_error_and_little_a_warning(total, free, status, monkeypatch):
    monkeypatch.setattr(memory, "machine", lambda: memory.Room(total, free, "machine"))
    monkeypatch.setattr(memory, "cgroup", list)
    [found] = memory.check(Subject())
    assert found.status is status
    assert found.text.startswith("fp32 needs about 94 MB")


def test_the_cgroup_counts_if_it_has_less():
    machine, group = memory.Room(8, 4, "machine"), memory.Room(6, 3, "cgroup")
    assert memory.smallest([machine, group]) is group
    assert memory.smallest([memory.Room(8, None, "machine"), group]) is group


# Figures, which RESULTS.md has


def measured():
    """Return the table of the section `passes`: figures by model and variant."""
    section = RESULTS.read_text("utf-8").partition("<!-- passes -->")[2].partition("<!-- /passes -->")[0]
    rows = re.findall(r"^\| (nano|full size), (\w+) \| (.*) \|$", section, re.MULTILINE)
    return {(model, variant): [float(cell) for cell in rest.split(" | ")] for model, variant, rest in rows}


@in_a_checkout
def test_the_figures_are_those_of_the_results():
    shapes = {"nano": NANO, "full size": REAL}
    found = {(shapes[model], variant): tuple(row[:2]) for (model, variant), row in measured().items()}
    assert found == {key: tuple(figure) for key, figure in FIGURES.items()}


@in_a_checkout
@pytest.mark.parametrize(("model", "columns"), [("nano", 2023), ("full size", 256_000)])
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_the_estimate_of_memory_is_within_a_tenth_of_what_was_measured(model, variant, columns):
    _, _, peak, weights, tokenizer = measured()[model, variant]
    assert memory.estimate(tokenizer * 1e6, weights * 1e6, columns) == pytest.approx(peak * 1e6, rel=0.1)


def test_the_shape_of_nano_is_nanos():
    bundle = load_bundle()
    assert (bundle.layers, bundle.hidden_size, bundle.columns) == NANO


@pytest.mark.parametrize(
    ("shape", "times", "status", "said"),
    [
        (NANO, (20.0, 18.0, 22.0), OK, "a full pass takes 0.93 times the 21.6 ms of RESULTS.md"),
        (NANO, (90.0, 50.0, 200.0), OK, "4.2 times"),  # some passes are slow: the machine is busy
        (NANO, (90.0, 85.0, 95.0), WARNING, "a full pass is slow: 4.2 times"),
        (REAL._replace(layers=3), (1.0, 1.0, 1.0), NOTE, "no figure for fp32 of this shape"),
    ],
)
def test_a_slow_pass_is_a_warning(shape, times, status, said, monkeypatch):
    monkeypatch.setattr(speed, "is_busy", lambda: False)
    found = speed._compared(shape, "fp32", speed.Times(*times))
    assert found.status is status
    assert said in found.text


def test_a_slow_pass_on_a_busy_machine_says_little(monkeypatch):
    monkeypatch.setattr(speed, "is_busy", lambda: True)
    found = speed._compared(NANO, "fp32", speed.Times(90.0, 85.0, 95.0))
    assert found.status is NOTE
    assert found.text.startswith("all processors are busy, and a full pass takes 4.2 times")


def test_times_are_quartiles():
    assert speed.Times.of([0.001, 0.002, 0.003, 0.004, 0.005]) == pytest.approx((3, 2, 4))
    assert str(speed.Times(1234.5, 99.94, 2000)) == "1,234 ms (99.9 to 2,000)"


# Recorded answers


def test_an_answer_that_differs_by_rounding_is_a_note(model, monkeypatch):
    from diffutron_ort.bundle.conformance import read_pack

    case = next(case for case in read_pack(model.bundle).generations if case.variant == "fp32")
    tokens = case.steps[0] | {"tokens": [token + 1 for token in case.steps[0]["tokens"]]}
    other = replace(case, exact=False, steps=[tokens, *case.steps[1:]])
    assert answers._steps([other], model, "verify").status is NOTE
    assert answers._steps([replace(other, exact=True)], model, "verify").status is ERROR
    assert answers._steps([case], model, "verify").status is OK


def test_steps_end_when_the_time_is_over(model, monkeypatch):
    from diffutron_ort.bundle.conformance import read_pack

    case = max(read_pack(model.bundle).generations, key=lambda case: len(case.steps))
    monkeypatch.setattr(answers, "SECONDS", 0.0)
    found = answers._steps([case], model, "verify")
    assert found.facts["steps"] == 1 < len(case.steps)
    assert found.status is OK


# Providers


@pytest.mark.parametrize(
    ("log", "library"),
    [
        ("error: libcudnn.so.9: cannot open shared object file: No such file", "libcudnn.so.9"),
        (
            "load libonnxruntime_providers_cuda.so with error: libcublasLt.so.12: cannot open shared object file",
            "libcublasLt.so.12",
        ),
        ('LoadLibrary failed: depends on "cudnn64_9.dll" which is missing.', "cudnn64_9.dll"),
        ("CUDA failure 35: CUDA driver version is insufficient", ""),
    ],
)
def test_the_missing_library_is_read_from_the_log(log, library):
    assert runtime.missing_library(log) == library


@pytest.mark.parametrize(
    ("name", "status"),
    [("CPUExecutionProvider", ERROR), ("CUDAExecutionProvider", WARNING), ("TensorrtExecutionProvider", NOTE)],
)
def test_how_grave_it_is_hangs_on_who_would_use_it(name, status):
    [found] = runtime._tried(name, Probed({"loads": False}, "", "first\n\x1b[1mCUDA failure 35\x1b[m\n"))
    assert found.status is status
    assert "does not load: CUDA failure 35" in found.text


@pytest.mark.parametrize(
    ("library", "said", "remedy"),
    [
        ("libcublasLt.so.13", "libcublasLt.so.13 (of nvidia-cublas) is missing", "onnxruntime-gpu[cuda,cudnn]"),
        ("libcuda.so.1", "libcuda.so.1 is missing", "install NVIDIA's driver"),
        ("libnvinfer.so.10", "libnvinfer.so.10 (of tensorrt) is missing", "pip install tensorrt"),
    ],
)
def test_a_missing_library_comes_with_what_brings_it(library, said, remedy):
    log = f"{library}: cannot open shared object file: No such file or directory"
    [found] = runtime._tried("CUDAExecutionProvider", Probed({"loads": False}, "", log))
    assert said in found.text
    assert remedy in found.remedy


def test_each_trouble_of_cuda_is_a_finding_with_its_remedy():
    known = [["NVIDIA's driver finds no GPU", "see nvidia-smi"], ["libcublas.so.13 cannot be loaded", "pip install it"]]
    found = list(runtime._tried("CUDAExecutionProvider", Probed({"loads": False, "troubles": known}, "", "a log")))
    assert [(one.status, one.remedy) for one in found] == [(WARNING, "see nvidia-smi"), (WARNING, "pip install it")]
    assert "does not load: NVIDIA's driver finds no GPU; models run on the CPU instead" in found[0].text


def test_loading_the_model_does_not_warn_of_that_again(monkeypatch):
    monkeypatch.setattr(
        "onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr("diffutron_ort.runtime.usable.troubles", lambda version: iter([Trouble("a", "b")]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Subject().loaded


def test_a_card_without_a_runtime_for_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(runtime, "GPU", tmp_path / "nvidiactl")
    monkeypatch.setattr(runtime, "installed_runtimes", lambda: ["onnxruntime"])
    monkeypatch.setattr(Here, "packages", {"onnxruntime": Probed({"providers": []}, "", "")})
    [found] = runtime.check(Here())
    assert found.status is NOTE
    assert found.remedy == "pip uninstall -y onnxruntime, then pip install 'diffutron-ort[gpu]'"


# Extras, cache, network


@in_a_checkout
def test_the_extras_for_users_are_those_of_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    of_developers = {"dev", "dev-torch", "docs", "optimum", "bench"}
    assert {extra.name for extra in EXTRAS} == extras.keys() - of_developers - {"cpu", "gpu"}
    for extra in EXTRAS:
        needed = re.findall(r"[\w-]+", " ".join(extras[extra.name]))
        assert {module.replace("_", "-") for module in extra.modules} <= {name.replace("_", "-") for name in needed}


def test_a_missing_extra_is_a_note_with_its_command(monkeypatch):
    from diffutron_ort.doctor import versions

    without(monkeypatch, "rich")
    notes = [one for one in versions.check(Here()) if one.text.startswith("[cli]")]
    assert [(one.status, one.remedy) for one in notes] == [(NOTE, "pip install 'diffutron-ort[cli]'")]


def test_little_room_on_the_disk_is_a_warning(tmp_path, monkeypatch):
    from collections import namedtuple

    monkeypatch.setenv("DIFFUTRON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(1e8))
    *_, space = cache.check(Subject())
    assert space.status is WARNING
    assert "100.0 MB of the disk are free, less than" in space.text
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_is_refused_is_an_error(monkeypatch):
    monkeypatch.setenv("DIFFUTRON_CACHE", "/")
    with pytest.raises(OptionError, match="must be a folder of its own"):
        list(cache.check(Subject()))


def test_a_hub_id_needs_a_network_once(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    _, found, *_ = network.check(Subject("owner/name"))
    assert found.text.startswith("a network is needed until the model is here")
    assert "HF_HUB_OFFLINE=1" in found.remedy


@pytest.mark.parametrize(("value", "off"), [(None, True), ("1", True), ("true", True), ("0", False), ("", False)])
def test_telemetry_is_off_unless_the_user_says_otherwise(value, off, monkeypatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    if value is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", value)
    assert network._telemetry().status is (OK if off else WARNING)


# Lines


def test_a_finding_is_one_line_unless_a_terminal_is_narrow():
    finding = Finding("a", OK, "one two three " * 5 + "\x1b[31m", "pip install 'something with a long name'")
    assert lines(finding, None) == [f"{'one two three ' * 5}[31m → pip install 'something with a long name'"]
    *wrapped, remedy = lines(finding, 50)
    assert max(map(len, wrapped)) <= 39
    assert remedy == "→ pip install 'something with a long name'"


def test_the_last_line_says_what_to_do():
    fine, warning, error = (Finding("a", status, "", "") for status in (OK, WARNING, ERROR))
    assert conclusion([fine]) == "All is well."
    assert conclusion([fine, warning, warning]) == "It works, with 2 warnings: see above."
    assert conclusion([error, replace(error, remedy="pip")]) == "2 errors: it will not work. First: pip"
    assert conclusion([error]) == "1 error: it will not work. First: mend what is marked error"
