"""Work that takes several passes: whoever runs it can do something else between two of them."""

from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

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
    while True:
        try:
            done = next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
        report(done)


def part(work: Work[Result], begin: float, end: float) -> Work[Result]:
    """Do a work that is a part of another, from the share `begin` of it to the share `end`."""
    while True:
        try:
            done = next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        yield begin + (end - begin) * done
