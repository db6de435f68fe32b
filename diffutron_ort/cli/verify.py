"""`diffutron-ort verify`: check a bundle's files, and that it generates here what it should."""

import argparse
import sys
from collections.abc import Iterable
from importlib import import_module
from itertools import chain
from pathlib import Path

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.checks.verify import Check, verify
from diffutron_ort.cli.flags import MODEL, REVISION
from diffutron_ort.cli.loading import located
from diffutron_ort.cli.parser import Parser, filled
from diffutron_ort.errors import DiffutronError, OptionError
from diffutron_ort.extras import needing


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", nargs="?", type=filled, help=MODEL)
    parser.add_argument("--revision", type=filled, help=REVISION)
    parser.add_argument("--variant", type=filled, help="the only variant to check (default: all that are there)")
    parser.add_argument(
        "--against",
        nargs=2,
        type=filled,
        metavar=("torch", "SOURCE"),
        help="also compare with the checkpoint that the bundle was made from (needs the extra [torch])",
    )
    parser.add_argument("--source-revision", metavar="SHA", type=filled, help="revision of SOURCE, if it is a hub id")
    parser.add_argument("--adapter", metavar="DIR", type=filled, help="the LoRA adapter that was merged into SOURCE")


def run(arguments: argparse.Namespace) -> None:
    """Print the checks as they are made.

    Raises:
        OptionError: Flags do not go together.
        DiffutronError: A check failed.
    """
    _check_flags(arguments)
    folder = located(arguments.model, arguments.revision, arguments.variant)
    checks = [verify(folder, variant=arguments.variant), _against(folder, arguments)]
    failed = 0
    for check in chain.from_iterable(checks):
        failed += bool(check.differences)
        mark = "FAILED" if check.differences else "ok"
        print(f"{mark:<7} {check.name:<18} {check.total:>3}  {check.note}".rstrip(), flush=True)
        for difference in check.differences:
            print(f"  {difference}", file=sys.stderr)
    if failed:
        raise DiffutronError(f"{failed} of these checks failed; the lines above say where")


def _check_flags(arguments: argparse.Namespace) -> None:
    """Refuse flags about a checkpoint to compare with if none is given, or another framework."""
    if arguments.against is None:
        for flag in ("source_revision", "adapter"):
            if getattr(arguments, flag) is not None:
                raise OptionError(f"--{flag.replace('_', '-')} describes the SOURCE of --against: give that as well")
    elif arguments.against[0] != "torch":
        raise OptionError(f"--against {arguments.against[0]}: must be torch, the only framework to compare with")


def _against(folder: Path, arguments: argparse.Namespace) -> Iterable[Check]:
    """Return the checks against the checkpoint, if one is given."""
    if arguments.against is None:
        return ()
    with needing("torch", "diffutron-ort verify --against"):
        exporter = import_module("diffutron_ort_export.check.against")
    checks: Iterable[Check] = exporter.against_torch(
        load_bundle(folder), arguments.against[1], revision=arguments.source_revision, adapter=arguments.adapter
    )
    return checks
