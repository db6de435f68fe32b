"""Work that takes several passes: whoever runs it can do something else between two of them."""

from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeAlias, TypeVar

Result = TypeVar("Result")

Work: TypeAlias = Generator[float, None, Result]
"""Runs one pass of the model at a time; after each, it yields how much of the work is done, from 0 to 1.

Its result is what it returns. One that calls another passes its share on with `part`.
"""


def finished(work: Work[Result], report: Callable[[float], object] = lambda _: None) -> Result:
    """Do all of a work, and return its result.

    Args:
        work: The work.
        report: Called after each pass, with how much of the work is done, from 0 to 1.
    """
    running = _Running(work)
    for done in running:
        report(done)
    return running.result


def only(work: Work[list[Result]]) -> Work[Result]:
    """Do a work whose result is a list of one, and return this one."""
    [result] = yield from work
    return result


def part(work: Work[Result], begin: float, end: float) -> Work[Result]:
    """Do a work that is a part of another, from the share `begin` of it to the share `end`."""
    running = _Running(work)
    for done in running:
        yield begin + (end - begin) * done
    return running.result


class _Running(Generic[Result]):
    """A work to iterate over.

    Attributes:
        result: What it came to, once it is done.
    """

    result: Result

    def __init__(self, work: Work[Result]) -> None:
        self._work = work

    def __iter__(self) -> Iterator[float]:
        self.result = yield from self._work
