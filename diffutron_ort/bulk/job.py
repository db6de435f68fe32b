"""A run over a file: read records, answer them, write them; and go on where a killed run has stopped."""

import hashlib
import json
import os
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from diffutron_ort._version import __version__
from diffutron_ort.bulk.answering import Answers, Outcome, Terms, window_size, windows
from diffutron_ort.bulk.encoding import check_output, encoding
from diffutron_ort.bulk.formats import CSV, Source, kind_of, open_source
from diffutron_ort.bulk.lines import count_lines
from diffutron_ort.bulk.output import INPUT, Output, open_output
from diffutron_ort.bulk.workers import Load, Pool, Work
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.errors import OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort.runtime.cpu import usable_threads
from diffutron_ort.signals import told_to_end

MOST_PROCESSES = 256


class State(NamedTuple):
    """How far a run is.

    Attributes:
        lines: Lines that are written, those of earlier runs included.
        failed: How many of them failed.
        resumed: Lines that earlier runs have written.
        total: Lines of the input; None if it is not known. A table whose cells have several lines has fewer rows.
    """

    lines: int
    failed: int
    resumed: int
    total: int | None


Report: TypeAlias = Callable[[State], object]
"""Called when a line has been answered."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done.

    Attributes:
        source: The input's path, or `-` for standard input.
        target: The output's, or `-`.
        kind: The input's format; None is the one that its name says.
        terms: What holds for all records.
        variant: Which of the bundle's variants answers; None is its default.
        loading: Other arguments of `Diffutron.from_pretrained`.
        processes: How many answer.
        restart: Whether to begin anew, whatever the output holds.
    """

    source: str
    target: str
    kind: str | None = None
    terms: Terms = field(default_factory=Terms)
    variant: str | None = None
    loading: dict[str, Any] = field(default_factory=dict)
    processes: int = 1
    restart: bool = False


def run(job: Job, find: Callable[[], Path], report: Report) -> State | None:
    """Do a job, or what is left of it.

    Args:
        job: What is to be done.
        find: Returns the bundle's folder; it is called when the input is known to be readable, and the output writable.
        report: Called as lines are answered.

    Returns:
        What was done; None if an earlier run had done it all.

    Raises:
        OptionError: A name or number of the job is not allowed.
        DiffutronError: The output belongs to something else, or the model cannot be run.
        OSError: A file cannot be read or written.
    """
    kind, target = kind_of(job.source, job.kind), kind_of(job.target)
    check_output(target, kind)
    _check(job)
    source = open_source(job.source, kind, job.terms.column)
    with told_to_end(), closing(open_output(job.target, restart=job.restart)) as output:
        if output.is_finished():
            return None
        folder = find()
        written = encoding(target, source.format)
        output.begin(_identity(job, folder), written.begin)
        state = State(*output.done[:2], output.done.lines, _total(job, kind))
        with closing(_outcomes(job, folder, source, output)) as outcomes:
            for outcome in outcomes:
                output.put(written.line(outcome.record), failed=outcome.failed)
                state = state._replace(lines=state.lines + 1, failed=state.failed + outcome.failed)
                report(state)
        output.finish()
    return state


def _check(job: Job) -> None:
    if not 1 <= job.processes <= MOST_PROCESSES:
        raise OptionError(f"processes={job.processes}: must be an integer from 1 to {MOST_PROCESSES}")
    with suppress(FileNotFoundError):
        if Path(job.source).samefile(job.target):
            raise OptionError(f"{job.target} is the input and the output: give the output another name")


def _outcomes(job: Job, folder: Path, source: Source, output: Output) -> Generator[Outcome, None, None]:
    """Yield the outcomes of the rows that are not in the output yet."""
    start = output.done.lines
    rows = islice(source.rows, start, None)
    load = _load(job, folder)
    if job.processes > 1:
        with Pool(Work(load, job.terms, source.format), job.processes) as pool:
            yield from pool.answers(rows, start)
        return
    model = load()
    model.config(job.terms.preset, **job.terms.options)
    lines = (source.format.read(number, row) for number, row in enumerate(rows, start))
    yield from Answers(model, job.terms, windows(lines, window_size(model)))


def _load(job: Job, folder: Path) -> Load:
    """Return what loads the model; processes share the processors."""
    threads = job.loading.get("threads")
    if threads is None and job.processes > 1:
        threads = max(1, usable_threads() // job.processes)
    return partial(Diffutron.from_pretrained, folder, variant=job.variant, **{**job.loading, "threads": threads})


def _identity(job: Job, folder: Path) -> dict[str, Any]:
    """Return all that the output depends on, as JSON: it is compared when a run goes on."""
    bundle = load_bundle(folder, variant=job.variant)
    terms = job.terms
    identity = {
        "version": __version__,
        "model": hashlib.sha256((bundle.folder / MANIFEST).read_bytes()).hexdigest()[:16],
        "variant": job.variant or bundle.default_variant,
        "column": terms.column,
        "template": terms.template,
        "preset": terms.preset,
        **terms.options,
        "format": kind_of(job.source, job.kind),
        INPUT: _state_of_input(job),
    }
    found: dict[str, Any] = json.loads(json.dumps(identity))
    return found


def _state_of_input(job: Job) -> dict[str, int]:
    """Return what changes when the input does; a stream is never the same again."""
    if not Path(job.source).is_file():
        return {"stream of process": os.getpid()}
    found = Path(job.source).stat()
    return {"size": found.st_size, "modified": found.st_mtime_ns}


def _total(job: Job, kind: str) -> int | None:
    lines = count_lines(job.source)
    return None if lines is None else lines - (kind == CSV)
