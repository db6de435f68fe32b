"""The files of `perplexity`: the documents that it reads, and what it writes of each."""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from diffutron_ort.bulk.lines import STREAM
from diffutron_ort.cli.figures import finite
from diffutron_ort.cli.writing import as_json, check_writable
from diffutron_ort.errors import DiffutronError, OptionError
from diffutron_ort.perplexity.documents import Document, count_documents, open_documents, unreadable
from diffutron_ort.perplexity.result import Result
from diffutron_ort.perplexity.summary import Summary, summarised

Write: TypeAlias = Callable[[Mapping[str, Any]], object]


def check_files(arguments: argparse.Namespace) -> None:
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
        _check_output(arguments.output, [*arguments.files, *filter(None, [arguments.against])])


def _check_output(output: str, files: Sequence[str]) -> None:
    if output == STREAM or _is_standard_output(output):
        raise OptionError(f"--output {output}: standard output gets the figures; name a file for the documents")
    for name in files:
        with suppress(OSError):
            if Path(name).samefile(output):
                raise OptionError(f"{output} is read and written: give the output another name")
    check_writable(output)


def _is_standard_output(path: str) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(1))  # noqa: PTH116 - beside fstat
    return False


def documents_of(arguments: argparse.Namespace) -> Iterator[Document]:
    """Yield the documents of all files; a file that cannot be opened any more is one that failed."""
    for name in arguments.files:
        try:
            yield from open_documents(name, arguments.kind, arguments.field)
        except (DiffutronError, OSError) as error:
            yield unreadable(name, error)


def total_of(arguments: argparse.Namespace) -> int | None:
    """Return how many documents there are at most, if that is known."""
    counts = [count_documents(name, arguments.kind) for name in arguments.files]
    known = None if None in counts else sum(count or 0 for count in counts)
    limits = [number for number in (known, arguments.limit) if number is not None]
    return min(limits, default=None)


@contextmanager
def written(path: str | None) -> Iterator[Write]:
    """Yield a function that writes a record as a line of a file at once; without a file, it does nothing."""
    if path is None:
        yield lambda _: None
        return
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        yield lambda record: _write(file, f"{as_json(record)}\n".encode("utf-8", "backslashreplace"), path)
    finally:
        os.close(file)


def _write(file: int, content: bytes, name: str) -> None:
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error


def record(result: Result, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a document as JSON, and what its masks were drawn with."""
    if result.score is None:
        return {"document": result.name} | ({"tokens": 0} if result.error is None else {"error": str(result.error)})
    summary = summarised([result])
    return {
        "document": result.name,
        "method": result.score.method,
        **drawn,
        "tokens": result.tokens,
        "impossible_tokens": result.impossible_tokens,
        "bytes": result.score.bytes,
        "logprob": result.logprob,
        "standard_error": result.standard_error,
        "nats_per_token": summary.nats_per_token,
        "bits_per_byte": summary.bits_per_byte,
        "perplexity": finite(summary.perplexity),
        "passes": result.score.passes,
    }


def recorded(summary: Summary) -> dict[str, Any]:
    """Return the figures as JSON."""
    beside = {"perplexity": summary.perplexity, "perplexity_error": summary.perplexity_error}
    return {name: finite(value) for name, value in (asdict(summary) | beside).items()}
