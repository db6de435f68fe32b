"""`diffutron-ort info`: show where a model comes from, and its variants."""

import argparse

from diffutron_ort.bundle.manifest import EXACT, Bundle, Variant, read_manifest
from diffutron_ort.cli.flags import MODEL, REVISION, VARIANT
from diffutron_ort.cli.loading import located
from diffutron_ort.cli.parser import Parser, filled
from diffutron_ort.cli.writing import megabytes, print_table


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", nargs="?", type=filled, help=MODEL)
    parser.add_argument("--revision", type=filled, help=REVISION)
    parser.add_argument("--variant", type=filled, help=VARIANT)


def run(arguments: argparse.Namespace) -> None:
    """Print what the manifest says; the files of a bundle are neither checked nor downloaded."""
    bundle = read_manifest(located(arguments.model, arguments.revision, arguments.variant, whole=False))
    names = bundle.variants if arguments.variant is None else [arguments.variant]
    variants = [_row(bundle, name, bundle.variant(name)) for name in names]
    print_table(_facts(bundle))
    print()
    print_table([["variant", "size", "compared with the checkpoint"], *variants])


def _facts(bundle: Bundle) -> list[list[str]]:
    """Return the facts about a model as rows."""
    source = {name: value for name, value in bundle.source.items() if value is not None}
    return [
        *([name if name != "name" else "model", value] for name, value in source.items()),
        ["context", f"{bundle.context_length:,} tokens"],
        ["vocabulary", f"{bundle.vocab_size:,} tokens, of which {bundle.columns:,} can be predicted"],
        ["network", f"{bundle.layers} layers of width {bundle.hidden_size}"],
        ["folder", str(bundle.folder)],
    ]


def _row(bundle: Bundle, name: str, variant: Variant) -> list[str]:
    """Return what is shown of a variant: its name, size and fidelity card."""
    size = sum(bundle.files[file].size for file in variant.files)
    return [name, megabytes(size), _card(variant)]


def _card(variant: Variant) -> str:
    """Return the figures that a variant is judged by, in words."""
    card = variant.fidelity
    if variant.is_exact:
        return f"largest error of a logit: {card[EXACT]:.1e} of their standard deviation"
    return f"same best token in {card['agreement']:.1%} of clear rows" if "agreement" in card else "unknown"
