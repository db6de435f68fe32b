"""How text and values from a checkpoint are quoted in messages."""

import re
from collections.abc import Iterable

from diffutron_ort.brief import brief
from diffutron_ort.cli.terminal import STEERING

CONTROL = re.compile(f"(?:[\n\t]|{STEERING.pattern})+")


def printable(text: str, most: int = 300) -> str:
    """Return a text from outside as one line without control characters, cut to `most` characters."""
    line = CONTROL.sub(" ", text).strip()
    return line if len(line) <= most else f"{line[:most]}…"


def shown(value: object) -> str:
    """Return a value from outside, abbreviated, as one printable line."""
    return printable(brief(value))


def listed(names: Iterable[str], separator: str = ", ", most: int = 4) -> str:
    """Return the first `most` names, and how many more there are."""
    ordered = list(names) if isinstance(names, list | tuple) else sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return separator.join(map(printable, ordered[:most])) + more
