"""Runs code that may never end, such as an untrusted regular expression, in a process with a time limit."""

import json
import subprocess
import sys
from typing import Any

SECONDS = 5.0


def run_limited(program: str, given: object) -> Any:
    """Return what a Python program writes for `given`; it reads JSON from standard input and writes JSON.

    Raises:
        TimeoutError: The program takes longer than `SECONDS`.
        ValueError: The program fails.
    """
    command = [sys.executable, "-P", "-c", program]  # -P: import nothing from the current folder
    content = json.dumps(given).encode()
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=SECONDS)  # noqa: S603  # our own program
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"takes longer than {SECONDS:g} seconds") from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ValueError(f"fails: {lines[-1] if lines else done.returncode}")
    return json.loads(done.stdout)
