"""`diffutron-ort list`: list the checkpoints that were exported into this program's cache."""

import argparse
import time
from typing import Any

from diffutron_ort import user_cache
from diffutron_ort.bundle.exported import Export, State, exports
from diffutron_ort.cli.parser import Parser
from diffutron_ort.cli.terminal import say
from diffutron_ort.cli.writing import megabytes, print_json, print_table


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each export, or all as one JSON object."""
    found = list(exports())
    if arguments.json:
        print_json({"folder": str(user_cache.folder()), "exports": [described(export) for export in found]})
    elif found:
        print_table([["model", "variant", "size", "last used"], *map(row, found)])
        if any(export.is_useless for export in found):
            say("what is unfinished, damaged or of an older release is of no use: diffutron-ort rm --old removes it")
    else:
        say(f"no checkpoint was exported into {user_cache.folder()} yet")


def row(export: Export) -> list[str]:
    """Return what is shown of an export: its name, variant, size, and the day when it was last used, or its state."""
    used = time.strftime("%Y-%m-%d", time.localtime(export.used))
    return [export.name, export.variant, megabytes(export.size), _state(export) or used]


def _state(export: Export) -> str:
    """Return why an export is of no use to this release; empty if it is of use."""
    of_another = export.state in (State.OLDER, State.NEWER)
    return "" if export.state is State.READY else f"{export.state}{f', {export.release}' * of_another}"


def described(export: Export) -> dict[str, Any]:
    """Return what `--json` prints of an export; `used` is in seconds since 1970."""
    return {
        "source": export.source,
        "commit": export.commit,
        "variant": export.variant,
        "release": export.release,
        "state": export.state,
        "size": export.size,
        "used": export.used,
        "folder": str(export.folder),
    }
