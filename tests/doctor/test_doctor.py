"""`diffutron-ort doctor` as a whole, on this machine and on broken installations, in processes of their own."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diffutron_ort.doctor import bundle
from diffutron_ort.doctor.examination import CHECKS
from diffutron_ort.doctor.findings import ERROR
from diffutron_ort.doctor.subject import Subject
from tests.command import BUFFERED, COMMAND, on_terminal, run
from tests.doctor.machines import distribution, doctor, errors, stub

TOPICS = [check.topic for check in CHECKS]


@pytest.fixture(scope="module")
def healthy():
    return doctor()


def test_on_this_machine_every_check_is_made_and_nothing_is_broken(healthy):
    code, found, err = healthy
    assert code == 0
    assert err == ""
    assert list(found) == TOPICS
    assert errors(found) == []
    assert not [one for findings in found.values() for one in findings if "not checked" in one["text"]]


def test_json_has_the_same_fields_everywhere(healthy):
    for findings in healthy[1].values():
        for one in findings:
            assert list(one) == ["topic", "status", "text", "remedy", "facts"]
            assert one["status"] in ("ok", "note", "warning", "error")
            assert "\n" not in one["text"] + one["remedy"]


def test_the_head_of_the_json_counts_what_follows():
    report = json.loads(run("doctor", "nowhere", "--json").stdout)
    assert list(report) == ["version", "status", "counts", "findings"]
    assert sum(report["counts"].values()) == len(report["findings"])
    assert report["counts"][report["status"]] > 0


# Broken packages


@pytest.mark.parametrize(
    ("name", "source", "said", "remedy"),
    [
        ("onnxruntime", "raise ImportError('libfoo.so.1: cannot open')", "libfoo.so.1", "pip install"),
        ("onnxruntime", "", "the installed ONNX Runtime is broken", "ninstall"),
        ("onnxruntime", "__version__ = '1.20.0'\nclass InferenceSession: pass", "is too old", "onnxruntime>=1.24.2"),
        ("onnxruntime", "import os, signal; os.kill(os.getpid(), signal.SIGILL)", "built for another processor", "pip"),
        ("onnxruntime", "import os; os.kill(os.getpid(), 11)", "SIGSEGV", "--force-reinstall onnxruntime"),
        ("onnxruntime", "import os; os._exit(3)", "exit code 3", "pip"),
        ("onnxruntime", "raise SystemExit('gone')", "gone", "pip"),
        ("tokenizers", "raise ImportError('no rust')", "tokenizers cannot be used: no rust", "pip"),
        ("numpy", "raise ImportError('no C extension')", "numpy cannot be used: no C extension", "pip"),
        ("numpy", "import os; os.kill(os.getpid(), 4)", "numpy cannot be used: its process was ended by SIGILL", "pip"),
    ],
)
def test_a_broken_package_is_an_error_and_stops_no_other_check(name, source, said, remedy, tmp_path):
    code, found, err = doctor(path=stub(tmp_path, name, source))
    assert code == 1
    assert "Traceback" not in err
    assert list(found) == TOPICS
    [first, *_] = [text for text in errors(found) if text.startswith(name)]
    assert said in first
    assert remedy in first
    assert f"not checked, for want of {name}" in found["speed"][0]["text"] or name == "numpy"
    assert found["terminal"][0]["text"].startswith("UTF-8")


def test_both_runtimes_are_named_with_the_commands_that_mend_it(tmp_path):
    code, found, _ = doctor(path=distribution(distribution(tmp_path, "onnxruntime"), "onnxruntime-gpu"))
    assert code == 1
    [said] = errors(found)
    assert "onnxruntime and onnxruntime-gpu are both installed, and overwrite each other" in said
    assert "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'diffutron-ort[cpu]'" in said


CUDA = """
import sys
from importlib import util
__version__, cuda_version = "1.32.0", "99.0"  # of which nothing is known
def get_available_providers(): return ["CUDAExecutionProvider", "CPUExecutionProvider"]
class InferenceSession:
    def __init__(self, model, providers, **how):
        self.providers = ["CPUExecutionProvider"]
        if "CUDA" in providers[0]:
            sys.stderr.write("\\x1b[1;31m[E:onnxruntime] Failed to load library libonnxruntime_providers_cuda.so with "
                             "error: {library}: cannot open shared object file: No such file or directory\\x1b[m\\n")
    def run(self, names, given): return [given["x"]]
    def get_providers(self): return self.providers
