"""What a check finds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How grave a finding is, the harmless first."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


OK, NOTE, WARNING, ERROR = Status
_GRAVITY = list(Status)


@dataclass(frozen=True)
class Finding:
    """One finding of a check.

    Attributes:
        topic: What was looked at, in a word.
        status: `ok`; `note`: worth knowing; `warning`: it works, but not as it should; `error`: it will not work.
        text: The finding, on one line.
        remedy: What to do about it, or empty.
        facts: Its figures and names, for programs: values of JSON.
    """

    topic: str
    status: Status
    text: str
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


class Unexaminable(Exception):  # noqa: N818 - it never leaves this room
    """A check cannot be made, because something else is broken that has a finding of its own."""


def worst(findings: Iterable[Finding]) -> Status:
    """Return the gravest status of some findings; OK if there are none."""
    return max((finding.status for finding in findings), key=_GRAVITY.index, default=OK)
