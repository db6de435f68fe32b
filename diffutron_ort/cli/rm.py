"""`diffutron-ort rm`: remove checkpoints that were exported into this program's cache, or all that it holds."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from diffutron_ort import user_cache
from diffutron_ort.cli.parser import Parser, filled
from diffutron_ort.cli.terminal import say
from diffutron_ort.cli.writing import megabytes, print_table
from diffutron_ort.errors import DiffutronError, OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffutron_ort.bundle.exported import Export


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    model = "a model that `list` shows, with or without its commit (default: all that is in the cache)"
    parser.add_argument("model", nargs="?", type=filled, help=model)
    parser.add_argument("--variant", type=filled, help="which of its variants (default: all)")
    old = "remove, without asking, what no release from this one on can use: older, damaged and unfinished exports"
    parser.add_argument("--old", action="store_true", help=old)
    parser.add_argument("--yes", action="store_true", help="remove it without asking")


def run(arguments: argparse.Namespace) -> None:
    """List what is to be removed, and remove it with the user's consent.

    Raises:
        OptionError: There is nobody to ask, or flags do not go together.
        DiffutronError: There is no such export, or it cannot be removed.
    """
    if arguments.old:
        if arguments.model is not None or arguments.variant is not None:
            raise OptionError("--old removes what is of no use of any model: give no model and no --variant")
        _remove_useless()
    elif arguments.model is not None:
        _remove_exports(arguments.model, arguments.variant, arguments.yes)
    elif arguments.variant is not None:
        raise OptionError("--variant is of a model: give that as well")
    else:
        _remove_all(arguments.yes)


def _remove_exports(model: str, variant: str | None, yes: bool) -> None:
    from diffutron_ort.bundle.exported import exports  # which imports numpy

    found = [export for export in exports() if _is_meant(export, model) and variant in (None, export.variant)]
    if not found:
        which = f"variant {variant} of {model}" if variant else model
        raise DiffutronError(f"{which} is not among the exports that diffutron-ort list shows")
    _show(found)
    if _is_agreed(yes):
        _remove(found)


def _remove_useless() -> None:
    """Remove exports that nothing will use, but for one that is being written, and what interrupted removals left."""
    from diffutron_ort.bundle.exported import exports, leftovers  # which import numpy
    from diffutron_ort.bundle.exporting import is_being_exported

    found = [export for export in exports() if export.is_useless and not is_being_exported(export.folder)]
    left = leftovers()
    if not found and not left:
        say("there is no older, damaged or unfinished export")
        return
    if found:
        _show(found)
    size = sum(map(user_cache.size, left))
    for path in left:
        user_cache.remove(path)
    _remove(found, size)


def _show(found: "Sequence[Export]") -> None:
    from diffutron_ort.cli.list import row

    print_table([row(export) for export in found])


def _remove(found: "Sequence[Export]", already: int = 0) -> None:
    """Remove exports, and say how many bytes are free again, `already` ones included."""
    for export in found:
        user_cache.remove(export.folder)
    say(f"removed {megabytes(already + sum(export.size for export in found))}")


def _is_meant(export: "Export", model: str) -> bool:
    """Return whether a name, which may end in `@` and the beginning of a commit, is that of an export."""
    name, _, commit = model.rpartition("@") if "@" in model else (model, "", "")
    if export.commit:
        return name == export.source and export.commit.startswith(commit)
    return export.source in (model, os.path.abspath(model))  # noqa: PTH100 - does not raise


def _remove_all(yes: bool) -> None:
    contents = user_cache.contents()
    for path, size in contents:
        print(f"{size:>13,} bytes  {path}", flush=True)
    if not contents:
        say(f"nothing is kept in {user_cache.folder()}")
    elif _is_agreed(yes):
        user_cache.empty()
        say(f"removed {megabytes(sum(size for _, size in contents))}")


def _is_agreed(yes: bool) -> bool:
    """Return whether the user, asked on the terminal unless `yes` is set, agrees.

    Raises:
        OptionError: Standard input is not a terminal.
    """
    if yes:
        return True
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        raise OptionError("nothing was removed, since there is nobody to ask: give --yes")
    print("diffutron-ort: remove this? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
