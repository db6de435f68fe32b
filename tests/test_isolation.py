"""What an import and a generation load, and whom they talk to."""

import json
import subprocess
import sys

import pytest

QUESTION = "On iki artı beş kaç eder?"
REPORT = """
import json, os, sys
sockets = []
sys.addaudithook(lambda event, _: sockets.append(event) if event.startswith("socket.") else None)
from diffutron_ort import Diffutron
{then}
files = [f"/proc/self/fd/{{number}}" for number in os.listdir("/proc/self/fd")]
links = [os.readlink(file) for file in files if os.path.lexists(file)]
print(json.dumps({{
    "modules": sorted({{name.partition(".")[0] for name in sys.modules}}),
    "sockets": sockets + [link for link in links if link.startswith("socket:")],
    "telemetry": os.environ.get("ORT_DISABLE_TELEMETRY"),
}}))
"""
FOREIGN = {
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "diffutron_ort_export",
    "huggingface_hub",
    "safetensors",
    "rich",
    "prompt_toolkit",
}


def report(then):
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(then=then)],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("then", ["pass", f"Diffutron.from_pretrained().generate({QUESTION!r})"])
def test_no_torch_and_no_network(then):
    seen = report(then)
    assert not FOREIGN & set(seen["modules"])
    assert seen["sockets"] == []
    assert then == "pass" or "onnxruntime" in seen["modules"]
    assert then == "pass" or seen["telemetry"] == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_the_check_would_see_both():
    seen = report("import socket, sqlite3; sys.modules['torch'] = sqlite3; kept = socket.socket()")
    assert "torch" in FOREIGN & set(seen["modules"])
    assert len(seen["sockets"]) == 2


def test_importing_the_package_does_not_load_onnxruntime():
    assert "onnxruntime" not in report("pass")["modules"]
