"""Flags that several commands share: those of the model and those of the generation."""

import argparse
from collections.abc import Collection, Mapping
from dataclasses import Field, fields
from types import MappingProxyType
from typing import Any

from diffutron_ort.cli.parser import filled, integer, meant, number
from diffutron_ort.config import OPTION_NAMES, GenerationConfig
from diffutron_ort.runtime.providers import PROVIDERS

MODEL = "folder or hub id of a bundle, or of a checkpoint, which is exported once (default: the embedded demonstration)"
VARIANT = "which of the bundle's variants to run (default: the most exact; of a checkpoint, int8)"
REVISION = "commit, tag or branch of a hub id"


def add_model(parser: argparse.ArgumentParser, name: str = "--model", *, spin: bool = True, **how: Any) -> None:
    """Add the arguments of `from_pretrained`; the model's own is called `name`, and idle threads `spin` by default."""
    group = parser.add_argument_group("model")
    group.add_argument(name, type=filled, help=MODEL, **how)
    group.add_argument("--revision", type=filled, help=REVISION)
    group.add_argument("--variant", type=filled, help=VARIANT)
    providers = f"{' or '.join(PROVIDERS)}, or ONNX Runtime's name of another (may be given several times)"
    group.add_argument("--provider", type=_provider, action="append", metavar="NAME", help=providers)
    threads = "threads for each operator (default: all that may be used)"
    group.add_argument("--threads", type=integer, metavar="N", help=threads)
    if spin:
        group.add_argument(
            "--no-spin", dest="spin", action="store_false", help="let idle threads sleep instead of busy-waiting"
        )
    else:
        group.add_argument("--spin", action="store_true", help="let idle threads busy-wait instead of sleeping")


def add_options(
    parser: argparse.ArgumentParser,
    without: Collection[str] = (),
    defaults: Mapping[str, str] = MappingProxyType({}),
    precedence: str = "Each defaults to the preset's value, then to the model's, then to the default shown.",
) -> None:
    """Add the fields of `GenerationConfig` as flags; the namespace holds only those that are given.

    Args:
        parser: The command's.
        without: The fields that the command lacks.
        defaults: The defaults of the command, in words, where they are not the fields'.
        precedence: Where a default comes from, for the help.
    """
    group = parser.add_argument_group("generation options", precedence)
    for spec in fields(GenerationConfig):
        if spec.name not in without:
            flag, help_ = "--" + spec.name.replace("_", "-"), _help(spec, defaults.get(spec.name))
            group.add_argument(flag, dest=spec.name, default=argparse.SUPPRESS, help=help_, **_form(spec))


def _help(spec: Field[Any], default: object) -> str:
    """Return what an option does, and its default where that is not an empty list."""
    meaning: str = spec.metadata["help"]
    if spec.type == tuple[str, ...]:
        return f"{meaning} (may be given several times)"
    if default is None:
        default = ("on" if spec.default else "off") if spec.type is bool else spec.default
    return meaning if default == () else f"{meaning} (default: {default})"


def _form(spec: Field[Any]) -> dict[str, Any]:
    """Return how the value of an option is written on the command line."""
    if spec.type is bool:
        return {"action": argparse.BooleanOptionalAction}
    if spec.type == tuple[str, ...]:
        return {"action": "append", "metavar": "STRING"}
    if spec.type == tuple[int, ...]:
        return {"nargs": "+", "type": integer, "metavar": "ID"}
    if choices := spec.metadata["choices"]:
        return {"choices": choices}
    return {"type": integer if spec.type is int else number, "metavar": "N"}


def given_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `GenerationConfig` that were given, each checked by itself.

    Raises:
        OptionError: A value is not allowed. Combinations are checked once the bundle's own options are known.
    """
    given = {name: value for name, value in vars(arguments).items() if name in OPTION_NAMES}
    for name, value in given.items():
        GenerationConfig(**{name: value})
    return given


def _provider(name: str) -> str:
    if name not in PROVIDERS and not name.endswith("ExecutionProvider"):
        raise argparse.ArgumentTypeError(
            f"{name!r} is not one of {', '.join(PROVIDERS)}, nor a name of ONNX Runtime's{meant(name, PROVIDERS)}"
        )
    return name
