"""ONNX Runtime: that only one package of it is installed, and which of its providers really load."""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from diffutron_ort.doctor.findings import ERROR, NOTE, OK, WARNING, Finding, Status
from diffutron_ort.doctor.probe import Probe, Probed
from diffutron_ort.doctor.subject import Subject
from diffutron_ort.runtime.cuda import INSTALL, LIBRARIES
from diffutron_ort.runtime.providers import PROVIDERS, conflict, installed_runtimes, mend_conflict, provider_of

TOPIC = "runtime"
REMOTE = "AzureExecutionProvider"  # sends passes to a service; nothing here uses it
GPU = Path("/dev/nvidiactl")  # there while NVIDIA's driver is loaded
FILES = Path("/proc/self/fd")  # through which ONNX Runtime 1.32 opens weights on Linux
MISSING = re.compile(
    r"(?:([\w+-]+\.so[\w.]*): cannot open shared object file|[\"'](\w[\w.-]*\.dll)[\"'] which is missing)"
)


OTHERS = {  # libraries that are not CUDA's, by the beginnings of their names: the package on PyPI, and what brings them
    "libcuda.": ("", "install NVIDIA's driver"),
    "libnvinfer": ("tensorrt", "pip install tensorrt"),
    "libopenvino": ("openvino", "pip install openvino"),
}


def check(subject: Subject) -> Iterator[Finding]:
    """Report the installed packages of ONNX Runtime, and try each provider that it lists."""
    installed = installed_runtimes()
    if len(installed) > 1:
        yield Finding(TOPIC, ERROR, conflict(installed), mend_conflict(installed), {"installed": installed})
    listed = _listed(subject)
    if sys.platform == "linux" and not FILES.exists():
        text = "there is no /proc here, through which ONNX Runtime opens the weights"
        yield Finding(TOPIC, ERROR, text, "mount it: mount -t proc proc /proc")
    probes = {name: Probe("provider", name) for name in listed}
    for name, probe in probes.items():
        yield from _tried(name, probe.result())
    cuda = PROVIDERS["cuda"]
    if GPU.exists() and cuda.full_name not in listed:
        remedy = mend_conflict(installed or ["onnxruntime"], cuda)
        yield Finding(TOPIC, NOTE, "NVIDIA's driver is here, but this ONNX Runtime has no CUDA", remedy)


def _listed(subject: Subject) -> list[str]:
    facts: Mapping[str, list[str]] = subject.packages["onnxruntime"].facts or {}
    return [name for name in facts["providers"] if name != REMOTE]


def _tried(name: str, probed: Probed) -> Iterator[Finding]:
    """Yield the findings on a provider that was tried in a process of its own."""
    facts = {"provider": name, "loads": bool(probed.facts and probed.facts["loads"])}
    if facts["loads"]:
        yield Finding(TOPIC, OK, f"{name} loads", facts=facts)
        return
    known = probed.facts.get("troubles") if probed.facts else None
    library = "" if known else missing_library(f"{probed.error}\n{probed.log}")
    for why, remedy in known or [(_reason(library, probed), _remedy(library))]:
        text = f"{name} is listed, but does not load: {why}{_instead(name)}"
        yield Finding(TOPIC, _gravity(name), text, remedy, facts | {"library": library})


def _gravity(name: str) -> Status:
    """Return how grave it is that a provider does not load: one that is never chosen unless asked for is a note."""
    if name == PROVIDERS["cpu"].full_name:
        return ERROR
    return WARNING if provider_of(name).is_automatic else NOTE


def _instead(name: str) -> str:
    return "; models run on the CPU instead" if _gravity(name) is WARNING else ""


def missing_library(log: str) -> str:
    """Return the name of the first library that a log says is missing; empty if it names none."""
    found = MISSING.search(log)
    return next(filter(None, found.groups()), "") if found else ""


def _source(library: str) -> tuple[str, str]:
    """Return the package on PyPI that has a library, or nothing, and what installs it."""
    if row := next((row for rows in reversed(LIBRARIES.values()) for row in rows if row.file == library), None):
        return row.package, INSTALL
    found = (source for start, source in OTHERS.items() if library.startswith(start))
    return next(found, ("", "run diffutron-ort with --provider cpu, or install what the provider needs"))


def _remedy(library: str) -> str:
    """Return what installs a library, or what lets the loader find it where pip has put it."""
    if folder := _pip_folder(library):
        return f'it is installed; let the loader find it: export LD_LIBRARY_PATH="{folder}:$LD_LIBRARY_PATH"'
    return _source(library)[1]


def _pip_folder(library: str) -> Path | None:
    """Return the folder of a library that NVIDIA's packages have installed, where the loader does not look."""
    places = (Path(path, "nvidia") for path in sys.path) if library else ()
    found = (file.parent for place in places for file in sorted(place.glob(f"*/lib/{library}*")))
    return next(found, None)


def _reason(library: str, probed: Probed) -> str:
    """Return why a provider does not load: a library that is missing, an error, or the last line of the log."""
    if library:
        package = _source(library)[0]
        return f"{library}{f' (of {package})' if package else ''} is missing"
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).strip() for line in probed.log.splitlines()]
    last = next((line for line in reversed(lines) if line), "ONNX Runtime does not say why")
    return probed.error or last[:300]
