"""`diffutron-ort doctor`: what is wrong with this machine or this installation, and what to do about it."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec

from diffutron_ort._version import __version__
from diffutron_ort.cli.parser import Parser, filled
from diffutron_ort.cli.terminal import DONE, FAILED, drawing, stripped
from diffutron_ort.cli.writing import print_json
from diffutron_ort.doctor.examination import examine
from diffutron_ort.doctor.findings import Finding, Status, worst
from diffutron_ort.doctor.subject import Subject

STYLES = {Status.OK: "green", Status.NOTE: "cyan", Status.WARNING: "yellow", Status.ERROR: "bold red"}
INDENT = 11  # columns before a finding's text
NARROWEST = 40  # columns that are made use of, however narrow the terminal is

Show = Callable[[str, str, str], object]
"""Prints a line: its beginning, the style of the beginning as rich names it, and the rest."""


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    model = "folder or hub id of the model to check (default: the embedded demonstration); nothing is downloaded"
    parser.add_argument("model", nargs="?", type=filled, help=model)
    parser.add_argument("--revision", type=filled, help="commit, tag or branch of a hub id")
    parser.add_argument("--variant", type=filled, help="the variant that is to run (default: as for generate)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings, and return 1 if something will not work."""
    found = examine(Subject(arguments.model, arguments.revision, arguments.variant))
    findings = list(found) if arguments.json else list(_shown(found))
    if arguments.json:
        print_json(report(findings))
    return FAILED if worst(findings) is Status.ERROR else DONE


def report(findings: Sequence[Finding]) -> dict[str, object]:
    """Return what `--json` prints."""
    return {
        "version": __version__,
        "status": worst(findings),
        "counts": {status: sum(finding.status is status for finding in findings) for status in Status},
        "findings": [vars(finding) | {"facts": dict(finding.facts)} for finding in findings],
    }


def _shown(found: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings after printing each below its topic; then print what to do."""
    show, width, topic, findings = _printer(), _width(), "", []
    for finding in found:
        if finding.topic != topic:
            topic = finding.topic
            show(topic, "bold", "")
        mark, *more = lines(finding, width)
        show(f"  {finding.status:<{INDENT - 2}}", STYLES[finding.status], mark)
        for line in more:
            show("", "", f"{' ' * INDENT}{line}")
        findings.append(finding)
        yield finding
    show("", "", "")
    show(conclusion(findings), STYLES[worst(findings)], "")


def lines(finding: Finding, width: int | None) -> list[str]:
    """Return the lines of a finding: its text as wide as the terminal, and the remedy whole, for it is copied.

    Without a width, all is one line.
    """
    text = " ".join(stripped(finding.text).split())
    remedy = f"→ {stripped(finding.remedy)}" if finding.remedy else ""
    if width is None:
        return [f"{text} {remedy}".rstrip()]
    wrapped = textwrap.wrap(text, max(width, NARROWEST) - INDENT, break_on_hyphens=False) or [""]
    return [*wrapped, *filter(None, [remedy])]


def conclusion(findings: Sequence[Finding]) -> str:
    """Return the last line: that all is well, or what to do first."""
    counts = {status: [finding for finding in findings if finding.status is status] for status in Status}
    errors, warnings = counts[Status.ERROR], counts[Status.WARNING]
    if errors:
        remedy = next((finding.remedy for finding in errors if finding.remedy), "mend what is marked error")
        return f"{_number(errors, 'error')}: it will not work. First: {stripped(remedy)}"
    if warnings:
        return f"It works, with {_number(warnings, 'warning')}: see above."
    return "All is well."


def _number(found: Sequence[Finding], noun: str) -> str:
    return f"{len(found)} {noun}{'s' * (len(found) != 1)}"


def _width() -> int | None:
    """Return the width of the terminal; None where standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _printer() -> Show:
    """Return what prints lines: with colours on a terminal, if rich is installed."""
    if not (sys.stdout.isatty() and find_spec("rich")):
        return lambda start, _, rest: print(f"{start}{rest}", flush=True)
    from rich.console import Console
    from rich.text import Text

    console = Console(file=drawing(sys.stdout))
    return lambda start, style, rest: console.print(Text.assemble((start, style), rest), soft_wrap=True)
