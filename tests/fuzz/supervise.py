"""Run mutants in another process, which may crash, hang or exhaust its memory."""

import contextlib
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from random import Random
from typing import NamedTuple

SECONDS = 10.0  # time limit of a mutant
PREPARATION = 300.0  # time limit, in seconds, for a process to start
BYTES = 2 * 2**30  # memory limit of a mutant


class Target(NamedTuple):
    """A reader of files to fuzz.

    Attributes:
        name: Its name on the command line.
        seeds: Returns the files to mutate.
        mutate: Makes a mutant of a file.
        prepare: Returns the function that a mutant is passed to; called in the process that runs the mutants.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    mutate: Callable[[bytes, Random], bytes]
    prepare: Callable[[], Callable[[bytes], object]]


class Failure(NamedTuple):
    """A mutant that was neither accepted nor properly refused."""

    target: str
    seed: int
    number: int
    what: str


def mutant(target: Target, seed: int, number: int) -> bytes:
    """Return the mutant of a number, always the same; the first numbers are the seeds themselves."""
    seeds = target.seeds()
    if number < len(seeds):
        return seeds[number]
    random = Random(f"{target.name} {seed} {number}")
    return target.mutate(random.choice(seeds), random)


def fuzz(
    target: Target, seed: int, *, seconds: float, most: int = 10**9, patience: float = SECONDS
) -> Iterator[int | Failure]:
    """Yield the number of each mutant that passed, and a `Failure` for each that did not.

    The time that a process needs to start does not count towards `seconds`.
    """
    left, number = seconds, 0
    while left > 0 and number < most:
        with _worker(target, seed, number) as pipe:
            if not pipe.poll(PREPARATION) or pipe.recv() is not None:
                raise RuntimeError(f"{target.name} cannot be prepared")
            begun = time.monotonic()
            for outcome in _outcomes(pipe, target, seed, number, begun + left, most, patience):
                number += 1
                yield outcome
            left -= time.monotonic() - begun


def _outcomes(
    pipe: Connection, target: Target, seed: int, number: int, until: float, most: int, patience: float
) -> Iterator[int | Failure]:
    """Yield the outcome of each mutant from a worker, until one fails or the time is over."""
    while time.monotonic() < until and number < most:
        if not pipe.poll(patience):
            yield Failure(target.name, seed, number, f"it took more than {patience:g} seconds")
            return
        try:
            error = pipe.recv()
        except EOFError:
            yield Failure(target.name, seed, number, "the process died")
            return
        if error is not None:
            yield Failure(target.name, seed, number, error)
            return
        yield number
        number += 1


@contextlib.contextmanager
def _worker(target: Target, seed: int, number: int) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(target, seed, number, sender), daemon=True)
    process.start()
    sender.close()
    try:
        yield receiver
    finally:
        process.kill()
        process.join()


def _work(target: Target, seed: int, number: int, pipe: Connection) -> None:
    """Run one mutant after another, and send the outcome of each: an error's text, or None if it passed."""
    run = target.prepare()
    _limit_memory()
    pipe.send(None)
    while True:
        pipe.send(outcome(run, mutant(target, seed, number)))
        number += 1


def outcome(run: Callable[[bytes], object], content: bytes) -> str | None:
    """Return the traceback of a mutant's error; None if it was accepted, or refused with a `DiffutronError`."""
    from diffutron_ort.errors import DiffutronError

    try:
        run(content)
    except DiffutronError:
        return None
    except BaseException:  # includes a Rust panic
        return traceback.format_exc()
    return None


def _limit_memory() -> None:
    import resource
    from pathlib import Path

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
