"""`diffutron-ort serve`: answer over HTTP, as OpenAI's API does."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from diffutron_ort.cli.flags import add_model
from diffutron_ort.cli.loading import REAL, demonstration
from diffutron_ort.cli.parser import Parser, filled, integer, number
from diffutron_ort.cli.terminal import say
from diffutron_ort.errors import OptionError
from diffutron_ort.extras import needing
from diffutron_ort.serve.settings import Settings, flag

OF_THE_MODEL = ("model", "variant", "revision", "providers", "threads", "spin")
KEY_VARIABLE = "DIFFUTRON_API_KEY"
KEY_FILE = f"file with a key on each line (default: the environment's {KEY_VARIABLE}, which no list of processes shows)"
MOST_KEY_FILE = 2**20  # bytes


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    add_model(parser, "model", spin=False, nargs="?")
    group = parser.add_argument_group("server")
    for spec in fields(Settings):
        if spec.name not in OF_THE_MODEL:
            group.add_argument(
                f"--{flag(spec)}", dest=spec.name, default=argparse.SUPPRESS, help=_help(spec), **_form(spec)
            )
    group.add_argument("--api-key-file", metavar="FILE", type=filled, help=KEY_FILE)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal, and return the exit code."""
    settings = _settings(arguments)
    with needing("serve", "diffutron-ort serve"):
        from diffutron_ort.serve.processes.lifecycle import serve
    if settings.model is None:
        say(demonstration(f"diffutron-ort serve {REAL}"))
    if not settings.is_local and settings.uds is None and not settings.api_keys:
        say(f"whoever reaches {settings.host} can use this server: set {KEY_VARIABLE} to have it ask for a key")
    with contextlib.redirect_stdout(sys.stderr):  # for what libraries print
        return serve(settings)


def _settings(arguments: argparse.Namespace) -> Settings:
    """Return the settings that the flags and the environment ask for.

    Raises:
        OptionError: One is not allowed.
    """
    names = {spec.name for spec in fields(Settings)}
    given = {name: value for name, value in vars(arguments).items() if name in names}
    return Settings(**given | {"providers": arguments.provider or (), "api_keys": list(_keys(arguments))})


def _keys(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the keys of the flags and of the file; those of the environment if there is neither."""
    yield from vars(arguments).get("api_keys", ())
    if arguments.api_key_file:
        yield from _keys_of_file(Path(arguments.api_key_file))
    elif "api_keys" not in arguments and KEY_VARIABLE in os.environ:
        yield os.environ[KEY_VARIABLE]  # an empty one is refused: the variable was meant to be set


def _keys_of_file(path: Path) -> list[str]:
    with path.open("rb") as file:
        lines = file.read(MOST_KEY_FILE).decode("latin-1").splitlines()
    keys = [line.strip() for line in lines if line.strip()]
    if not keys:
        raise OptionError(f"{path} holds no key: write one on each line")
    return keys


def _help(spec: Field[Any]) -> str:
    """Return what a setting does, and its default where there is one."""
    meaning: str = spec.metadata["help"]
    if spec.type == tuple[str, ...]:
        return f"{meaning} (may be given several times)"
    if spec.type is bool or spec.default is None:
        return meaning
    default = f"{spec.default:g}" if spec.type is float else spec.default
    return f"{meaning} (default: {default})"


def _form(spec: Field[Any]) -> dict[str, Any]:
    """Return how the value of a setting is written on the command line."""
    if spec.type is bool:
        return {"action": "store_true"}
    if spec.type in (int, float):
        return {"type": integer if spec.type is int else number, "metavar": "N"}
    metavar = spec.metadata["metavar"] or flag(spec).rpartition("-")[2].upper()
    return {"metavar": metavar, **({"action": "append"} if spec.type == tuple[str, ...] else {})}
