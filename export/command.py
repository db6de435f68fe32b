"""`diffutron-ort export`: convert a checkpoint to a bundle."""

import argparse
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from diffutron_ort.cli.progress import progress
from diffutron_ort.errors import OptionError
from diffutron_ort.extras import needing
from diffutron_ort.signals import told_to_end
from diffutron_ort.types import Progress
from diffutron_ort_export.progress import silent, summed
from diffutron_ort_export.recipes import DEFAULTS, RECIPES
from diffutron_ort_export.request import LONG, SHORT, VARIANTS, Request, check_request
from diffutron_ort_export.staging import staged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `diffutron-ort export`."""
    for name, text in (
        ("source", "directory in the Hugging Face layout, or hub id"),
        ("out", "path of the bundle; must be free, or an empty directory"),
    ):
        # Not required here, since a list before it may have consumed it; `run` gives it back.
        parser.add_argument(name, metavar=name.upper(), help=text).required = False
    add_variant_arguments(parser)
    parser.add_argument(
        "--output-vocabulary",
        metavar="FILE",
        help="predict only the tokens that the language of this text needs, or these ids; prompts may hold any token",
    )
    parser.add_argument("--adapter", metavar="DIR", help="peft LoRA adapter to merge")
    parser.add_argument(
        "--revision",
        metavar="SHA",
        help="branch, tag or commit of a hub id (default: the current commit, which is recorded)",
    )
    parser.add_argument(
        "--context-length",
        type=int,
        metavar="N",
        help=f"most tokens, prompt and answer together (default: {SHORT}, or {LONG} for a name that ends in Base)",
    )


def add_variant_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the variants and how they are quantized."""
    purposes = "".join(f"; {recipe.name} is {recipe.purpose}" for recipe in RECIPES.values() if recipe.purpose)
    excluding = " and ".join(recipe.name for recipe in RECIPES.values() if recipe.takes_exclude)
    parser.add_argument(
        "--variant",
        nargs="+",
        action="append",
        metavar="NAME",
        help=f"{', '.join(VARIANTS)}{purposes} (default: {' '.join(DEFAULTS)})",
    )
    parser.add_argument(
        "--exclude",
        nargs="*",
        action="append",
        metavar="MATRIX",
        help=f"matrices that {excluding} leaves in float32, by name or pattern (default: found by measuring)",
    )
    parser.add_argument("--accept", action="store_true", help="write a variant however far from float32 it is")
    parser.add_argument(
        "--thorough", action="store_true", help="measure quantized variants on more texts, which takes minutes"
    )


def run(args: argparse.Namespace) -> None:
    """Export as the arguments say, and report the progress."""
    return_consumed(args)
    request = check_request(
        args.source,
        args.out,
        variants=[name for text in joined(args.variant) or DEFAULTS for name in text.split(",") if name],
        adapter=args.adapter,
        revision=args.revision,
        context_length=args.context_length,
        exclude=joined(args.exclude),
        accept=args.accept,
        output_vocabulary=args.output_vocabulary,
        thorough=args.thorough,
    )
    with progress() as report:
        write(request, report)


def return_consumed(args: argparse.Namespace) -> None:
    """Give SOURCE and OUT back the arguments that a list before them consumed: `--variant fp32 int8 SOURCE OUT`.

    Raises:
        OptionError: SOURCE or OUT is missing.
    """
    missing = [name for name in ("source", "out") if getattr(args, name) is None]
    if not missing:
        return
    count = len(missing)
    consumers = [names for names in args.variant or [] if len(names) - count == count_named(names)]
    consumers += [names for names in args.exclude or [] if len(names) >= count]
    if not consumers:
        names = " and ".join(name.upper() for name in missing)
        raise OptionError(f"{names} missing: diffutron-ort export SOURCE OUT [options]")
    for name in reversed(missing):
        setattr(args, name, consumers[0].pop())


def count_named(names: Sequence[str]) -> int:
    """Return how many arguments of --variant belong to it: the first, and those after it that name variants."""
    return 1 + sum(1 for _ in takewhile(lambda text: {*VARIANTS, ""}.issuperset(text.split(",")), names[1:]))


def joined(lists: Sequence[Sequence[str]] | None) -> list[str] | None:
    """Return the arguments of all occurrences of an option; None if it was not given."""
    return None if lists is None else [text for texts in lists for text in texts]


def export(
    source: str | Path,
    out: str | Path,
    *,
    variants: Sequence[str] = DEFAULTS,
    adapter: str | Path | None = None,
    revision: str | None = None,
    context_length: int | None = None,
    exclude: Sequence[str] | None = None,
    accept: bool = False,
    output_vocabulary: str | Path | None = None,
    thorough: bool = False,
) -> None:
    """Convert a checkpoint to a bundle, which appears only once it is complete and verified.

    Prints nothing; what a user should know about the result is a `DiffutronWarning`.

    Args:
        source: A directory in the Hugging Face layout, or a hub id.
        out: The path of the bundle; must be free, or an empty directory.
        variants: Names of variants, or one name; `recipes.RECIPES` has them.
        adapter: The directory of a peft LoRA adapter to merge.
        revision: A branch, tag or commit of a hub id; by default the current commit. The commit is recorded.
        context_length: The most tokens, prompt and answer together; by default 256, or 512 for a name that ends in
            Base.
        exclude: Names or patterns of matrices that int8 leaves in float32; by default they are found by measuring.
        accept: Whether to write a quantized variant however far from float32 it is.
        output_vocabulary: A text file, or a file of ids, that says which tokens can be predicted; by default all.
        thorough: Whether to measure quantized variants on more texts and at every step of a generation, which takes
            minutes at the real size.

    Raises:
        CheckpointError: The source or the adapter cannot be exported.
        FidelityError: The graph differs from the checkpoint's predictions by more than the variant's tolerance.
        OptionError: An option has no meaning here, or `out` cannot be written or is not empty.
        DiffutronError: A file cannot be written; or `out` was taken meanwhile, and the message says where the finished
            bundle is kept.
    """
    request = check_request(
        source,
        out,
        variants=variants,
        adapter=adapter,
        revision=revision,
        context_length=context_length,
        exclude=exclude,
        accept=accept,
        output_vocabulary=output_vocabulary,
        thorough=thorough,
    )
    write(request, silent)


def write(request: Request, progress: Progress) -> None:
    """Write the bundle of a checked request; call `progress` as each stage begins."""
    with told_to_end(), staged(request.out) as stage:  # first, so that a place that cannot be written fails at once
        report = summed(progress)
        report(f"reading {request.source}", 0.2)
        with needing("export", "export"):  # here, because torch and transformers take seconds to import
            from diffutron_ort_export import pipeline
        pipeline.fill(stage, request, report)
