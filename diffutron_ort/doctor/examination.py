"""The list of checks, and what becomes of one that breaks."""

from collections.abc import Iterator
from importlib import import_module
from typing import NamedTuple

from diffutron_ort.brief import in_brief
from diffutron_ort.doctor.findings import ERROR, NOTE, Finding, Unexaminable
from diffutron_ort.doctor.subject import Subject
from diffutron_ort.errors import DiffutronError

AGAIN = "python -X dev -m diffutron_ort doctor"


class Check(NamedTuple):
    """A check: the function `check(subject)` of the module of its name, which yields findings.

    Attributes:
        topic: Its name.
        needs: The packages without which it cannot be made; `versions` says what is wrong with them.
    """

    topic: str
    needs: tuple[str, ...] = ()


CHECKS = (
    Check("versions"),
    Check("runtime", ("numpy", "onnxruntime")),
    Check("processor"),
    Check("threads"),
    Check("bundle", ("numpy",)),
    Check("memory", ("numpy",)),
    Check("answers", ("numpy", "tokenizers", "onnxruntime")),
    Check("speed", ("numpy", "tokenizers", "onnxruntime")),
    Check("cache", ("numpy",)),
    Check("network"),
    Check("terminal"),
)
"""In the order in which they are made: what others stand on comes first."""


def examine(subject: Subject) -> Iterator[Finding]:
    """Yield the findings of all checks, each as soon as it is known; never raise an error."""
    for check in CHECKS:
        yield from _findings(check, subject)


def _findings(check: Check, subject: Subject) -> Iterator[Finding]:
    if broken := [name for name in check.needs if name in subject.broken]:
        yield Finding(check.topic, NOTE, f"not checked, for want of {' and '.join(broken)}")
        return
    try:
        yield from import_module(f"diffutron_ort.doctor.{check.topic}").check(subject)
    except Unexaminable as error:
        yield Finding(check.topic, NOTE, f"not checked: {error}")
    except DiffutronError as error:
        yield Finding(check.topic, ERROR, in_brief(error))
    except Exception as error:
        text = f"this check broke: {type(error).__name__}: {in_brief(error)}"
        yield Finding(check.topic, ERROR, text, f"this is a bug: {AGAIN} shows where it comes from")
