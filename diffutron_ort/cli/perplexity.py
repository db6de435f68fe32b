"""`diffutron-ort perplexity`: measure how well a model predicts the texts in files."""

import argparse
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from diffutron_ort.cli.corpus import check_files, documents_of, record, recorded, total_of, written
from diffutron_ort.cli.figures import rounded, uncertain
from diffutron_ort.cli.flags import add_model, add_options, given_options
from diffutron_ort.cli.loading import load_model
from diffutron_ort.cli.parser import Parser, filled, integer
from diffutron_ort.cli.rate import often
from diffutron_ort.cli.scoring_flags import IGNORED, add_scoring, described, scoring_arguments
from diffutron_ort.cli.terminal import DONE, FAILED, say
from diffutron_ort.cli.writing import print_json, print_table
from diffutron_ort.errors import InputError
from diffutron_ort.model import Diffutron
from diffutron_ort.perplexity.documents import FIELD, FORMATS
from diffutron_ort.perplexity.measuring import METHOD, SAMPLES, measured
from diffutron_ort.perplexity.pairs import Pairs
from diffutron_ort.perplexity.result import Result
from diffutron_ort.perplexity.summary import Summary, Tally
from diffutron_ort.scoring.options import NO_PENALTY
from diffutron_ort.types import Progress

MOST_SAID = 10  # failures that are reported one by one


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    files = "a text, which is one document, or a .jsonl or .csv of documents, plain or .gz; - is standard input"
    parser.add_argument("files", nargs="+", metavar="FILE", type=filled, help=files)
    kind = "what a file holds (default: as its name says): text is one document, lines has one a line"
    parser.add_argument("--format", dest="kind", choices=FORMATS, help=kind)
    field = f"name of the text in a .jsonl or .csv (default: {FIELD})"
    parser.add_argument("--column", dest="field", metavar="NAME", type=filled, default=FIELD, help=field)
    parser.add_argument("--limit", metavar="N", type=integer, help="take only the first N documents")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    output = "write a line of JSON for each document"
    parser.add_argument("--output", metavar="FILE", type=filled, help=output)
    against = "the --output of another run over the same documents: show how much more or less this one takes"
    parser.add_argument("--against", metavar="FILE", type=filled, help=against)
    add_scoring(parser, METHOD, SAMPLES)
    add_model(parser)
    defaults = {name: f"{value}, whatever the model's" for name, value in NO_PENALTY.items()}
    precedence = "Each defaults to the preset's value, then to the model's, then to the default shown."
    add_options(parser, IGNORED, defaults, precedence)


def run(arguments: argparse.Namespace) -> int:
    """Print the figures of the files, and return the exit code: 1 if a document failed."""
    options = given_options(arguments)
    how = {"method": arguments.method, "samples": SAMPLES, **scoring_arguments(arguments), **options}
    check_files(arguments)
    drawn = {name: how.get(name, 0) for name in ("samples", "seed")} if how["method"] == "elbo" else {}
    pairs = None if arguments.against is None else Pairs(arguments.against, {"method": how["method"], **drawn})
    model = load_model(arguments, arguments.preset, **options)
    begun = time.perf_counter()
    summary = _measured(arguments, model, how, pairs, drawn)
    told = {"seconds": round(time.perf_counter() - begun, 4), **described(model, how)}
    if not summary.documents:
        missing = f"{counted(summary.empty)} without any, {summary.failed} that failed"
        raise InputError(f"there is no text to score: {missing}")
    _say_remarks(summary, pairs)
    if arguments.json:
        difference = {"difference": None if pairs is None else pairs.told()}
        print_json(recorded(summary) | difference | {"model": dict(model.bundle.source)} | told)
    else:
        print_table(_rows(summary, told, pairs))
    return FAILED if summary.failed else DONE


