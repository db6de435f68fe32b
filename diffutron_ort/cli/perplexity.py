"""`diffutron-ort perplexity`: say how likely the texts of files are."""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from diffutron_ort.bulk.lines import STREAM
from diffutron_ort.cli.figures import finite, rounded, uncertain
from diffutron_ort.cli.flags import add_model, add_options, given_options
from diffutron_ort.cli.loading import load_model
from diffutron_ort.cli.parser import Parser, filled, integer
from diffutron_ort.cli.rate import often
from diffutron_ort.cli.scoring_flags import IGNORED, add_scoring, described, scoring_arguments
from diffutron_ort.cli.terminal import DONE, FAILED, say
from diffutron_ort.cli.writing import check_writable, print_json, print_table
from diffutron_ort.errors import DiffutronError, InputError, OptionError
from diffutron_ort.perplexity.documents import FIELD, FORMATS, Document, count_documents, open_documents
from diffutron_ort.perplexity.measuring import METHOD, PLAIN, SAMPLES, measured
from diffutron_ort.perplexity.result import Result
from diffutron_ort.perplexity.summary import Summary, Tally
from diffutron_ort.types import Progress

MOST_SAID = 10  # failures that are told one by one

Write: TypeAlias = Callable[[Mapping[str, Any]], object]


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    files = "a text, which is one document, or a .jsonl or .csv of documents, plain or .gz; - is standard input"
    parser.add_argument("files", nargs="+", metavar="FILE", type=filled, help=files)
    kind = "what a file holds (default: as its name says): text is one document, lines has one a line"
    parser.add_argument("--format", dest="kind", choices=FORMATS, help=kind)
    field = f"name of the text in a .jsonl or .csv (default: {FIELD})"
    parser.add_argument("--field", metavar="NAME", type=filled, default=FIELD, help=field)
    parser.add_argument("--limit", metavar="N", type=integer, help="take only the first N documents")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    output = "write a line of JSON for each document"
    parser.add_argument("--output", metavar="FILE", type=filled, help=output)
    add_scoring(parser, METHOD, SAMPLES)
    add_model(parser)
    defaults = {name: str(value) for name, value in PLAIN.items()}
    add_options(
        parser,
        IGNORED,
        defaults,
        "Each defaults to the preset's value, then to the model's, then to the default shown.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the figures of the files, and return the exit code: 1 if a document failed."""
    options = given_options(arguments)
    how = {"method": arguments.method, "samples": SAMPLES, **scoring_arguments(arguments), **options}
    _check(arguments)
    model = load_model(arguments, arguments.preset, **options)
    documents = islice(_documents(arguments), arguments.limit)
    tally, begun = Tally(), time.perf_counter()
    with _written(arguments.output) as write, often() as shown:
        progress = Running(tally, _total(arguments), shown)
        try:
            for result in measured(model, documents, report=progress.report, **how):
                tally.add(result)
                progress.note(result)
                write(_record(result))
        except KeyboardInterrupt:
            say(f"interrupted: {progress}")
            raise
    summary = tally.summary()
    if not summary.documents:
        raise InputError(f"none of {summary.empty + summary.failed} documents has a text that can be scored")
    _say_remarks(summary)
    if arguments.json:
        seconds = round(time.perf_counter() - begun, 4)
        print_json(_result(summary) | {"seconds": seconds, "model": dict(model.bundle.source)} | described(model, how))
    else:
        print_table(_rows(summary, described(model, how)))
    return FAILED if summary.failed else DONE


class Running:
    """How far a run is, in words.

    Attributes:
        tally: What is done.
        total: Number of documents; None if that is not known.
    """

    def __init__(self, tally: Tally, total: int | None, shown: Progress) -> None:
        self.tally, self.total, self._shown = tally, total, shown
        self._begun, self._done, self._failed = time.monotonic(), 0, 0

    def report(self, share: float) -> None:
        """Show it, with a part of the documents at hand done."""
        self._shown(str(self), (self._done + share) / self.total if self.total else 0.0)

    def note(self, result: Result) -> None:
        """Count a document, and say why it failed if it did, unless many have."""
        self._done += 1
        if result.error is None:
            return
        self._failed += 1
        if self._failed <= MOST_SAID:
            say(str(result.error))
        elif self._failed == MOST_SAID + 1:
            say("more documents fail; --output tells why each of them does")

    def __str__(self) -> str:
        """Return how far it is."""
        summary, seconds = self.tally.summary(), time.monotonic() - self._begun
        of = f"{self._done}" if self.total is None else f"{self._done} of {self.total}"
        speed = f", {rounded(summary.tokens / seconds, 2)} tokens a second" if summary.tokens and seconds else ""
        so_far = f", perplexity {rounded(summary.perplexity, 3)}" if summary.tokens else ""
        return f"{of} documents{speed}{so_far}"


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be read or written, before the model is loaded.

    Raises:
        OptionError: Arguments contradict each other, or are not allowed.
        InputError: A file has no column of the name that is asked for, or is UTF-16.
        OSError: A file cannot be read, or the output cannot be written.
    """
    if arguments.limit is not None and arguments.limit < 1:
        raise OptionError(f"limit={arguments.limit}: must be at least 1")
    if arguments.files.count(STREAM) > 1:
        raise OptionError("- is given twice, and standard input can be read once: leave one out")
    for name in arguments.files:
        if name != STREAM and not Path(name).is_fifo():  # which its writer would see opened and closed
            open_documents(name, arguments.kind, arguments.field)
    if arguments.output is not None:
        _check_output(arguments.output, arguments.files)


def _check_output(output: str, files: Sequence[str]) -> None:
    if output == STREAM:
        raise OptionError("--output -: standard output gets the figures; name a file for the documents")
    for name in files:
        with suppress(OSError):
            if Path(name).samefile(output):
                raise OptionError(f"{output} is read and written: give the output another name")
    check_writable(output)


def _documents(arguments: argparse.Namespace) -> Iterator[Document]:
    """Yield the documents of all files; a file that cannot be opened any more is one that failed."""
    for name in arguments.files:
        try:
            yield from open_documents(name, arguments.kind, arguments.field)
        except (OSError, DiffutronError) as error:
            yield Document(name, error=InputError(f"{name}: {getattr(error, 'strerror', None) or error}"))


def _total(arguments: argparse.Namespace) -> int | None:
    """Return how many documents there are at most, if that is known."""
    counts = [count_documents(name, arguments.kind) for name in arguments.files]
    known = None if None in counts else sum(count or 0 for count in counts)
    limits = [number for number in (known, arguments.limit) if number is not None]
    return min(limits, default=None)


@contextmanager
def _written(path: str | None) -> Iterator[Write]:
    """Yield what writes a record as a line of a file, at once; without a file it does nothing."""
    if path is None:
        yield lambda _: None
        return
    with Path(path).open("w", encoding="utf-8") as file:

        def write(record: Mapping[str, Any]) -> None:
            try:
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
                file.flush()
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error

        yield write


def _record(result: Result) -> dict[str, Any]:
    """Return what a document came to, as JSON."""
    if result.score is None:
        return {"document": result.name} | ({"tokens": 0} if result.error is None else {"error": str(result.error)})
    nats = -result.logprob / result.tokens if result.tokens else None
    one = Tally()
    one.add(result)
    summary = one.summary()
    return {
        "document": result.name,
        "tokens": result.tokens,
        "impossible_tokens": result.impossible_tokens,
        "bytes": result.score.bytes,
        "logprob": result.logprob,
        "standard_error": result.standard_error,
        "nats_per_token": nats,
        "bits_per_byte": summary.bits_per_byte,
        "perplexity": finite(summary.perplexity),
        "passes": result.score.passes,
    }


def _result(summary: Summary) -> dict[str, Any]:
    """Return the figures as JSON."""
    beside = {"perplexity": summary.perplexity, "perplexity_error": summary.perplexity_error}
    return {name: finite(value) for name, value in (asdict(summary) | beside).items()}


def _say_remarks(summary: Summary) -> None:
    """Say what a reader of the figures should know."""
    if summary.empty:
        say(f"{summary.empty} documents have no text, and count for nothing")
    if summary.impossible_tokens:
        say(
            f"the model cannot write {summary.impossible_tokens} tokens, which makes their texts impossible: "
            "the figures leave these tokens out"
        )
    if summary.failed:
        say(f"{summary.failed} of {summary.documents + summary.empty + summary.failed} documents failed")


def _rows(summary: Summary, how: Mapping[str, Any]) -> list[Sequence[str]]:
    """Return the figures in words."""
    drawn = f", {how['samples']} samples a window" if how["samples"] else ""
    part = summary.sampling_error
    masks = f" (± {rounded(part, 2)} from the masks drawn)" if part is not None else ""
    return [
        ("method", f"{how['method']}{drawn}"),
        ("documents", f"{summary.documents:,}"),
        ("tokens", f"{summary.tokens:,}"),
        ("nats a token", f"{uncertain(summary.nats_per_token, summary.standard_error)}{masks}"),
        ("bits a byte", uncertain(summary.bits_per_byte, summary.bits_per_byte_error)),
        ("perplexity", uncertain(summary.perplexity, summary.perplexity_error)),
    ]
