"""Score Turkish texts by nano's variants, methods and presets beside each other, and time scoring at the real size.

    python benchmarks/perplexity.py [--work DIR] [--pages N] [--full FULL] [--rounds N]

The texts are manual pages of Debian's package manpages-tr, which apt downloads into DIR, sentences of the kind that
nano was trained on, and right answers to questions that it has not seen. Rows that are done are kept in DIR and not
measured again. FULL is a bundle of the checkpoint that `benchmarks/full_size.py` writes, with the variants fp32, int8
and int8-batch. The section `perplexity` of RESULTS.md is replaced, and `scoring-time` if FULL is given.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random

from likelihood import comparison, manpages, speed
from likelihood.comparison import Corpus
from likelihood.report import TEXT, TIME
from likelihood.settings import NANO, SETTINGS, SHORT_ONLY, Setting, bundles
from results import circumstances, machine, table, today, versions, write_section

from diffutron_ort import Diffutron
from diffutron_ort.perplexity.result import Result

sys.path.append(str(NANO))

from exercises import sentence
from questions import questions

PACKAGES = ("diffutron-ort", "onnxruntime", "numpy", "tokenizers")
VARIANTS = ("fp32", "int8", "int8-batch")
DRAWS = 5000  # of sentences; few of them differ
ANSWERS = 260
SAMPLES = (4, 8, 16, 32)
FEW_SENTENCES, FEW_PAGES = 40, 3  # for the spread over seeds


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("perplexity-work"), help="where text, bundles and rows are")
    parser.add_argument("--pages", type=int, default=20, help="how many manual pages; 0 leaves the comparison out")
    parser.add_argument("--full", type=Path, help="bundle of the real size")
    parser.add_argument("--rounds", type=int, default=3, help="of the times at the real size")
    return parser.parse_args()


def sentences() -> list[str]:
    """Return the different sentences that nano's generator draws."""
    rng = Random("perplexity")
    return list(dict.fromkeys(sentence(rng) for _ in range(DRAWS)))


class Rows:
    """Rows of tables, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[str]] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def get(self, key: str, make: Callable[[], list[str]]) -> list[str]:
        """Return a row, which is made unless it is known."""
        if key not in self._known:
            self._known[key] = make()
            print(key, *self._known[key], sep="  ", flush=True)
            self._path.write_text(json.dumps(self._known, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return self._known[key]


def compared(rows: Rows, settings: Sequence[Setting], models: dict[str, Path], corpus: Corpus) -> str:
    """Return the table of the settings on some texts."""
    by_label = {one.label: one for one in settings}

    @cache
    def found(label: str) -> list[Result]:
        one = by_label[label]
        return comparison.scored(models[one.bundle], one.variant, corpus, one.how)

    def make(one: Setting) -> list[str]:
        return comparison.row(found(one.label), None if one.against == one.label else found(one.against))

    lines = [[one.label, *rows.get(f"{corpus.name}: {one.label}", lambda one=one: make(one))] for one in settings]
    return table((corpus.name, *comparison.HEAD), lines)


def spreads(rows: Rows, title: str, bundle: Path, texts: Sequence[str]) -> str:
    """Return the table of how the bound's estimate changes with the seed."""
    model = Diffutron.from_pretrained(bundle, variant="int8")
    lines = [
        [f"{n}", *rows.get(f"{title}: {n} samples", lambda n=n: comparison.spread(model, texts, n))] for n in SAMPLES
    ]
    return table((f"samples, {title}", *comparison.SPREAD_HEAD), lines)


def compare(options: argparse.Namespace) -> None:
    """Compare, and write the section."""
    every, known = list(manpages.pages(options.work).values()), sentences()
    pages, others = every[::2][: options.pages], every[1::2]
    models = bundles(options.work, [*others, *known])
    rows, whole = Rows(options.work / "rows.json"), models["whole"]
    short = (*SETTINGS, *SHORT_ONLY)
    exercises = list(islice(questions(1, "held-out"), ANSWERS))
    answers = [one.answer for one in exercises], [one.question for one in exercises]
    content = TEXT.format(
        where=circumstances(today(), machine(), versions(PACKAGES)),
        pages=compared(rows, SETTINGS, models, Corpus(f"{len(pages)} manual pages", pages)),
        sentences=compared(rows, short, models, Corpus(f"{len(known)} sentences", known)),
        answers=compared(rows, short, models, Corpus(f"{ANSWERS} answers", *answers)),
        spread_sentences=spreads(rows, f"{FEW_SENTENCES} sentences", whole, known[:FEW_SENTENCES]),
        spread_pages=spreads(rows, f"{FEW_PAGES} manual pages", whole, pages[:FEW_PAGES]),
        seeds=comparison.SEEDS,
    )
    write_section("perplexity", content)


def clock(options: argparse.Namespace) -> None:
    """Take times, and write the section."""
    rows = Rows(options.work / "rows.json")

    def make(variant: str) -> list[str]:
        return speed.row(speed.times(Diffutron.from_pretrained(options.full, variant=variant), options.rounds))

    found = [[one, *rows.get(f"time: {one}, {options.rounds} rounds", lambda one=one: make(one))] for one in VARIANTS]
    where = circumstances(today(), machine(), versions(PACKAGES))
    write_section("scoring-time", TIME.format(where=where, rows=table(speed.HEAD, found), rounds=options.rounds))


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
