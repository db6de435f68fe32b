"""What spawned processes hear of signals."""

import subprocess
import sys

import pytest

# The first process that is spawned, which also makes multiprocessing start its tracker, and a second one.
SPAWNED = """
import multiprocessing, re, signal, time
from pathlib import Path
from diffutron_ort.signals import held_back

context = multiprocessing.get_context("spawn")
for _ in range(2):
    process = context.Process(target=time.sleep, args=(600,))
    with held_back({signal.SIGINT}):
        process.start()
    held = int(re.search(r"SigBlk:\\s*(\\w+)", Path(f"/proc/{process.pid}/status").read_text())[1], 16)
    process.kill()
    print(bool(held >> signal.SIGINT - 1 & 1))
print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the masks of processes are read from /proc")
def test_signals_that_are_held_back_reach_no_process_that_is_spawned():
    done = subprocess.run([sys.executable, "-c", SPAWNED], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["True", "True", "False"]
