"""ONNX Runtime's telemetry, which is on by default from 1.29 on Linux and macOS, and off here."""

import os

TELEMETRY = "ORT_DISABLE_TELEMETRY"


def turn_telemetry_off() -> None:
    """Turn it off for this process, before onnxruntime is imported, unless the environment says otherwise."""
    os.environ.setdefault(TELEMETRY, "1")


def is_telemetry_off() -> bool:
    """Return whether it is off once onnxruntime is imported."""
    return os.environ.get(TELEMETRY, "1").strip().lower() not in ("", "0", "false", "off", "no")
