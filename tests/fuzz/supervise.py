"""Runs mutants in another process, which may crash, hang or fill its memory."""

import contextlib
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from random import Random
from typing import NamedTuple

SECONDS = 10.0  # that a mutant may take
PREPARATION = 300.0  # and a process to begin
BYTES = 2 * 2**30  # of memory that it may take


class Target(NamedTuple):
    """What is fed with mutants.

    Attributes:
        name: As the command line has it.
        seeds: The files that are mutated.
        mutate: Makes a mutant of one.
        prepare: Returns what a mutant is handed to, in the process that runs it.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    mutate: Callable[[bytes, Random], bytes]
    prepare: Callable[[], Callable[[bytes], object]]


class Failure(NamedTuple):
    """What must not happen."""

    target: str
    seed: int
    number: int
    what: str


def mutant(target: Target, seed: int, number: int) -> bytes:
    """Return the mutant of that number, always the same; number 0 and following are the seeds themselves."""
    seeds = target.seeds()
    if number < len(seeds):
        return seeds[number]
    random = Random(f"{target.name} {seed} {number}")
    return target.mutate(random.choice(seeds), random)


def fuzz(
    target: Target, seed: int, *, seconds: float, most: int = 10**9, patience: float = SECONDS
) -> Iterator[int | Failure]:
    """Yield the number of each mutant that fared as it should, and a `Failure` for each that did not.

    What a process takes to import and open what it needs is not of these seconds.
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
    """Yield what a worker says of each mutant, until one fails or the time is over."""
    while time.monotonic() < until and number < most:
        if not pipe.poll(patience):
            yield Failure(target.name, seed, number, f"it takes more than {patience:g} seconds")
            return
        try:
            said = pipe.recv()
        except EOFError:
            yield Failure(target.name, seed, number, "the process died")
            return
        if said is not None:
            yield Failure(target.name, seed, number, said)
            return
        yield number
        number += 1


@contextlib.contextmanager
def _worker(target: Target, seed: int, number: int) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(target, seed, number, there), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.kill()
        process.join()


def _work(target: Target, seed: int, number: int, pipe: Connection) -> None:
    """Try one mutant after another, and say of each what was wrong, None if nothing was."""
    run = target.prepare()
    _limit_memory()
    pipe.send(None)
    while True:
        pipe.send(outcome(run, mutant(target, seed, number)))
        number += 1


def outcome(run: Callable[[bytes], object], content: bytes) -> str | None:
    """Return what is wrong with how a mutant is met; None where it is accepted, or refused by an error of ours."""
    from diffutron_ort.errors import DiffutronError

    try:
        run(content)
    except DiffutronError:
        return None
    except BaseException:  # a Rust panic is one, too
        return traceback.format_exc()
    return None


def _limit_memory() -> None:
    import resource
    from pathlib import Path

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