def _measured(
    arguments: argparse.Namespace,
    model: Diffutron,
    how: Mapping[str, Any],
    pairs: Pairs | None,
    drawn: Mapping[str, Any],
) -> Summary:
    """Score the documents, write the result of each, and return the figures of all."""
    documents = islice(documents_of(arguments), arguments.limit)
    tally = Tally()
    with written(arguments.output) as write, often() as shown:
        progress = Running(tally, total_of(arguments), shown)
        try:
            for result in measured(model, documents, report=progress.report, **how):
                tally.add(result)
                progress.note(result)
                write(record(result, drawn))
                if pairs is not None:
                    pairs.add(result)
        except KeyboardInterrupt:
            say(f"interrupted: {progress}")
            raise
    return tally.summary()


class Running:
    """How far a run is, in words.

    Attributes:
        tally: What is done.
        total: Number of documents; None if that is not known.
    """

    def __init__(self, tally: Tally, total: int | None, shown: Progress) -> None:
        self.tally, self.total, self._shown = tally, total, shown
        self._begun = time.monotonic()

    def report(self, share: float) -> None:
        """Show it, with a part of the documents at hand done."""
        self._shown(str(self), (self.tally.summary().total + share) / self.total if self.total else 0.0)

    def note(self, result: Result) -> None:
        """Say why a document that was just counted has failed, if it has, unless many have."""
        if result.error is None:
            return
        failed = self.tally.summary().failed
        if failed <= MOST_SAID:
            say(str(result.error))
        elif failed == MOST_SAID + 1:
            say("more documents fail; --output tells why each of them does")

    def __str__(self) -> str:
        """Return how far it is."""
        summary, seconds = self.tally.summary(), time.monotonic() - self._begun
        of = f"{summary.total}" if self.total is None else f"{summary.total} of {self.total}"
        speed = f", {rounded(summary.tokens / seconds, 2)} tokens a second" if summary.tokens and seconds else ""
        so_far = f", perplexity {rounded(summary.perplexity, 3)}" if summary.tokens else ""
        return f"{of} documents{speed}{so_far}"


def _say_remarks(summary: Summary, pairs: Pairs | None) -> None:
    """Say what a reader of the figures should know."""
    if pairs is not None and pairs.left_out:
        say(
            f"the other run has not scored the same tokens of {counted(pairs.left_out)}: the difference leaves them out"
        )
    if summary.empty:
        say(f"{counted(summary.empty)} without any text, left out")
    if summary.impossible_tokens:
        say(
            f"the model can never write {summary.impossible_tokens:,} of the tokens, so their texts are impossible: "
            "the figures leave these tokens out"
        )
    if summary.failed:
        say(f"{summary.failed} of {counted(summary.total)} failed")


def counted(number: int) -> str:
    """Return a number of documents in words."""
    return "1 document" if number == 1 else f"{number:,} documents"


def _rows(summary: Summary, how: Mapping[str, Any], pairs: Pairs | None) -> list[Sequence[str]]:
    """Return the figures in words."""
    drawn = f", {how['samples']} samples a window" if how["samples"] else ""
    part = summary.sampling_error
    masks = f" (± {rounded(part, 2)} from the masks drawn)" if part is not None else ""
    rows: list[Sequence[str]] = [
        ("method", f"{how['method']}{drawn}"),
        ("documents", f"{summary.documents:,}"),
        ("tokens", f"{summary.tokens:,}"),
        ("nats a token", f"{uncertain(summary.nats_per_token, summary.standard_error)}{masks}"),
        ("bits a byte", uncertain(summary.bits_per_byte, summary.bits_per_byte_error)),
        ("perplexity", uncertain(summary.perplexity, summary.perplexity_error)),
    ]
    if pairs is not None and pairs.ratio.value is not None:
        sign = "+" if pairs.ratio.value > 0 else ""
        difference = f"{sign}{uncertain(pairs.ratio.value, pairs.ratio.standard_error)} nats a token"
        rows.append(("difference", difference))
    return rows
