"""Who is talked to: nobody, unless a hub id is given or the user has turned telemetry on."""

import os
from collections.abc import Iterator

from diffutron_ort.doctor.findings import NOTE, OK, WARNING, Finding
from diffutron_ort.doctor.subject import Subject
from diffutron_ort.runtime.telemetry import TELEMETRY, is_telemetry_off

TOPIC = "network"
SHOWN = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE")
SECRET = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN")  # they may hold passwords: never their values


def check(subject: Subject) -> Iterator[Finding]:
    """Report telemetry, whether the model needs a network, and the variables that change either."""
    yield _telemetry()
    if subject.model is None or os.path.isdir(subject.model):  # noqa: PTH112 - does not raise
        yield Finding(TOPIC, OK, "no network is needed: the model is a folder on this machine")
    else:
        text = "a network is needed until the model is here; then only to look for a new commit"
        yield Finding(TOPIC, NOTE, text, _offline())
    if said := _variables():
        yield Finding(TOPIC, NOTE, f"set in the environment: {', '.join(said)}", facts={"variables": said})


def _telemetry() -> Finding:
    value = os.environ.get(TELEMETRY)
    if is_telemetry_off():
        return Finding(TOPIC, OK, "ONNX Runtime's telemetry is off", facts={"telemetry": False})
    text = f"ONNX Runtime's telemetry is on, since the environment says {TELEMETRY}={value}"
    return Finding(TOPIC, WARNING, text, f"unset {TELEMETRY}", {"telemetry": True})


def _offline() -> str:
    return "" if os.environ.get("HF_HUB_OFFLINE") else "never ask: HF_HUB_OFFLINE=1, or a full commit with --revision"


def _variables() -> list[str]:
    """Return the variables that are set, with the values of those that hold no secret."""
    shown = [f"{name}={os.environ[name]}" for name in SHOWN if os.environ.get(name)]
    return shown + [name for name in SECRET if os.environ.get(name) or os.environ.get(name.lower())]
