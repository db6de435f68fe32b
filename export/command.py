"""`diffutron-ort export`: a checkpoint becomes a bundle."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from diffutron_ort.conformance import CONFORMANCE
from diffutron_ort.errors import DiffutronError, OptionError

from .progress import Report, progress, silent

SHORT, LONG = 256, 512
"""What the instruction-tuned models and Base were trained with; config.json says 8192 of both."""

VARIANTS = "fp32, int8, fp16, or plain, the graph that optimum and transformers.js load"
"""The names in `recipes`, which takes seconds to import."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `diffutron-ort export`."""
    parser.add_argument("source", metavar="SOURCE", help="directory in the Hugging Face layout, or hub id")
    parser.add_argument("out", metavar="OUT", help="where the bundle goes; must be free, or an empty directory")
    parser.add_argument("--variant", nargs="+", default=["fp32"], metavar="NAME", help=f"{VARIANTS} (default: fp32)")
    parser.add_argument(
        "--exclude",
        nargs="*",
        metavar="MATRIX",
        help="matrices that int8 leaves in float32, by name or pattern; without it they are found by measuring",
    )
    parser.add_argument(
        "--output-vocabulary",
        metavar="FILE",
        help="predict only the pieces that the language of this text needs, or these ids; prompts stay free",
    )
    parser.add_argument("--accept", action="store_true", help="write a variant however far from float32 it is")
    parser.add_argument("--adapter", metavar="DIR", help="peft LoRA adapter to merge")
    parser.add_argument("--revision", metavar="SHA", help="of a hub id (default: the current one, which is recorded)")
    parser.add_argument(
        "--context-length",
        type=int,
        metavar="N",
        help=f"how long prompt and answer may be together (default: {SHORT}, {LONG} for a name that ends in Base)",
    )


def run(args: argparse.Namespace) -> None:
    """Does what the arguments say, and shows how far it is."""
    with progress() as report:
        write(
            args.source,
            Path(args.out),
            variants=tuple(args.variant),
            adapter=args.adapter,
            revision=args.revision,
            context_length=args.context_length,
            exclude=args.exclude,
            accept=args.accept,
            output_vocabulary=args.output_vocabulary,
            report=report,
        )


def export(
    source: str | Path,
    out: str | Path,
    *,
    variants: Sequence[str] = ("fp32",),
    adapter: str | Path | None = None,
    revision: str | None = None,
    context_length: int | None = None,
    exclude: Sequence[str] | None = None,
    accept: bool = False,
    output_vocabulary: str | Path | None = None,
) -> None:
    """Turns a checkpoint into a bundle; the bundle appears when it is whole and verified, or not at all.

    Args:
        source: a directory in the Hugging Face layout, or a hub id.
        out: where the bundle goes; must be free, or an empty directory.
        variants: names of rows of `recipes.RECIPES`.
        adapter: directory of a peft LoRA adapter to merge.
        revision: of a hub id; the current one unless given, and recorded either way.
        context_length: how long prompt and answer may be together; 256 unless given, 512 for a name that ends in Base.
        exclude: names or patterns of matrices that int8 leaves in float32; found by measuring unless given.
        accept: whether to write a quantized variant however far from float32 it is.
        output_vocabulary: a text file, or one of ids: the pieces that can be predicted; all unless given.

    Raises:
        CheckpointError: source or adapter cannot be exported.
        FidelityError: the graph differs from transformers' model by more than the variant's tolerance.
        OptionError: an option has no meaning here.
    """
    write(
        str(source),
        Path(out),
        variants=variants,
        adapter=None if adapter is None else str(adapter),
        revision=revision,
        context_length=context_length,
        exclude=exclude,
        accept=accept,
        output_vocabulary=output_vocabulary,
        report=silent,
    )


def write(
    name: str,
    out: Path,
    *,
    variants: Sequence[str],
    adapter: str | None,
    revision: str | None,
    context_length: int | None,
    exclude: Sequence[str] | None,
    accept: bool,
    output_vocabulary: str | Path | None,
    report: Report,
) -> None:
    """Does what `export` says it does."""
    try:  # torch and transformers take seconds to import, and --help needs neither
        from . import bundle
        from .conformance import record
        from .fidelity import Yardstick
        from .pieces import read_pieces
        from .recipes import chosen
        from .source import open_source
        from .variants import Job, Options
        from .wrap import wrap
    except ModuleNotFoundError as error:
        raise DiffutronError(f"export needs {error.name}: pip install 'diffutron-ort[cpu,export]'") from error

    recipes = chosen(variants)
    if exclude is not None and "int8" not in variants:
        raise OptionError(f"exclude {list(exclude)}: only int8 leaves matrices out, and it is not among the variants")
    bundle.refuse_taken(out)
    report(f"reading {name}", 0.2)
    source = open_source(name, revision=revision, adapter=adapter)
    if output_vocabulary is not None:
        source = replace(source, pieces=tuple(read_pieces(output_vocabulary, source.tokenizer).tolist()))
    length = context(context_length, source.name, source.shape.positions)
    yardstick, options = Yardstick(source), Options(exclude, accept)
    with bundle.staged(out) as folder:
        bundle.write_settings(source, folder)
        cards = {}
        for recipe in recipes:
            report(f"writing and verifying {recipe.name}", 0.5 / len(recipes))
            place = bundle.place(folder, recipe.graph)
            cards[recipe] = recipe.write(Job(place, bundle.provenance(source), yardstick, options))
            if recipe.foreign:
                continue
            wrap(place, bundle.place(folder, recipe.generation))
            cards[recipe] |= {} if source.pieces is None else {"output_vocabulary": yardstick.coverage()}
        report(f"recording what {out} does", 0.2)
        bundle.write_manifest(source, folder, length, cards)
        recorded = record(folder, source, [recipe.name for recipe in recipes if not recipe.foreign])
        bundle.write_json(folder / CONFORMANCE, recorded)
        report(f"finishing {out}", 0.1)
        bundle.write_manifest(source, folder, length, cards)  # that there is one file more


def context(asked: int | None, name: str, most: int) -> int:
    """How long prompt and answer may be together.

    Raises:
        OptionError: not from 1 to what the network has rotations for.
    """
    if asked is None:
        return min(LONG if name.endswith("Base") else SHORT, most)
    if not 1 <= asked <= most:
        raise OptionError(f"context length {asked}: choose from 1 to max_position_embeddings, which is {most}")
    return asked