"""


@pytest.mark.parametrize(
    ("library", "said", "remedy"),
    [
        ("libcudnn.so.9", "libcudnn.so.9 (of nvidia-cudnn-cu13)", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
        ("libodd.so.2", "libodd.so.2 is missing", "--provider cpu"),
    ],
)
def test_a_provider_that_is_listed_and_does_not_load_is_named_with_the_missing_library(library, said, remedy, tmp_path):
    _, found, _ = doctor(path=stub(tmp_path, "onnxruntime", CUDA.replace("{library}", library)))
    cuda, cpu = found["runtime"]
    assert cuda["status"] == "warning"
    assert cuda["text"].startswith("CUDAExecutionProvider is listed, but does not load: ")
    assert said in cuda["text"]
    assert cuda["text"].endswith("models run on the CPU instead")
    assert remedy in cuda["remedy"]
    assert cuda["facts"] == {"provider": "CUDAExecutionProvider", "loads": False, "library": library}
    assert (cpu["status"], cpu["text"]) == ("ok", "CPUExecutionProvider loads")


def test_a_library_that_pip_has_put_where_the_loader_does_not_look_is_found(tmp_path):
    stub(tmp_path, "onnxruntime", CUDA.replace("{library}", "libcudnn.so.9"))
    (tmp_path / "nvidia" / "cudnn" / "lib").mkdir(parents=True)
    (tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9").touch()
    _, found, _ = doctor(path=tmp_path)
    assert f'export LD_LIBRARY_PATH="{tmp_path}/nvidia/cudnn/lib:$LD_LIBRARY_PATH"' in found["runtime"][0]["remedy"]


# Models


def test_a_damaged_bundle_is_an_error_and_the_rest_is_checked(broken):
    (broken / "tokenizer.json").write_text("{}")
    code, found, _ = doctor(str(broken))
    assert code == 1
    [said] = errors(found)
    assert "tokenizer.json has 2 bytes" in said
    assert found["speed"][0]["text"] == "not checked: the model's files cannot be used"
    assert found["cache"]


def is_error(finding):
    return finding.status is ERROR


def test_an_incomplete_variant_is_an_error_only_if_it_would_run(broken):
    (broken / "onnx" / "denoiser_int8.onnx.data").unlink()
    for check, variant in ((lambda one: one.text.startswith("int8 cannot be used"), None), (is_error, "int8")):
        assert any(map(check, bundle.check(Subject(str(broken), variant=variant))))
    assert not any(map(is_error, bundle.check(Subject(str(broken)))))


def test_a_recorded_answer_that_differs_is_an_error(broken):
    pack = json.loads((broken / "conformance.json").read_text("utf-8"))
    for case in pack["generations"]:
        case["steps"][0]["tokens"][0] += 1
    content = json.dumps(pack).encode()
    (broken / "conformance.json").write_bytes(content)
    manifest = json.loads((broken / "diffutron.json").read_text("utf-8"))
    manifest["files"]["conformance.json"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (broken / "diffutron.json").write_text(json.dumps(manifest))
    code, found, _ = doctor(str(broken))
    assert code == 1
    [said] = errors(found)
    assert said.startswith("a recorded answer differs here: ")
    assert f"diffutron-ort verify {broken} --variant fp32" in said


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nowhere", "nowhere is not a folder"),
        ("owner/name", "owner/name is not a folder here"),
        (".", "diffutron.json is missing"),
    ],
)
def test_without_a_bundle_it_is_said_once(model, said, tmp_path):
    code, found, _ = doctor(model, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert code == 1
    [error] = errors(found)
    assert said in error
    assert [found[topic][0]["status"] for topic in ("memory", "answers", "speed")] == ["note"] * 3


def test_a_checkpoint_is_not_exported(tmp_path):
    code, found, _ = doctor("tests/golden/tiny/checkpoint", DIFFUTRON_CACHE=str(tmp_path / "cache"))
    assert code == 0
    assert "is a checkpoint; its first use exports int8" in found["bundle"][0]["text"]
    assert not (tmp_path / "cache" / "exported").exists()


# The environment


def test_what_the_environment_says_is_told_and_its_secrets_are_not(tmp_path):
    secret = "http://me:secret@proxy"
    _, found, _ = doctor(
        ORT_DISABLE_TELEMETRY="0",
        HF_HUB_OFFLINE="1",
        HTTPS_PROXY=secret,
        DIFFUTRON_CACHE=str(tmp_path / "file" / "cache"),
        LC_ALL="C",
    )
    telemetry, folder, variables = found["network"]
    assert telemetry["status"] == "warning"
    assert "ORT_DISABLE_TELEMETRY=0" in telemetry["text"]
    assert folder["text"] == "no network is needed: the model is a folder on this machine"
    assert variables["text"] == "set in the environment: HF_HUB_OFFLINE=1, HTTPS_PROXY"
    assert "secret" not in json.dumps(found)
    assert found["terminal"][0]["remedy"] == "export LC_ALL=C.UTF-8"


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path):
    (tmp_path / "file").touch()
    code, found, _ = doctor(DIFFUTRON_CACHE=str(tmp_path / "file" / "cache"))
    assert code == 0
    assert any(one["status"] == "warning" and "cannot be written" in one["text"] for one in found["cache"])


def mounted(*mounts):
    """Run the doctor where file systems are mounted otherwise, and return its exit code and its findings."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root of a Linux may mount file systems")
    script = " && ".join([*mounts, f"exec {sys.executable} -m diffutron_ort doctor --json"])
    done = run("-m", "sh", "-c", script, command=["unshare"])
    if not done.stdout:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode()}")
    return done.returncode, json.loads(done.stdout)["findings"]


