"""`diffutron-ort info`: show where a model comes from, its variants, and which of them are here."""

import argparse
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from diffutron_ort.bundle.load import read_options
from diffutron_ort.bundle.locate import EMBEDDED
from diffutron_ort.bundle.looking import Unexported, look
from diffutron_ort.bundle.manifest import EXACT, FORMAT, Bundle, Variant, read_manifest
from diffutron_ort.cli.flags import MODEL, REVISION, VARIANT
from diffutron_ort.cli.parser import Parser, filled
from diffutron_ort.cli.writing import megabytes, print_json, print_table
from diffutron_ort.errors import DiffutronError
from diffutron_ort.files import read_bytes

CARD = "README.md"  # of a model; its front matter names the licence
LICENCE = re.compile(r"\A---\n(?:[^-].*\n)*?license:[ \t]*([\w.+-]{1,60})[ \t]*\n")
MOST_CARD = 2**20  # bytes


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", nargs="?", type=filled, help=MODEL)
    parser.add_argument("--revision", type=filled, help=REVISION)
    parser.add_argument("--variant", type=filled, help=VARIANT)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def run(arguments: argparse.Namespace) -> None:
    """Print what the manifest says; nothing is exported, and no more than the manifest is downloaded."""
    found = look(arguments.model, arguments.revision, arguments.variant)
    if isinstance(found, Unexported):
        from diffutron_ort.cli.unexported import describe as describe_unexported

        said, rows = describe_unexported(found)
        tables = [rows]
    else:
        bundle = read_manifest(found)
        said = describe(bundle, bundle.variants if arguments.variant is None else [arguments.variant])
        tables = [_facts(said), [["variant", "size", "compared with the checkpoint", "files"], *_variants(said)]]
    if arguments.json:
        print_json(said)
        return
    for i, table in enumerate(tables):
        print("\n" * (i > 0), end="")
        print_table(table)


def describe(bundle: Bundle, variants: Any) -> dict[str, Any]:
    """Return what is known of a bundle, as `--json` prints it.

    Raises:
        OptionError: It has no variant of a name in `variants`.
    """
    return {
        "kind": "bundle",
        "source": dict(bundle.source),
        "licence": _licence(bundle.folder),
        "format": FORMAT,
        "tools": dict(bundle.tools),
        "least_onnxruntime": bundle.least_onnxruntime,
        "context_length": bundle.context_length,
        "vocab_size": bundle.vocab_size,
        "predictable": bundle.columns,
        "layers": bundle.layers,
        "hidden_size": bundle.hidden_size,
        "special_ids": asdict(bundle.special),
        "stop_sequences": [{"text": text, "ids": list(ids)} for text, ids in bundle.stop_sequences],
        "options": _options(bundle),
        "folder": str(bundle.folder),
        "default_variant": bundle.default_variant,
        "variants": {name: _variant(bundle, bundle.variant(name)) for name in variants},
    }


def _variant(bundle: Bundle, variant: Variant) -> dict[str, Any]:
    """Return what is known of a variant; a file is here if it has the right size."""
    here = [file for file in variant.files if _size(bundle.folder / file) == bundle.files[file].size]
    return {
        "size": sum(bundle.files[file].size for file in variant.files),
        "files": list(variant.files),
        "here": here,
        "providers": None if variant.providers is None else list(variant.providers),
        "batch_invariant": variant.batch_invariant,
        "fidelity": dict(variant.fidelity),
    }


def _size(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_size
    return None


def _options(bundle: Bundle) -> dict[str, Any] | None:
    """Return the options in which a bundle differs from the package's defaults; None if their file is not here."""
    try:
        return read_options(bundle)
    except DiffutronError:
        return None


def _licence(folder: Path) -> str | None:
    """Return the licence that the model's card names; the package's own for the embedded model; None if unknown."""
    with suppress(DiffutronError, UnicodeDecodeError):
        if found := LICENCE.match(read_bytes(folder / CARD, most=MOST_CARD).decode("utf-8")):
            return found[1]
    if folder in EMBEDDED:
        with suppress(metadata.PackageNotFoundError, KeyError):
            return metadata.metadata("diffutron-ort")["License-Expression"]
    return None


def _facts(said: Mapping[str, Any]) -> list[list[str]]:
    """Return the facts about a model as rows."""
    source = {name: value for name, value in said["source"].items() if value is not None}
    tools = ", ".join(f"{name} {version}" for name, version in said["tools"].items())
    return [
        *([name if name != "name" else "model", value] for name, value in source.items()),
        *([["licence", said["licence"]]] if said["licence"] else []),
        ["format", f"{said['format']}, for ONNX Runtime {said['least_onnxruntime']} or newer"],
        *([["made with", tools]] if tools else []),
        ["context", f"{said['context_length']:,} tokens"],
        ["vocabulary", f"{said['vocab_size']:,} tokens, of which {said['predictable']:,} can be predicted"],
        ["network", f"{said['layers']} layers of width {said['hidden_size']}"],
        ["special", ", ".join(f"{name} {token}" for name, token in said["special_ids"].items())],
        ["stops at", ", ".join(f"{stop['text']!r} {stop['ids']}" for stop in said["stop_sequences"]) or "nothing"],
        ["options", _said_options(said["options"])],
        ["folder", said["folder"]],
    ]


def _said_options(options: Mapping[str, Any] | None) -> str:
    if options is None:
        return "unknown until the files are here"
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "the package's defaults"


def _variants(said: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each variant: its name, size and fidelity card, and whether its files are here."""
    return [
        [name, megabytes(one["size"]), _card(one["fidelity"]), _here(one)] for name, one in said["variants"].items()
    ]


def _here(one: Mapping[str, Any]) -> str:
    missing = len(one["files"]) - len(one["here"])
    return "here" if not missing else f"{len(one['here'])} of {len(one['files'])} here" if one["here"] else "not here"


def _card(card: Mapping[str, Any]) -> str:
    """Return the figures that a variant is judged by, in words."""
    if EXACT in card:
        return f"largest error of a logit: {card[EXACT]:.1e} of their standard deviation"
    return f"same best token in {card['agreement']:.1%} of clear rows" if "agreement" in card else "unknown"
