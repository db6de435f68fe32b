"""Score Turkish texts by nano's variants, methods and presets beside each other, and time scoring at the real size.

    python benchmarks/perplexity.py [--work DIR] [--pages N] [--full FULL] [--rounds N]

The texts are the manual pages of Debian's package manpages-tr, which apt downloads into DIR, and sentences of the kind
that nano was trained on. FULL is a bundle of the checkpoint that `benchmarks/full_size.py` writes, with the variants
fp32, int8 and int8-batch. Section `perplexity` of RESULTS.md is replaced, and `perplexity-time` if FULL is given.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

from likelihood import comparison, manpages, speed
from likelihood.settings import NANO, SETTINGS, SHORT_ONLY, Setting, bundles
from results import aligned, circumstances, machine, table, today, versions, write_section

from diffutron_ort import Diffutron

sys.path.append(str(NANO))

from exercises import sentence  # of models/nano

PACKAGES = ("diffutron-ort", "onnxruntime", "numpy", "tokenizers")
DRAWS = 20_000  # there are 123 different ones
VARIANTS = ("fp32", "int8", "int8-batch")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("perplexity-work"), help="where text and bundles are kept")
    parser.add_argument("--pages", type=int, default=50, help="how many manual pages; 0 leaves the comparison out")
    parser.add_argument("--full", type=Path, help="bundle of the real size")
    parser.add_argument("--variant", nargs="+", default=VARIANTS, help="of FULL")
    parser.add_argument("--rounds", type=int, default=5, help="of the times at the real size")
    return parser.parse_args()


def sentences() -> list[str]:
    """Return the different sentences that nano's generator draws."""
    rng = Random("perplexity")
    return list(dict.fromkeys(sentence(rng) for _ in range(DRAWS)))


def rows(settings: Sequence[Setting], models: dict[str, Path], texts: Sequence[str]) -> list[list[str]]:
    """Score texts by each setting, and return a row for each."""
    found: dict[str, comparison.Measured] = {}
    for setting in settings:
        found[setting.label] = comparison.measure(models[setting.bundle], setting.variant, texts, setting.how)
        print(comparison.row(setting.label, found[setting.label], found[setting.against]), flush=True)
    return [comparison.row(one.label, found[one.label], found[one.against]) for one in settings]


def compare(options: argparse.Namespace) -> None:
    """Compare, and write the section."""
    every = list(manpages.pages(options.work).values())
    known = sentences()
    texts, others = every[::2][: options.pages], every[1::2]
    models = bundles(options.work, [*others, *known])
    parts = ["## What a text costs (`benchmarks/perplexity.py`)", circumstances(today(), machine(), versions(PACKAGES))]
    for title, given, settings in (
        (f"{len(texts)} manual pages", texts, SETTINGS),
        (f"{len(known)} sentences", known, (*SETTINGS, *SHORT_ONLY)),
    ):
        parts.append(table((title, *comparison.HEAD[1:]), rows(settings, models, given)))
    write_section("perplexity", "\n\n".join(parts))


def clock(options: argparse.Namespace) -> None:
    """Take times, and write the section."""
    found = []
    for variant in options.variant:
        model = Diffutron.from_pretrained(options.full, variant=variant)
        found.append(speed.row(variant, speed.times(model, options.rounds)))
        print(aligned(speed.HEAD, found), flush=True)
    title = "## What scoring takes (`benchmarks/perplexity.py --full`)"
    where = circumstances(today(), machine(), versions(PACKAGES))
    write_section("perplexity-time", "\n\n".join([title, where, table(speed.HEAD, found)]))


def main() -> None:
    """Run what is asked for."""
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.pages:
        compare(options)
    if options.full:
        clock(options)


if __name__ == "__main__":
    main()