def test_where_nothing_can_be_written_it_works_with_a_warning():
    code, found = mounted("mount -o remount,bind,ro /")
    assert code == 0
    [warning] = [one for one in found if one["topic"] == "cache" and one["status"] == "warning"]
    assert "cannot be written (Read-only file system)" in warning["text"]


def test_without_proc_and_cgroups_it_says_that_the_runtime_needs_the_former():
    code, found = mounted("mount -t tmpfs none /proc", "mount -t tmpfs none /sys/fs/cgroup")
    errors = [one for one in found if one["status"] == "error"]
    assert code == 1
    assert errors[0]["remedy"] == "mount it: mount -t proc proc /proc"
    assert all("/proc" in one["text"] for one in errors)
    assert any("how much is free is not known" in one["text"] for one in found)
    assert any("instruction sets unknown" in one["text"] for one in found)


# What people see


def test_people_see_topics_and_one_line_a_finding(healthy):
    done = run("doctor")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert [line for line in lines[:-2] if not line.startswith(" ")] == TOPICS
    marks = {line.split()[0] for line in lines if line.startswith(" ")}
    assert marks <= {"ok", "note", "warning"}
    assert sum(line.startswith(" ") for line in lines) == sum(map(len, healthy[1].values()))
    assert lines[-1] == "All is well." or lines[-1].startswith("It works, with ")


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_on_a_terminal_it_is_coloured_and_as_wide_as_that(tmp_path):
    pytest.importorskip("rich")
    path = stub(tmp_path, "tokenizers", "raise ImportError('\\x1b[31mred')")
    code, screen, _ = on_terminal(["doctor"], COLUMNS="60", PYTHONPATH=str(path))
    assert code == 1
    assert "\x1b[1;31m  error" in screen
    assert "\x1b[31mred" not in screen
    code, screen, _ = on_terminal(["doctor"], COLUMNS="60", NO_COLOR="1", PYTHONPATH=str(path))
    assert "\x1b[1;31m" not in screen
    *plain, last = re.sub(r"\x1b\[[\d;]*m", "", screen).splitlines()
    assert max(len(line) for line in plain if "→" not in line) <= 60
    assert last == "1 error: it will not work. First: pip install --force-reinstall tokenizers"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_a_full_disk_behind_standard_output_is_one_line():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, "doctor"], stdout=full, stderr=subprocess.PIPE, check=False, env=BUFFERED)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("diffutron-ort: standard output: ")
    assert done.stderr.count(b"\n") == 1


def test_its_start_imports_neither_numpy_nor_onnxruntime():
    code = "import sys, diffutron_ort.cli.doctor; print(*{'numpy', 'onnxruntime', 'rich'} & set(sys.modules))"
    assert run("-c", code, command=[sys.executable]).stdout.strip() == b""


def test_wrong_usage_is_refused():
    assert run("doctor", "--variants").returncode == 2
    assert run("doctor", "").returncode == 2
