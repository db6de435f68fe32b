"""`diffutron-ort rm`: empty this program's cache."""

import argparse
import sys

from diffutron_ort import user_cache
from diffutron_ort.cli.parser import Parser
from diffutron_ort.cli.terminal import say
from diffutron_ort.errors import OptionError


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--yes", action="store_true", help="remove it without asking")


def run(arguments: argparse.Namespace) -> None:
    """List what is in the cache, and remove it with the user's consent."""
    contents = user_cache.contents()
    for path, size in contents:
        print(f"{size:>13,} bytes  {path}", flush=True)
    if not contents:
        say(f"nothing is kept in {user_cache.folder()}")
    elif arguments.yes or _agrees("remove this? [y/N] "):
        user_cache.empty()


def _agrees(question: str) -> bool:
    """Return whether the user, asked on the terminal, says yes.

    Raises:
        OptionError: Standard input is not a terminal.
    """
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        raise OptionError("nothing was removed, since there is nobody to ask: give --yes")
    print(f"diffutron-ort: {question}", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
