"""The terminal: its encoding, its size, and whether it shows colours."""

import locale
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from diffutron_ort.doctor.findings import OK, WARNING, Finding
from diffutron_ort.doctor.subject import Subject

TOPIC = "terminal"


def check(subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """Report in one line what is known of it."""
    encoding, is_terminal = locale.getencoding().upper(), bool(sys.stdout and sys.stdout.isatty())
    width = shutil.get_terminal_size().columns
    colours = _colours(is_terminal)
    shown = f"{width} columns, {colours}" if is_terminal else "output goes to a file or a pipe"
    facts = {"encoding": encoding, "terminal": is_terminal, "columns": width, "TERM": os.environ.get("TERM", "")}
    if encoding.replace("-", "") == "UTF8":
        yield Finding(TOPIC, OK, f"{encoding}, {shown}", facts=facts)
    else:
        text = f"the locale's encoding is {encoding}; text is written as UTF-8, and may look wrong"
        yield Finding(TOPIC, WARNING, text, "export LC_ALL=C.UTF-8", facts)


def _colours(is_terminal: bool) -> str:
    if not is_terminal or os.environ.get("NO_COLOR") or os.environ.get("TERM") in (None, "", "dumb"):
        return "no colours"
    return "colours" if find_spec("rich") else "no colours (they need the extra [cli])"
