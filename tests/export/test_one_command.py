"""A checkpoint's hub id in one command, with the real exporter and a server that plays the hub."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from diffutron_ort.bundle.exported import EXPORTED
from diffutron_ort.bundle.load import load_bundle
from tests.export.test_hub import COMMIT, REPOSITORY, Hub, client, hub

__all__ = ["hub"]  # a fixture

ANSWER = ["generate", "On iki artı beş kaç eder?", "--model", REPOSITORY, "--variant", "fp32", "--steps", "4"]
PROGRAM = [sys.executable, "-m", "diffutron_ort"]


def environment(endpoint: str, folder: Path, **more: str) -> dict[str, str]:
    """Return the variables of a process whose hub is at `endpoint`, and whose caches are in `folder`."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {"HF_HOME": str(folder / "hf"), "DIFFUTRON_CACHE": str(folder / "cache")}
    return usual | client(endpoint) | own | more


def start(folder: Path, variables: dict[str, str]) -> "subprocess.Popen[str]":
    """Start the command in a folder where the hub id is not the name of a folder."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*PROGRAM, *ANSWER], text=True, cwd=folder, env=variables, **streams)


def ended(process: "subprocess.Popen[str]") -> tuple[str, list[str]]:
    """Return the answer of a process, and the lines on standard error."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out, err.splitlines()


def processes_that_say(start: str, lines: Sequence[Sequence[str]]) -> int:
    """Return how many say what begins so; on a slow machine each says it again from time to time."""
    return sum(any(line.startswith(start) for line in found) for found in lines)


def test_two_processes_answer_from_one_export_and_later_ones_without_the_hub(hub: str, tmp_path: Path) -> None:
    processes = [start(tmp_path, environment(hub, tmp_path)) for _ in range(2)]
    answers, lines = zip(*map(ended, processes), strict=True)
    assert len(set(answers)) == 1
    assert processes_that_say("writing and verifying fp32", lines) == 1, lines
    assert processes_that_say(f"downloading {REPOSITORY}", lines) == 1, lines
    assert processes_that_say("waiting for another process", lines) <= 1, lines
    downloaded = {path.rpartition("/")[2] for path in Hub.asked if "/resolve/" in path}
    assert downloaded == {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}

    [entry] = (tmp_path / "cache" / EXPORTED).glob("[!.]*")
    bundle = load_bundle(entry / "bundle")
    assert (bundle.source["name"], bundle.source["revision"]) == (REPOSITORY, COMMIT)

    for later in (
        environment(hub, tmp_path),
        environment("http://127.0.0.1:9", tmp_path),  # where nothing listens
        environment(hub, tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty")),
    ):
        assert ended(start(tmp_path, later)) == (answers[0], [])


def test_without_the_extra_one_line_says_how_to_install_it(hub: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.modules['onnx'] = None; from diffutron_ort.cli.main import main; sys.exit(main({ANSWER}))"
    )
    command, variables = [sys.executable, "-c", program], environment(hub, tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables, timeout=300)
    [line] = done.stderr.splitlines()
    assert f"{REPOSITORY} is a checkpoint, which is exported when it is first used" in line
    assert "pip install 'diffutron-ort[export]'" in line
    assert (done.returncode, done.stdout) == (1, "")
    assert not any(path.endswith(".safetensors") for path in Hub.asked)
    assert not (tmp_path / "cache" / EXPORTED).exists()
