"""`diffutron-ort export`: convert a checkpoint to a bundle, which `diffutron_ort_export` does."""

import argparse
import sys
from contextlib import redirect_stdout
from importlib import import_module
from types import ModuleType

from diffutron_ort.cli.parser import Parser
from diffutron_ort.extras import needing


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    _command().add_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the bundle; whatever libraries print goes to standard error."""
    with redirect_stdout(sys.stderr):
        _command().run(arguments)


def _command() -> ModuleType:
    with needing("export", "diffutron-ort export"):
        return import_module("diffutron_ort_export.command")
