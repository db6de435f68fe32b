"""Versions of the package and of what it needs, and which extras are installed."""

import platform
import sys
from collections.abc import Iterator

from diffutron_ort._version import __version__
from diffutron_ort.doctor.findings import ERROR, NOTE, OK, Finding
from diffutron_ort.doctor.subject import PACKAGES, Subject
from diffutron_ort.extras import EXTRAS

TOPIC = "versions"
REINSTALL = "pip install --force-reinstall"


def check(subject: Subject) -> Iterator[Finding]:
    """Report the versions, what cannot be imported, and the extras."""
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    python = platform.python_version()
    facts = {"diffutron-ort": __version__, "python": python, "system": system, "executable": sys.executable}
    yield Finding(TOPIC, OK, f"diffutron-ort {__version__}, Python {python}, {system}", facts=facts)
    versions = {name: probed.facts["version"] for name, probed in subject.packages.items() if probed.facts}
    if versions:
        yield Finding(TOPIC, OK, ", ".join(f"{name} {version}" for name, version in versions.items()), facts=versions)
    for name in PACKAGES:
        if name in subject.broken:
            yield _broken(name, subject.broken[name])
    yield from _extras()


def _broken(name: str, reason: str) -> Finding:
    """Return the finding on a package that cannot be imported; our own messages already say what to do."""
    remedy = "" if "pip install" in reason or "ninstall" in reason else f"{REINSTALL} {name}"
    return Finding(TOPIC, ERROR, f"{name} cannot be used: {reason}", remedy, {"package": name})


def _extras() -> Iterator[Finding]:
    here = [extra.name for extra in EXTRAS if extra.is_here()]
    if here:
        yield Finding(TOPIC, OK, f"installed extras: {', '.join(here)}", facts={"extras": here})
    for extra in EXTRAS:
        if extra.name not in here:
            yield Finding(TOPIC, NOTE, f"[{extra.name}] is not installed; it is for {extra.gives}", extra.command)
