"""Try in processes of their own what could end a process: `python -m diffutron_ort.doctor.probe KIND [NAME]`.

A package that was built for another processor ends its process at its import, and a broken driver may hang it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from diffutron_ort.runtime.cuda import failure_in

SECONDS = 60.0  # until a process is given up
# An ONNX model of one node, Identity, with an input x and an output y, float32 [1]: opset 21, IR version 10.
TINY = (
    b'\x08\x0a:7\x0a\x10\x0a\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01'
    b"b\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01B\x02\x10\x15"
)


class Probed(NamedTuple):
    """What a process found.

    Attributes:
        facts: What it printed; None if it failed.
        error: Why it failed, on one line; empty if it did not.
        log: What it wrote on standard error.
    """

    facts: dict[str, Any] | None
    error: str
    log: str


class Probe:
    """A process that tries something, begun at once."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-P", "-m", __name__, *arguments]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        paths = os.pathsep.join(path or str(os.curdir) for path in sys.path)  # it finds what this process finds
        self._process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, **streams)  # type: ignore[call-overload] # noqa: S603

    def result(self) -> Probed:
        """Wait for the process, and return what it found."""
        try:
            out, err = self._process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return Probed(None, f"it did not end within {SECONDS:.0f} s", self._process.communicate()[1].decode())
        except BaseException:
            self._process.kill()
            raise
        return _read(self._process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def _read(code: int, out: str, err: str) -> Probed:
    """Return what a process found, from its exit code and its streams."""
    last = (out.strip().splitlines() or [""])[-1]
    if code == 0 and last.startswith("{"):
        facts = json.loads(last)
        return Probed(None if facts.get("error") else facts, facts.get("error", ""), err)
    if code < 0:
        return Probed(None, f"its process was ended by {_signal(-code)}", err)
    return Probed(None, (err.strip().splitlines() or [f"its process ended with exit code {code}"])[-1], err)


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name}: it was built for another processor" if name == "SIGILL" else name


def main(arguments: Sequence[str]) -> None:
    """Print what one of the probes finds, as JSON."""
    kind, *rest = arguments
    try:
        found = {"import": imported, "provider": provider}[kind](*rest)
    except Exception as error:  # whatever a broken package raises
        found = {"error": failure_in(error)}
    sys.stdout.write(f"\n{json.dumps(found)}\n")


def imported(name: str) -> dict[str, Any]:
    """Return the version of a package after importing it, and of ONNX Runtime what it has."""
    if name != "onnxruntime":
        return {"version": str(getattr(import_module(name), "__version__", "unknown"))}
    ort = _onnxruntime()
    return {
        "version": ort.__version__,
        "providers": ort.get_available_providers(),
        "cuda": getattr(ort, "cuda_version", "") or "",
    }


def provider(full_name: str) -> dict[str, Any]:
    """Return whether a provider runs a tiny model, and what keeps CUDA's from it.

    Where that is not known, ONNX Runtime writes on standard error why it does not load one.
    """
    import numpy as np

    from diffutron_ort.runtime.cuda import troubles
    from diffutron_ort.runtime.opening import cuda_version
    from diffutron_ort.runtime.providers import PROVIDERS

    ort = _onnxruntime()
    if full_name == PROVIDERS["cuda"].full_name and (found := list(troubles(cuda_version()))):
        return {"loads": False, "troubles": [(trouble.text, trouble.remedy) for trouble in found]}
    session = ort.InferenceSession(TINY, providers=[full_name], enable_fallback=0)
    session.run(None, {"x": np.ones(1, np.float32)})
    return {"loads": full_name in session.get_providers()}


def _onnxruntime() -> Any:
    from diffutron_ort.runtime.opening import LEAST_ONNXRUNTIME, import_onnxruntime

    return import_onnxruntime(LEAST_ONNXRUNTIME)


if __name__ == "__main__":
    main(sys.argv[1:])
