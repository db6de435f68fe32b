"""The flags of `generate` that are about a file of prompts."""

import argparse

from diffutron_ort.cli.parser import Parser, filled, integer
from diffutron_ort.errors import OptionError

NEEDS_FILE = {"--column": "column", "--format": "kind", "--processes": "processes", "--restart": "restart"}
NEEDS_PROMPT = {"--json": "json", "--svg": "svg", "--show-steps": "show_steps", "--best-of": "best_of"}


def add_bulk(parser: Parser) -> None:
    """Add the flags; those that are not given are None or False."""
    group = parser.add_argument_group("a file of prompts")
    group.add_argument(
        "--input", dest="source", metavar="FILE", type=filled,
        help="answer each line of a .jsonl, .txt or .csv, plain or .gz; - reads standard input",
    )  # fmt: skip
    group.add_argument(
        "--output", dest="target", metavar="FILE", type=filled,
        help="where the answers go: a .jsonl, or a .csv unless the input is JSONL, plain or .gz; - is standard output; "
        "if a run is killed, the same command goes on with it",
    )  # fmt: skip
    column = "name of the prompt in a .jsonl or .csv (default: prompt)"
    group.add_argument("--column", metavar="NAME", type=filled, help=column)
    group.add_argument("--format", dest="kind", choices=("jsonl", "txt", "csv"), help="of an input whose name has none")
    group.add_argument("--processes", metavar="N", type=integer, help="how many answer at a time (default: 1)")
    group.add_argument("--restart", action="store_true", help="write the output anew, whatever it holds")


def check_bulk(arguments: argparse.Namespace) -> bool:
    """Return whether a file is to be answered.

    Raises:
        OptionError: Flags contradict each other.
    """
    if arguments.source is None:
        _refuse(arguments, {"--output": "target", **NEEDS_FILE}, "needs --input, a file of prompts")
        return False
    if arguments.target is None:
        raise OptionError("--input needs --output, the file that the answers go to; - is standard output")
    if arguments.prompt != "-":
        raise OptionError("--input holds the prompts: leave out the one on the command line")
    _refuse(arguments, NEEDS_PROMPT, "is of a single prompt: leave it out, or --input")
    return True


def _refuse(arguments: argparse.Namespace, flags: dict[str, str], why: str) -> None:
    for flag, name in flags.items():
        if getattr(arguments, name) not in (None, False):
            raise OptionError(f"{flag} {why}")
