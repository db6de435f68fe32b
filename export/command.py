"""`diffutron-ort export`: a checkpoint becomes a bundle."""

import argparse
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from diffutron_ort.errors import DiffutronError, OptionError
from diffutron_ort.signals import told_to_end
from diffutron_ort_export.progress import Report, progress, silent
from diffutron_ort_export.recipes import DEFAULTS, RECIPES
from diffutron_ort_export.request import LONG, SHORT, VARIANTS, Request, checked
from diffutron_ort_export.staging import staged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `diffutron-ort export`."""
    purposes = "".join(f"; {recipe.name} is {recipe.purpose}" for recipe in RECIPES.values() if recipe.purpose)
    for name, text in (
        ("source", "directory in the Hugging Face layout, or hub id"),
        ("out", "where the bundle goes; must be free, or an empty directory"),
    ):
        # `run` looks whether it is there: a list before it may have taken it.
        parser.add_argument(name, metavar=name.upper(), help=text).required = False
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
    """Do what the arguments say, and show how far it is."""
    give_back(args)
    request = checked(
        args.source,
        args.out,
        variants=[name for text in joined(args.variant) or DEFAULTS for name in text.split(",") if name],
        adapter=args.adapter,
        revision=args.revision,
        context_length=args.context_length,
        exclude=joined(args.exclude),
        accept=args.accept,
        output_vocabulary=args.output_vocabulary,
    )
    with progress() as report:
        write(request, report)


def give_back(args: argparse.Namespace) -> None:
    """Give SOURCE and OUT what a list before them took, as in `--variant fp32 int8 SOURCE OUT`.

    Raises:
        OptionError: there is no SOURCE, or no OUT.
    """
    missing = [name for name in ("source", "out") if getattr(args, name) is None]
    if not missing:
        return
    count = len(missing)
    eaters = [names for names in args.variant or [] if len(names) - count == named(names)]
    eaters += [names for names in args.exclude or [] if len(names) >= count]
    if not eaters:
        names = " and ".join(name.upper() for name in missing)
        raise OptionError(f"{names} missing: diffutron-ort export SOURCE OUT [options]")
    for name in reversed(missing):
        setattr(args, name, eaters[0].pop())


def named(names: Sequence[str]) -> int:
    """Return how many of the arguments of --variant are for it: the first, and all that name variants after it."""
    return 1 + sum(1 for _ in takewhile(lambda text: {*VARIANTS, ""}.issuperset(text.split(",")), names[1:]))


def joined(lists: Sequence[Sequence[str]] | None) -> list[str] | None:
    """Return the arguments of an option that may be given several times; None where it was not given."""
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
) -> None:
    """Turn a checkpoint into a bundle, which is written when it is whole and verified, or not at all.

    Nothing is printed; what a user should know of the result is a `DiffutronWarning`.

    Args:
        source: a directory in the Hugging Face layout, or a hub id.
        out: where the bundle goes; must be free, or an empty directory.
        variants: names of `recipes.RECIPES`, or one of them.
        adapter: directory of a peft LoRA adapter to merge.
        revision: of a hub id; the current one unless given, and recorded either way.
        context_length: how long prompt and answer may be together; 256 unless given, 512 for a name that ends in Base.
        exclude: names or patterns of matrices that int8 leaves in float32; found by measuring unless given.
        accept: whether to write a quantized variant however far from float32 it is.
        output_vocabulary: a text file, or one of ids: the pieces that can be predicted; all unless given.

    Raises:
        CheckpointError: source or adapter cannot be exported.
        FidelityError: the graph differs from transformers' model by more than the variant's tolerance.
        OptionError: an option has no meaning here, or `out` cannot be written or holds something.
        DiffutronError: the disk refuses something; or `out` was taken meanwhile, and the message says where the
            finished bundle is kept.
    """
    request = checked(
        source,
        out,
        variants=variants,
        adapter=adapter,
        revision=revision,
        context_length=context_length,
        exclude=exclude,
        accept=accept,
        output_vocabulary=output_vocabulary,
    )
    write(request, silent)


def write(request: Request, report: Report) -> None:
    """Do what `export` says it does."""
    with told_to_end(), staged(request.out) as stage:  # whatever cannot be written is found out first
        report(f"reading {request.source}", 0.2)
        try:  # torch and transformers take seconds to import
            from diffutron_ort_export import pipeline
        except ModuleNotFoundError as error:
            raise DiffutronError(f"export needs {error.name}: pip install 'diffutron-ort[cpu,export]'") from error
        pipeline.fill(stage, request, report)
