"""`diffutron-ort list`: list the checkpoints that were exported into this program's cache."""

import argparse
import time

from diffutron_ort import user_cache
from diffutron_ort.bundle.exported import Export, exports
from diffutron_ort.cli.parser import Parser
from diffutron_ort.cli.terminal import say
from diffutron_ort.cli.writing import megabytes, print_table


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command, which has none."""


def run(arguments: argparse.Namespace) -> None:  # noqa: ARG001
    """Print a line for each export."""
    found = list(exports())
    if found:
        print_table([["model", "variant", "size", "last used"], *map(row, found)])
    else:
        say(f"no checkpoint was exported into {user_cache.folder()} yet")


def row(export: Export) -> list[str]:
    """Return what is shown of an export: its name, variant, size, and the day when it was last used."""
    used = time.strftime("%Y-%m-%d", time.localtime(export.used)) if export.is_complete else "unfinished"
    return [export.name, export.variant, megabytes(export.size), used]
